//! A caller of the API.

use crate::http::{Reply, exchange};
use crate::{Postrider, Process};
use serde_json::Value;
use std::io;

/// A caller with a key.
#[derive(Clone, Debug)]
pub struct Caller {
    address: String,
    token: String,
}

impl Caller {
    /// A caller of the API that `serving` opened, with this token.
    pub async fn of(serving: &Process, token: impl Into<String>) -> Self {
        Self {
            address: serving.address_of("api").await,
            token: token.into(),
        }
    }

    /// The same with a new key that may publish to every account.
    pub async fn publishing(postrider: &Postrider, serving: &Process) -> Self {
        let key = postrider.json(&["key", "create", "--scope", "publish"]);
        let token = key.await["token"].as_str().expect("a token").to_owned();
        Self::of(serving, token).await
    }

    /// The same with a new key of this scope, in one account or in all.
    pub async fn with_scope(
        postrider: &Postrider,
        serving: &Process,
        scope: &str,
        account: Option<&str>,
    ) -> Self {
        let mut arguments = vec!["key", "create", "--scope", scope];
        arguments.extend(
            account
                .into_iter()
                .flat_map(|account| ["--account", account]),
        );
        let key = postrider.json(&arguments).await;
        Self::of(serving, key["token"].as_str().expect("a token")).await
    }

    /// The answer to a call without a body.
    ///
    /// # Panics
    /// When there is none.
    pub async fn call(&self, method: &str, path: &str) -> Reply {
        self.exchange(method, path, &[], None).await
    }

    /// The answer to a call with a JSON body.
    ///
    /// # Panics
    /// When there is none.
    pub async fn call_with(&self, method: &str, path: &str, body: &Value) -> Reply {
        let body = body.to_string();
        self.exchange(method, path, &[], Some(&body)).await
    }

    /// The JSON of an answer that must have this status.
    ///
    /// # Panics
    /// When it has another one.
    pub async fn get(&self, path: &str) -> Value {
        let reply = self.call("GET", path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    /// The answer to a call with the caller's key, these headers and this JSON text.
    ///
    /// # Panics
    /// When there is none.
    pub async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Reply {
        let reply = self.try_exchange(method, path, headers, body).await;
        reply.unwrap_or_else(|error| panic!("no answer to {method} {path}: {error}"))
    }

    /// The same where there may be no answer.
    ///
    /// # Errors
    /// When the connection fails or ends before the whole answer came.
    pub async fn try_exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> io::Result<Reply> {
        let authorization = format!("Bearer {}", self.token);
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend(body.map(|_| ("content-type", "application/json")));
        all.extend(headers);
        self.send(method, path, &all, body.unwrap_or_default())
            .await
    }

    /// The token of the caller's key.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The answer to a body that is posted to `/v1/events`.
    ///
    /// # Panics
    /// When there is none.
    pub async fn publish(&self, body: &str) -> Reply {
        let reply = self.try_publish(body).await;
        reply.unwrap_or_else(|error| panic!("no answer to {body:.200}: {error}"))
    }

    /// The same where there may be no answer.
    ///
    /// # Errors
    /// When the connection fails or ends before the whole answer came.
    pub async fn try_publish(&self, body: &str) -> io::Result<Reply> {
        let authorization = format!("Bearer {}", self.token);
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        self.send("POST", "/v1/events", &headers, body).await
    }

    /// The answer to any request with these headers and no others of the caller's.
    ///
    /// # Errors
    /// When the connection fails or ends before the whole answer came.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> io::Result<Reply> {
        let mut request = format!("{method} {path} HTTP/1.0\r\nhost: {}\r\n", self.address);
        if !body.is_empty() || headers.iter().any(|(name, _)| *name == "content-type") {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body);
        exchange(&self.address, request.as_bytes()).await
    }

    /// The answer to a body whose length is not said before.
    ///
    /// # Errors
    /// When the connection fails or ends before the whole answer came.
    pub async fn publish_in_chunks(&self, body: &str) -> io::Result<Reply> {
        let mut request = format!(
            "POST /v1/events HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
             content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
            self.address, self.token
        );
        let (mut rest, mut chunk) = (body, 1_000);
        while !rest.is_empty() {
            chunk = chunk.min(rest.len());
            let (first, others) = rest.split_at(chunk);
            request.push_str(&format!("{chunk:x}\r\n{first}\r\n"));
            rest = others;
        }
        request.push_str("0\r\n\r\n");
        exchange(&self.address, request.as_bytes()).await
    }
}
