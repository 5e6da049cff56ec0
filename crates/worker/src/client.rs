//! Makes one HTTP exchange, bounded in every direction.
//!
//! Redirects are not followed, no proxy is taken from the environment, the whole exchange has
//! one deadline, and at most [`EXCERPT_MAX_BYTES`] of the response are kept. The address guard
//! sits where addresses are made: in the resolver for names, and before the request for IP
//! literals, which the connector never gives to a resolver.

use crate::address::{AddressGuard, BlockedAddress};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use postrider_core::EXCERPT_MAX_BYTES;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// Idle connections kept for a host: what a hook's cap can have in flight.
const IDLE_PER_HOST: usize = 64;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How much more of a response is read, and dropped, so that its connection can be used again.
const DRAIN_MAX_BYTES: usize = 64 * 1024;

/// The HTTP client of a worker.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    guard: Arc<AddressGuard>,
}

/// A request that is ready to go.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to.
    pub url: Url,
    /// Every header but those HTTP itself sets.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The deadline of the whole exchange.
    pub timeout: Duration,
}

/// What came back.
#[derive(Debug)]
pub enum Exchange {
    /// A whole response, or its beginning where it was too long.
    Answered {
        /// The status.
        status: StatusCode,
        /// The headers.
        headers: HeaderMap,
        /// The beginning of the body.
        excerpt: Vec<u8>,
    },
    /// The deadline passed; what had been received by then.
    TimedOut {
        /// The beginning of the body.
        excerpt: Vec<u8>,
    },
    /// No response, or only a part of one.
    Unreachable {
        /// Why, in words, without the URL.
        reason: String,
        /// The beginning of the body.
        excerpt: Vec<u8>,
    },
    /// The address must not be called; no connection was made.
    Blocked(IpAddr),
}

impl Client {
    /// A client that calls only what `guard` lets through.
    ///
    /// # Errors
    /// When TLS cannot be set up: the system has no certificate store.
    pub fn new(guard: AddressGuard) -> Result<Self, reqwest::Error> {
        let guard = Arc::new(guard);
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("Postrider/", env!("CARGO_PKG_VERSION")))
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .dns_resolver(GuardedResolver(guard.clone()))
            .build()?;
        Ok(Self { http, guard })
    }

    /// Makes one exchange. Never fails: whatever happens is an [`Exchange`].
    pub async fn send(&self, request: Request) -> Exchange {
        if let Some(address) = literal_address(&request.url)
            && let Err(BlockedAddress(address)) = self.guard.check(address)
        {
            return Exchange::Blocked(address);
        }
        let mut excerpt = Vec::new();
        let exchange = self.exchange(request.url, request.headers, request.body, &mut excerpt);
        match tokio::time::timeout(request.timeout, exchange).await {
            Err(_elapsed) => Exchange::TimedOut { excerpt },
            Ok(Ok((status, headers))) => Exchange::Answered {
                status,
                headers,
                excerpt,
            },
            Ok(Err(error)) => failed(&error, excerpt),
        }
    }

    async fn exchange(
        &self,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
        excerpt: &mut Vec<u8>,
    ) -> Result<(StatusCode, HeaderMap), reqwest::Error> {
        let mut response = self
            .http
            .post(url)
            .headers(headers)
            .header(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            )
            .body(body)
            .send()
            .await?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut received = 0;
        while let Some(chunk) = response.chunk().await? {
            let wanted = EXCERPT_MAX_BYTES.saturating_sub(excerpt.len());
            excerpt.extend_from_slice(&chunk[..chunk.len().min(wanted)]);
            received += chunk.len();
            if received > DRAIN_MAX_BYTES {
                break;
            }
        }
        Ok((status, headers))
    }
}

/// Turns a failed exchange into a value; finds the guard's refusal inside it.
fn failed(error: &reqwest::Error, excerpt: Vec<u8>) -> Exchange {
    let mut deepest: &dyn std::error::Error = error;
    loop {
        if let Some(BlockedAddress(address)) = deepest.downcast_ref() {
            return Exchange::Blocked(*address);
        }
        match deepest.source() {
            Some(source) => deepest = source,
            None => break,
        }
    }
    let stage = match () {
        () if error.is_connect() => "could not connect",
        () if error.is_body() || error.is_decode() => "the response broke off",
        () => "the request failed",
    };
    Exchange::Unreachable {
        reason: format!("{stage}: {deepest}"),
        excerpt,
    }
}

/// The address of a URL whose host is an IP literal in any spelling: the URL parser has
/// normalised `0x7f.1` and its like.
fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        _ => None,
    }
}

/// The system's resolver, with the addresses that must not be called taken out. A name that
/// has no others is blocked. Because the connector uses just these addresses, a name cannot
/// change its mind between check and connection.
#[derive(Debug)]
struct GuardedResolver(Arc<AddressGuard>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let mut blocked = None;
            let mut open = Vec::new();
            for address in tokio::net::lookup_host((name.as_str(), 0)).await? {
                match guard.check(address.ip()) {
                    Ok(()) => open.push(address),
                    Err(refusal) => blocked = Some(refusal),
                }
            }
            match (open.is_empty(), blocked) {
                (true, Some(refusal)) => Err(refusal.into()),
                _ => Ok(Box::new(open.into_iter()) as Addrs),
            }
        })
    }
}
