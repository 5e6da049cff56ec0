//! The configuration section `[misskey]`.

use super::server::MisskeyServer;
use serde::{Deserialize, Serialize};
use url::Url;

/// The section `[misskey]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MisskeySettings {
    /// URL of the server, as receivers see it in `server` of the body and in `X-Misskey-Host`; if
    /// `None`, the address of the API.
    pub server_url: Option<String>,
    /// The most hooks of one account, at least 1.
    pub webhook_limit: u32,
}

impl Default for MisskeySettings {
    fn default() -> Self {
        Self {
            server_url: None,
            webhook_limit: 3,
        }
    }
}

impl MisskeySettings {
    /// The server that receivers see; `listen` is the address of the API.
    pub(super) fn server(&self, listen: &str) -> MisskeyServer {
        let server = self.server_url.clone();
        let server = server.unwrap_or_else(|| format!("http://{listen}"));
        MisskeyServer::of(&server).unwrap_or_default()
    }

    /// Checks the values.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.webhook_limit == 0 {
            return Err("misskey.webhook_limit must be at least 1".into());
        }
        let is_web_url =
            |text: &str| Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        match &self.server_url {
            Some(text) if !is_web_url(text) => Err(format!(
                "misskey.server_url {text:?} is not a URL: write it as https://host"
            )),
            _ => Ok(()),
        }
    }
}
