//! What single profiles are configured with, from sections of their own.

use std::time::Duration;
use url::Url;

/// What single profiles are configured with. `Default` has what holds where nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileOptions {
    /// The section `[misskey]`.
    pub misskey: MisskeyOptions,
    /// The section `[solapi]`.
    pub solapi: SolapiOptions,
}

impl ProfileOptions {
    /// Whether any hook can get several events in one request.
    pub(crate) fn any_batches(&self) -> bool {
        !self.solapi.batch_window.is_zero()
    }
}

/// How reports go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SolapiOptions {
    /// How long a report waits for others; zero, and each goes by itself.
    pub batch_window: Duration,
}

/// Which server receivers of the profile `misskey` are told that they hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MisskeyOptions {
    /// Its URL, as it stands in bodies.
    pub server: String,
    /// Its host, with the port where that is not the scheme's own, as it stands in headers.
    pub host: String,
}

impl MisskeyOptions {
    /// The server of this URL; `None` when it has no host.
    pub fn of(server: &str) -> Option<Self> {
        let url = Url::parse(server).ok()?;
        let host = url.host_str()?;
        Some(Self {
            server: server.trim_end_matches('/').to_owned(),
            host: match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            },
        })
    }
}

impl Default for MisskeyOptions {
    fn default() -> Self {
        Self {
            server: "http://localhost".into(),
            host: "localhost".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_host_in_headers() {
        for (url, server, host) in [
            ("https://mi.example", "https://mi.example", "mi.example"),
            (
                "https://mi.example:443/",
                "https://mi.example:443",
                "mi.example",
            ),
            ("http://[::1]:3000", "http://[::1]:3000", "[::1]:3000"),
        ] {
            let options = MisskeyOptions::of(url).unwrap();
            assert_eq!(
                (options.server.as_str(), options.host.as_str()),
                (server, host)
            );
        }
        assert_eq!(MisskeyOptions::of("mi.example"), None);
    }
}
