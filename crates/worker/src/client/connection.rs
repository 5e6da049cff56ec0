//! One connection of HTTP/1.1.
//!
//! A receiver may close a connection at any time. A request that meets the closing of a connection
//! that was used before has failed for no reason of the receiver's; [`Unanswered::Repeatable`] tells
//! this case.

use super::status_line::{Overheard, StatusLine};
use super::stream::Stream;
use super::target::HeaderNames;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

/// A connection is used for at most this time, so that a name that has moved is followed.
const AGE_MAX: Duration = Duration::from_secs(60);
/// Connections that were made together do not all end together, but within this time.
const AGE_SPREAD_SECONDS: u32 = 15;
/// After an answer other than 2xx a connection is used for at most this time: what answers so may be
/// the place from which the name has moved away.
const AGE_MAX_REFUSED: Duration = Duration::from_secs(10);
/// How long the end of an exchange is waited for when its answer has been read. A receiver that
/// answers before it has read the request may leave the rest unread for ever.
const SETTLED_WITHIN: Duration = Duration::from_millis(250);

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// An open connection. Dropped, it is closed at once.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// The task that reads and writes.
    driver: AbortOnDropHandle<()>,
    status_line: StatusLine,
    made: Instant,
    age_max: Duration,
    /// Whether it has carried a request.
    used: bool,
}

/// A request without an answer that can be read.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The connection had been used before, and broke before a byte of the answer came.
    Repeatable,
    /// The answer cannot be parsed, but begins with this status.
    Malformed(StatusCode),
    /// The connection broke.
    Broken(BoxError),
}

impl Connection {
    /// Makes a connection of HTTP/1.1 of a stream that was just opened.
    ///
    /// What can be read of an answer counts: header lines that are not quite right are passed over.
    pub(super) async fn over(
        stream: Stream,
        names: HeaderNames,
        now: Instant,
    ) -> Result<Self, BoxError> {
        let status_line = StatusLine::default();
        let io = TokioIo::new(Overheard::new(stream, status_line.clone()));
        let (sender, connection) = Builder::new()
            .ignore_invalid_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .title_case_headers(names == HeaderNames::TitleCase)
            .handshake(io)
            .await?;
        let driver = tokio::spawn(async move {
            // Its error is the answer of the request, if there is one.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            driver: AbortOnDropHandle::new(driver),
            status_line,
            made: now,
            age_max: AGE_MAX - Duration::from_secs(next_of_spread().into()),
            used: false,
        })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        message: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        self.status_line.forget();
        let reused = std::mem::replace(&mut self.used, true);
        let answer = self.sender.try_send_request(message).await;
        let error = match answer {
            Ok(answer) if reused && is_about_idleness(&answer) => {
                return Err(Unanswered::Repeatable);
            }
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if reused && (error.message().is_some() || self.status_line.is_empty()) {
            return Err(Unanswered::Repeatable);
        }
        Err(match self.status_line.status() {
            Some(status) => Unanswered::Malformed(status),
            None => Unanswered::Broken(error.into_error().into()),
        })
    }

    /// Waits until the connection can carry another request. `false` when it cannot.
    pub(super) async fn is_settled(&mut self) -> bool {
        self.is_ready()
            || tokio::time::timeout(SETTLED_WITHIN, self.sender.ready())
                .await
                .is_ok_and(|ready| ready.is_ok())
    }

    /// Whether a request can be sent now, as far as is known.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether it has been used for long enough.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        self.age(now) >= self.age_max
    }

    /// Whether it is not used again after an answer other than 2xx.
    pub(super) fn is_old_after_refusal(&self, now: Instant) -> bool {
        self.age(now) >= AGE_MAX_REFUSED
    }

    /// Closes an idle connection in order.
    pub(super) fn close(self) {
        // The driver ends by itself when it gets no more requests.
        drop(self.driver.detach());
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.made)
    }
}

/// Whether an answer says that no request came: some receivers send 408 when they close a connection
/// that was idle, and RFC 9110 §15.5.9 lets the request be repeated.
fn is_about_idleness(answer: &Response<Incoming>) -> bool {
    let closes = answer.headers().get(header::CONNECTION);
    answer.status() == StatusCode::REQUEST_TIMEOUT
        && closes.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Seconds from 0 to [`AGE_SPREAD_SECONDS`], in turn.
fn next_of_spread() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(7, Ordering::Relaxed) % (AGE_SPREAD_SECONDS + 1)
}
