//! Where requests are sent.

use http::{HeaderValue, Uri};
use std::sync::Arc;
use url::{Host, Url};

/// Where requests are sent; made once for each hook.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) origin: Arc<Origin>,
    /// The path and the query of the URL, as a request line has them.
    pub(super) path: Uri,
    host: HeaderValue,
}

/// What connections can be shared for: requests to the same origin use each other's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) tls: bool,
    /// IP literals in every spelling are addresses here: the URL parser has normalised `0x7f.1`
    /// and its like.
    pub(super) host: Host<String>,
    pub(super) port: u16,
    pub(super) names: HeaderNames,
}

/// How the names of headers are written. HTTP takes both for the same; some receivers do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HeaderNames {
    /// `content-type`.
    #[default]
    LowerCase,
    /// `Content-Type`: the first letter and each letter after a hyphen are capitals.
    TitleCase,
}

impl Target {
    /// The target that `url` names; `None` when it cannot be sent to.
    pub fn of(url: &Url) -> Option<Self> {
        let uri: Uri = url.as_str().parse().ok()?;
        let host = url.host_str()?;
        let host = match url.port() {
            Some(port) => HeaderValue::try_from(format!("{host}:{port}")),
            None => HeaderValue::from_str(host),
        };
        Some(Self {
            origin: Arc::new(Origin {
                tls: match url.scheme() {
                    "https" => true,
                    "http" => false,
                    _ => return None,
                },
                host: url.host()?.to_owned(),
                port: url.port_or_known_default()?,
                names: HeaderNames::default(),
            }),
            path: uri.into_parts().path_and_query?.into(),
            host: host.ok()?,
        })
    }

    /// The same target, with the names of headers written so.
    #[must_use]
    pub fn naming(mut self, names: HeaderNames) -> Self {
        Arc::make_mut(&mut self.origin).names = names;
        self
    }

    /// The value of the header `host`.
    pub fn host(&self) -> HeaderValue {
        self.host.clone()
    }
}
