//! The server that receivers are told the webhooks come from.

use url::Url;

/// The server in bodies and headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MisskeyServer {
    /// Its URL, as it appears in bodies.
    pub(super) url: String,
    /// Its host, with the port unless it is the scheme's default, as it appears in headers.
    pub(super) host: String,
}

impl MisskeyServer {
    /// The server of this URL; `None` when it has no host.
    pub(super) fn of(server: &str) -> Option<Self> {
        let url = Url::parse(server).ok()?;
        let host = url.host_str()?;
        Some(Self {
            url: server.trim_end_matches('/').to_owned(),
            host: match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            },
        })
    }
}

impl Default for MisskeyServer {
    fn default() -> Self {
        Self {
            url: "http://localhost".into(),
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
            let named = MisskeyServer::of(url).unwrap();
            assert_eq!((named.url.as_str(), named.host.as_str()), (server, host));
        }
        assert_eq!(MisskeyServer::of("mi.example"), None);
    }
}
