//! Makes one HTTP exchange, bounded in every direction.
//!
//! Redirects are not followed, no proxy is taken from the environment, the whole exchange has
//! one deadline, and at most [`EXCERPT_MAX_BYTES`] of the response are kept. Compression is
//! neither requested nor undone, so a body is never larger than the bytes received. An exchange
//! that ends early closes its connection. Every address is checked by the guard when a connection
//! to it is made.
//!
//! A receiver that has sent a status has answered: whatever becomes of the rest, it counts.

mod address_race;
mod connection;
mod dialer;
mod pool;
mod status_line;
mod stream;
mod target;
mod tls;

use crate::address::{AddressGuard, BlockedAddress};
use crate::guarded_names::GuardedNames;
use crate::local_fault::LocalFault;
use crate::names::Names;
use bytes::Bytes;
use connection::{BoxError, Connection, Unanswered};
use dialer::Dialer;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use pool::Pool;
use postrider_core::{EXCERPT_MAX_BYTES, monotonic_now};
use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use target::Origin;

pub use pool::IDLE_MAX;
pub use target::{HeaderNames, Target};

/// How much of a response is read so that its connection can be used again. The part beyond
/// [`EXCERPT_MAX_BYTES`] is dropped, and the connection of a longer response is closed.
const DRAIN_MAX_BYTES: usize = 64 * 1024;

/// What was being done when an exchange failed, and why it did.
type Failure = (&'static str, BoxError);

/// The HTTP client of a worker.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Arc<Pool>,
    dialer: Arc<Dialer>,
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

/// The result of a request.
#[derive(Debug)]
pub enum Exchange {
    /// The receiver has sent a status.
    Answered {
        /// As received; redirects are not followed.
        status: StatusCode,
        /// As received; those that are malformed are left out.
        headers: HeaderMap,
        /// The beginning of the body, as far as it was received.
        excerpt: Vec<u8>,
    },
    /// The deadline passed before the headers of an answer had come.
    TimedOut,
    /// No answer.
    Unreachable {
        /// The error as text, without the URL.
        reason: String,
    },
    /// The address must not be called; no connection was made.
    Blocked(IpAddr),
    /// The request could not be tried on this machine.
    NotTried(LocalFault),
}

/// What is known of an exchange while it is made, and remains when the deadline cuts it.
#[derive(Debug, Default)]
struct Progress {
    /// Whether the connection in use had been used before.
    reused: bool,
    head: Option<(StatusCode, HeaderMap)>,
    /// The beginning of the body.
    excerpt: Vec<u8>,
}

impl Client {
    /// A client that calls only the addresses that `guard` allows, and finds them by `names`.
    ///
    /// # Errors
    /// When TLS cannot be set up: the system has no certificate store.
    pub fn new(guard: AddressGuard, names: Names) -> io::Result<Self> {
        Ok(Self {
            pool: Pool::new(IDLE_MAX),
            dialer: Arc::new(Dialer::new(GuardedNames { guard, names })?),
        })
    }

    /// Makes one exchange. Never fails: whatever happens is an [`Exchange`].
    ///
    /// The request is sent twice only when the first connection had been used before and broke
    /// before a byte of the answer came.
    pub async fn send(&self, request: Request) -> Exchange {
        let begun = monotonic_now();
        let origin = request.target.origin.clone();
        let mut progress = Progress::default();
        let timeout = request.timeout;
        let exchange = self.exchange(request, begun, &mut progress);
        let ended = tokio::time::timeout(timeout, exchange).await;
        let reused = progress.reused;
        match (progress.head, ended) {
            (Some((status, headers)), _) => Exchange::Answered {
                status,
                headers,
                excerpt: progress.excerpt,
            },
            (None, Ok(Err((stage, error)))) => {
                let failed = failed(stage, error.as_ref());
                if let Exchange::NotTried(LocalFault::Descriptors) = failed {
                    self.pool.clear();
                }
                failed
            }
            (None, Err(_) | Ok(Ok(()))) => {
                if reused {
                    // Connections fall silent together, when a network forgets them.
                    self.pool
                        .close(&origin, |_, idle_since| idle_since <= begun);
                }
                Exchange::TimedOut
            }
        }
    }

    async fn exchange(
        &self,
        request: Request,
        begun: Instant,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let (origin, message) = message(request);
        let reused = self.pool.take(&origin, begun);
        progress.reused = reused.is_some();
        if let Some(connection) = reused {
            let answered = self.exchange_on(connection, &origin, message.clone(), progress);
            match answered.await {
                Err(Unanswered::Repeatable) => {}
                ended => return ended.map_err(request_failed),
            }
            progress.reused = false;
        }
        let connection = self.dialer.connect(&origin).await;
        let connection = connection.map_err(|error| ("could not connect", error))?;
        self.exchange_on(connection, &origin, message, progress)
            .await
            .map_err(request_failed)
    }

    /// Makes an exchange over this connection, and keeps the connection if it can be used again.
    async fn exchange_on(
        &self,
        mut connection: Connection,
        origin: &Arc<Origin>,
        message: http::Request<Full<Bytes>>,
        progress: &mut Progress,
    ) -> Result<(), Unanswered> {
        let answer = match connection.send(message).await {
            Ok(answer) => answer,
            Err(Unanswered::Malformed(status)) => {
                progress.head = Some((status, HeaderMap::new()));
                return Ok(());
            }
            Err(unanswered) => return Err(unanswered),
        };
        let (head, body) = answer.into_parts();
        let status = head.status;
        progress.head = Some((status, head.headers));
        let is_whole = read_excerpt(body, &mut progress.excerpt).await;
        if is_whole && connection.is_settled().await {
            self.keep(connection, origin, status);
        }
        Ok(())
    }

    /// Keeps a connection after an answer with this status. After an answer other than 2xx the name
    /// may have moved elsewhere: connections that were made a while ago are not used again.
    fn keep(&self, connection: Connection, origin: &Arc<Origin>, status: StatusCode) {
        let now = monotonic_now();
        let is_suspect = |connection: &Connection| match status {
            StatusCode::MISDIRECTED_REQUEST => true,
            _ => !status.is_success() && connection.is_old_after_refusal(now),
        };
        if !status.is_success() {
            self.pool
                .close(origin, |connection, _| is_suspect(connection));
        }
        match connection.is_old(now) || is_suspect(&connection) {
            true => connection.close(),
            false => self.pool.put(origin, connection, now),
        }
    }
}

/// The message of a request, as it goes over a connection to its origin.
fn message(request: Request) -> (Arc<Origin>, http::Request<Full<Bytes>>) {
    let host = request.target.host();
    let mut message = http::Request::new(Full::new(request.body));
    *message.method_mut() = Method::POST;
    *message.uri_mut() = request.target.path;
    *message.headers_mut() = request.headers;
    let headers = message.headers_mut();
    headers.insert(header::ACCEPT_ENCODING, IDENTITY);
    headers
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static(USER_AGENT));
    headers.entry(header::HOST).or_insert(host);
    (request.target.origin, message)
}

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
/// The `User-Agent` of requests that have no other.
pub const USER_AGENT: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));

/// Reads a body to its end or to [`DRAIN_MAX_BYTES`], and keeps its beginning. Returns whether the
/// end has come.
async fn read_excerpt(mut body: Incoming, excerpt: &mut Vec<u8>) -> bool {
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let wanted = EXCERPT_MAX_BYTES.saturating_sub(excerpt.len());
        excerpt.extend_from_slice(&data[..data.len().min(wanted)]);
        received += data.len();
        if received > DRAIN_MAX_BYTES {
            return false;
        }
    }
    true
}

fn request_failed(unanswered: Unanswered) -> Failure {
    let error = match unanswered {
        Unanswered::Broken(error) => error,
        // Dealt with before.
        Unanswered::Repeatable | Unanswered::Malformed(_) => "the connection was closed".into(),
    };
    ("the request failed", error)
}

/// Turns a failed exchange into a value. A refusal of the guard and a local fault are found
/// inside the error.
fn failed(stage: &str, error: &(dyn StdError + 'static)) -> Exchange {
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
            failed("could not connect", &error)
        };
        let ours = exchange(libc::EMFILE);
        assert!(
            matches!(ours, Exchange::NotTried(LocalFault::Descriptors)),
            "{ours:?}"
        );
        let theirs = exchange(libc::ECONNREFUSED);
        let Exchange::Unreachable { reason } = theirs else {
            panic!("{theirs:?}");
        };
        assert!(
            reason.starts_with("could not connect: Connection refused"),
            "{reason}"
        );
    }
}
