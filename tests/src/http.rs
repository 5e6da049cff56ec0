//! Requests to what Postrider serves over HTTP, as they go over the wire.

use crate::receiver::PATIENCE;
use std::collections::BTreeMap;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is something else.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the body of {self:?}"))
    }

    /// The id of the event that was accepted.
    ///
    /// # Panics
    /// When it was not.
    pub fn accepted(&self) -> String {
        assert_eq!(self.status, 202, "{self:?}");
        let body = self.json();
        let id = body["id"].as_str().expect("an id");
        assert_eq!(self.body, format!("{{\"id\":\"{id}\"}}"));
        id.to_owned()
    }

    /// Checks that it is a refusal of this kind that says so.
    ///
    /// # Panics
    /// When it is something else.
    pub fn refused(&self, status: u16, kind: &str, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let content_type = self.header("content-type");
        assert_eq!(content_type, "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:postrider:problem:{kind}"));
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string(), "{problem}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(words), "no {words:?} in: {problem}");
    }

    /// A header's value; nothing if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What `address` answers to these bytes, which must be a request that ends its connection.
///
/// # Errors
/// When the connection fails or ends before the whole answer came.
///
/// # Panics
/// When there is no answer and no end.
pub(crate) async fn exchange(address: &str, request: &[u8]) -> io::Result<Reply> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await;
    let answer = answer.unwrap_or_else(|_| panic!("no answer from {address}"))?;
    whole(&answer, request.starts_with(b"HEAD "))
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, answer))
}

/// The status and the body that `GET path` gets from `address`.
///
/// # Panics
/// When there is no answer.
pub(crate) async fn get(address: &str, path: &str) -> (u16, String) {
    // HTTP 1.0: the answer ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    match exchange(address, request.as_bytes()).await {
        Ok(reply) => (reply.status, reply.body),
        Err(error) => panic!("{address}{path}: {error}"),
    }
}

/// An answer, if all of it is there; one to `HEAD` has no body.
fn whole(answer: &str, to_head: bool) -> Option<Reply> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = match headers.get("content-length") {
        Some(length) => length.parse().ok()?,
        None if status == 204 => 0,
        None => return None,
    };
    let expected = if to_head { 0 } else { length };
    (body.len() == expected).then(|| Reply {
        status,
        headers,
        body: body.to_owned(),
    })
}
