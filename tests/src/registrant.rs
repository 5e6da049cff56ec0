//! Registrants: callers of the APIs that Postrider serves for hooks of other systems.

use crate::http::{Reply, exchange};
use crate::{Postrider, Process};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use postrider_core::Timestamp;
use serde_json::Value;
use sha2::Sha256;
use std::sync::atomic::{AtomicU64, Ordering};

/// A registrant of one account, with a credential of its own.
#[derive(Clone, Debug)]
pub struct Registrant {
    address: String,
    /// What `key create` printed.
    pub credential: Value,
}

impl Registrant {
    /// A registrant with a new credential for this system.
    pub async fn of(postrider: &Postrider, serving: &Process, system: &str, account: &str) -> Self {
        Self::with(postrider, serving, system, account, &[]).await
    }

    /// The same, made with these arguments too.
    pub async fn with(
        postrider: &Postrider,
        serving: &Process,
        system: &str,
        account: &str,
        more: &[&str],
    ) -> Self {
        let create = ["key", "create", "--for", system, "--account", account];
        Self {
            credential: postrider.json(&[&create[..], more].concat()).await,
            address: serving.address_of("api").await,
        }
    }

    /// The same at another process.
    #[must_use]
    pub async fn at(&self, serving: &Process) -> Self {
        Self {
            address: serving.address_of("api").await,
            ..self.clone()
        }
    }

    /// Where the API is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A part of the credential.
    ///
    /// # Panics
    /// When it has none of that name.
    pub fn part(&self, name: &str) -> &str {
        let part = self.credential[name].as_str();
        part.unwrap_or_else(|| panic!("no {name} in {}", self.credential))
    }

    /// The header with which this caller proves who it is, new for each request.
    pub fn authorization(&self) -> String {
        match self.part("for") {
            "solapi" => self.signature(&now_outside().to_rfc3339()),
            "thulium" => {
                let pair = format!("{}:{}", self.part("user"), self.part("password"));
                format!("Basic {}", BASE64.encode(pair))
            }
            _ => format!("Bearer {}", self.part("token")),
        }
    }

    /// A header that signs this date, with a salt of its own.
    pub fn signature(&self, date: &str) -> String {
        static SALTS: AtomicU64 = AtomicU64::new(0);
        let number = SALTS.fetch_add(1, Ordering::Relaxed);
        let salt = format!("{:016x}{number:016x}", std::process::id());
        let secret = self.part("api_secret").as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key");
        mac.update(date.as_bytes());
        mac.update(salt.as_bytes());
        let signature: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let key = self.part("api_key");
        format!("HMAC-SHA256 apiKey={key}, date={date}, salt={salt}, signature={signature}")
    }

    /// The answer to a call with this JSON.
    ///
    /// # Panics
    /// When there is none.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Reply {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let authorization = self.authorization();
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        self.send(method, path, &headers, &body).await
    }

    /// The answer to any request with these headers and no others of the caller's.
    ///
    /// # Panics
    /// When there is none.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let (address, length) = (&self.address, body.len());
        let mut request =
            format!("{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {length}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body);
        let reply = exchange(address, request.as_bytes()).await;
        reply.unwrap_or_else(|error| panic!("no answer to {method} {path}: {error}"))
    }
}

/// The present moment as a registrant's own machine has it.
#[expect(
    clippy::disallowed_methods,
    reason = "a registrant is no part of Postrider and has a clock of its own"
)]
pub fn now_outside() -> Timestamp {
    chrono::Utc::now()
}
