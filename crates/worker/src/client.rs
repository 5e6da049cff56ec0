//! Makes one HTTP exchange, bounded in every direction.
//!
//! Redirects are not followed, no proxy is taken from the environment, the whole exchange has
//! one deadline, and at most [`EXCERPT_MAX_BYTES`] of the response are kept. Compression is
//! neither requested nor undone, so a body is never larger than the bytes received. An exchange
//! that ends early closes its connection. The address guard checks names in the resolver, and IP
//! literals before the request, because the connector never passes them to a resolver.

use crate::address::{AddressGuard, BlockedAddress};
use crate::guarded_names::GuardedNames;
use crate::local_fault::LocalFault;
use crate::names::Names;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use postrider_core::EXCERPT_MAX_BYTES;
use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// Idle connections kept for a host: as many as a hook has in flight by default.
const IDLE_PER_HOST: usize = 64;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How much of a response is read so that its connection can be used again. The part beyond
/// [`EXCERPT_MAX_BYTES`] is dropped, and the connection of a longer response is closed.
const DRAIN_MAX_BYTES: usize = 64 * 1024;

type Http = legacy::Client<HttpsConnector<HttpConnector<GuardedNames>>, Full<Bytes>>;
type BoxError = Box<dyn StdError + Send + Sync>;

/// The HTTP client of a worker.
#[derive(Clone, Debug)]
pub struct Client {
    http: Http,
    guard: Arc<AddressGuard>,
}

/// Where requests are sent; made once for each hook.
#[derive(Clone, Debug)]
pub struct Target {
    uri: Uri,
    /// The address, when the host is an IP literal in any spelling: the URL parser has
    /// normalised `0x7f.1` and its like, and the connector never asks a resolver for it.
    literal: Option<IpAddr>,
}

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it is sent.
    pub target: Target,
    /// Every header but those HTTP itself sets.
    pub headers: HeaderMap,
    /// Sent unchanged; its length is its `content-length`.
    pub body: Bytes,
    /// The deadline of the whole exchange.
    pub timeout: Duration,
}

impl Target {
    /// The target that `url` names; `None` when it cannot be sent to.
    pub fn of(url: &Url) -> Option<Self> {
        Some(Self {
            uri: url.as_str().parse().ok()?,
            literal: match url.host()? {
                Host::Ipv4(address) => Some(address.into()),
                Host::Ipv6(address) => Some(address.into()),
                Host::Domain(_) => None,
            },
        })
    }
}

/// The result of a request.
#[derive(Debug)]
pub enum Exchange {
    /// A whole response, or the beginning of one that was too long.
    Answered {
        /// As received; redirects are not followed.
        status: StatusCode,
        /// As received.
        headers: HeaderMap,
        /// The beginning of the body, as far as it was received.
        excerpt: Vec<u8>,
    },
    /// The deadline passed.
    TimedOut {
        /// The beginning of the body, as far as it was received.
        excerpt: Vec<u8>,
    },
    /// No response, or only a part of one.
    Unreachable {
        /// The error as text, without the URL.
        reason: String,
        /// The beginning of the body, as far as it was received.
        excerpt: Vec<u8>,
    },
    /// The address must not be called; no connection was made.
    Blocked(IpAddr),
    /// The request could not be tried on this machine.
    NotTried(LocalFault),
}

impl Client {
    /// A client that calls only the addresses that `guard` allows, and finds them by `names`.
    ///
    /// # Errors
    /// When TLS cannot be set up: the system has no certificate store.
    pub fn new(guard: AddressGuard, names: Names) -> io::Result<Self> {
        let guard = Arc::new(guard);
        let mut tcp = HttpConnector::new_with_resolver(GuardedNames {
            guard: guard.clone(),
            names,
        });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP_ALIVE));
        let tls = HttpsConnectorBuilder::new()
            .with_provider_and_platform_verifier(rustls::crypto::aws_lc_rs::default_provider())?
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .build(tls);
        Ok(Self { http, guard })
    }

    /// Makes one exchange. Never fails: whatever happens is an [`Exchange`].
    pub async fn send(&self, request: Request) -> Exchange {
        if let Some(address) = request.target.literal
            && let Err(BlockedAddress(address)) = self.guard.check(address)
        {
            return Exchange::Blocked(address);
        }
        let mut excerpt = Vec::new();
        let timeout = request.timeout;
        let exchange = self.exchange(request, &mut excerpt);
        match tokio::time::timeout(timeout, exchange).await {
            Err(_elapsed) => Exchange::TimedOut { excerpt },
            Ok(Ok((status, headers))) => Exchange::Answered {
                status,
                headers,
                excerpt,
            },
            Ok(Err((stage, error))) => failed(stage, error.as_ref(), excerpt),
        }
    }

    async fn exchange(
        &self,
        request: Request,
        excerpt: &mut Vec<u8>,
    ) -> Result<(StatusCode, HeaderMap), (&'static str, BoxError)> {
        let mut message = http::Request::new(Full::new(request.body));
        *message.method_mut() = Method::POST;
        *message.uri_mut() = request.target.uri;
        *message.headers_mut() = request.headers;
        let headers = message.headers_mut();
        headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        headers
            .entry(header::USER_AGENT)
            .or_insert(HeaderValue::from_static(USER_AGENT));
        let response = self.http.request(message).await.map_err(|error| {
            let stage = match error.is_connect() {
                true => "could not connect",
                false => "the request failed",
            };
            (stage, error.into())
        })?;
        let (head, body) = response.into_parts();
        read_excerpt(body, excerpt)
            .await
            .map_err(|error| ("the response broke off", error.into()))?;
        Ok((head.status, head.headers))
    }
}

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
/// The `User-Agent` of requests that have no other.
pub const USER_AGENT: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));

/// Reads a body to its end or to [`DRAIN_MAX_BYTES`], and keeps its beginning.
async fn read_excerpt(mut body: Incoming, excerpt: &mut Vec<u8>) -> Result<(), hyper::Error> {
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let wanted = EXCERPT_MAX_BYTES.saturating_sub(excerpt.len());
        excerpt.extend_from_slice(&data[..data.len().min(wanted)]);
        received += data.len();
        if received > DRAIN_MAX_BYTES {
            break;
        }
    }
    Ok(())
}

/// Turns a failed exchange into a value. A refusal of the guard and a local fault are found
/// inside the error.
fn failed(stage: &str, error: &(dyn StdError + 'static), excerpt: Vec<u8>) -> Exchange {
    let mut deepest = error;
    loop {
        if let Some(BlockedAddress(address)) = deepest.downcast_ref() {
            return Exchange::Blocked(*address);
        }
        let system = deepest.downcast_ref().and_then(LocalFault::of);
        if let Some(fault) = system.or(deepest.downcast_ref().copied()) {
            return Exchange::NotTried(fault);
        }
        match deepest.source() {
            Some(source) => deepest = source,
            None => break,
        }
    }
    Exchange::Unreachable {
        reason: format!("{stage}: {deepest}"),
        excerpt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_fault_is_found_however_deep() {
        #[derive(Debug, thiserror::Error)]
        #[error("outside")]
        struct Outside(#[source] io::Error);

        let exchange = |number| {
            let error = Outside(io::Error::from_raw_os_error(number));
            failed("could not connect", &error, Vec::new())
        };
        let ours = exchange(libc::EMFILE);
        assert!(
            matches!(ours, Exchange::NotTried(LocalFault::Descriptors)),
            "{ours:?}"
        );
        let theirs = exchange(libc::ECONNREFUSED);
        let Exchange::Unreachable { reason, .. } = theirs else {
            panic!("{theirs:?}");
        };
        assert!(
            reason.starts_with("could not connect: Connection refused"),
            "{reason}"
        );
    }
}
