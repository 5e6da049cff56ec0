//! A receiver of webhooks for `listen` and `demo`: verifies signatures, answers as configured, and
//! counts repeats.
//!
//! A request whose signature does not verify is answered 401 and not counted, whatever the
//! configured answer is. A real receiver must do the same.

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Router, extract::State};
use postrider_core::{Timestamp, verify};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The largest body that is accepted, in bytes.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;

/// How far the timestamp of a request may differ from this machine's clock (Standard Webhooks).
const TOLERANCE_SECONDS: u64 = 5 * 60;

/// Number of ids stored to recognise repeats.
const REMEMBERED_IDS: usize = 100_000;

/// The answers of a receiver.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The status for requests that are not failed on purpose.
    pub status: StatusCode,
    /// Number of requests that are failed first, whatever their ids.
    pub fail_first: u64,
    /// The status for these.
    pub failure: StatusCode,
    /// The delay before each answer.
    pub delay: Duration,
}

/// A request that arrived.
#[derive(Clone, Debug, Serialize)]
pub struct Arrival {
    /// When it arrived.
    #[serde(skip)]
    pub at: Timestamp,
    /// `webhook-id`.
    pub id: Option<String>,
    /// `webhook-timestamp`, in seconds since 1970.
    pub timestamp: Option<i64>,
    /// Whether one of the secrets verifies it; `None` when the receiver has none.
    pub verified: Option<bool>,
    /// Why it does not verify; `None` if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Number of earlier arrivals with this id.
    pub repeat: u32,
    /// The status it was answered with.
    pub status_answered: u16,
    /// The headers; names in lower case, repeated ones joined by commas.
    pub headers: BTreeMap<String, String>,
    /// The body; invalid UTF-8 is replaced.
    pub body: String,
}

/// A receiver. Clones share their state.
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    secrets: Vec<String>,
    clock: fn() -> Timestamp,
    state: Mutex<ReceiverState>,
    on_arrival: Box<dyn Fn(Arrival) + Send + Sync>,
}

struct ReceiverState {
    answers: Answers,
    requests: u64,
    seen: SeenIds,
}

impl Answers {
    /// Accepts every request without delay.
    pub fn accepting() -> Self {
        Self {
            status: StatusCode::OK,
            fail_first: 0,
            failure: StatusCode::INTERNAL_SERVER_ERROR,
            delay: Duration::ZERO,
        }
    }
}

impl Receiver {
    /// A receiver that verifies with any of `secrets` and passes each arrival to `on_arrival` before
    /// it answers.
    pub fn new(
        secrets: Vec<String>,
        answers: Answers,
        clock: fn() -> Timestamp,
        on_arrival: impl Fn(Arrival) + Send + Sync + 'static,
    ) -> Self {
        let state = Mutex::new(ReceiverState {
            answers,
            requests: 0,
            seen: SeenIds::default(),
        });
        Self(Arc::new(Inner {
            secrets,
            clock,
            state,
            on_arrival: Box::new(on_arrival),
        }))
    }

    /// Replaces the answers and starts to count anew.
    pub fn answer_with(&self, answers: Answers) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.answers = answers;
        state.requests = 0;
    }

    /// A router that accepts every path and method.
    pub fn router(&self) -> Router {
        Router::new().fallback(receive).with_state(self.clone())
    }

    /// The arrival with its answer, and the delay before it.
    fn judge(&self, headers: &HeaderMap, body: &[u8]) -> (Arrival, Duration) {
        let inner = &self.0;
        let at = (inner.clock)();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let id = text("webhook-id").map(str::to_owned);
        let checked = check_signature(&inner.secrets, headers, body, at);
        let mut state = inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests += u64::from(!matches!(checked, Some(Err(_))));
        let answers = &state.answers;
        let status = match checked {
            Some(Err(_)) => StatusCode::UNAUTHORIZED,
            _ if state.requests <= answers.fail_first => answers.failure,
            _ => answers.status,
        };
        let delay = answers.delay;
        let repeat = id.as_deref().map_or(0, |id| state.seen.count(id));
        let arrival = Arrival {
            at,
            timestamp: text("webhook-timestamp").and_then(|text| text.parse().ok()),
            id,
            verified: checked.as_ref().map(Result::is_ok),
            problem: checked.and_then(Result::err),
            repeat,
            status_answered: status.as_u16(),
            headers: readable(headers),
            body: String::from_utf8_lossy(body).into_owned(),
        };
        (arrival, delay)
    }
}

async fn receive(State(receiver): State<Receiver>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_MAX_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let (arrival, delay) = receiver.judge(&parts.headers, &body);
    let status = StatusCode::from_u16(arrival.status_answered).unwrap_or(StatusCode::OK);
    let said = match &arrival.problem {
        Some(problem) => format!("{problem}\n"),
        None => String::new(),
    };
    tokio::time::sleep(delay).await;
    (receiver.0.on_arrival)(arrival);
    match status {
        StatusCode::NO_CONTENT => status.into_response(),
        status => (status, said).into_response(),
    }
}

/// Checks the signature with each secret; `None` without secrets.
fn check_signature(
    secrets: &[String],
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Option<Result<(), String>> {
    if secrets.is_empty() {
        return None;
    }
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| format!("the request has no header {name}"))
    };
    let check = || {
        let id = header("webhook-id")?;
        let timestamp = header("webhook-timestamp")?;
        let signature = header("webhook-signature")?;
        let seconds: i64 = timestamp
            .parse()
            .map_err(|_| "webhook-timestamp is not a number of seconds".to_owned())?;
        let away = now.timestamp().abs_diff(seconds);
        if away > TOLERANCE_SECONDS {
            return Err(format!(
                "webhook-timestamp differs from this machine's clock by {away} s; at most \
                 {TOLERANCE_SECONDS} s are allowed"
            ));
        }
        let fits = |secret: &String| verify(secret, id, timestamp, body, signature).is_ok();
        match secrets.iter().any(fits) {
            true => Ok(()),
            false => Err("no signature matches the secret".to_owned()),
        }
    };
    Some(check())
}

fn readable(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut readable = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let all = readable.entry(name.to_string()).or_default();
        if !all.is_empty() {
            all.push_str(", ");
        }
        all.push_str(&value);
    }
    readable
}

/// Numbers of arrivals by id; the oldest ids are dropped.
#[derive(Default)]
struct SeenIds {
    counts: HashMap<String, u32>,
    order: VecDeque<String>,
}

impl SeenIds {
    /// Counts an arrival of `id` and returns the number of earlier ones.
    fn count(&mut self, id: &str) -> u32 {
        if let Some(count) = self.counts.get_mut(id) {
            *count += 1;
            return *count;
        }
        if self.order.len() >= REMEMBERED_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.counts.insert(id.to_owned(), 0);
        self.order.push_back(id.to_owned());
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};
    use postrider_core::{Signer, SigningSecret};

    const NOW: i64 = 1_700_000_000;

    fn now() -> Timestamp {
        Utc.timestamp_opt(NOW, 0).unwrap()
    }

    fn receiver(secrets: &[&SigningSecret], answers: Answers) -> Receiver {
        let secrets = secrets.iter().map(|secret| secret.verification_key());
        Receiver::new(secrets.collect(), answers, now, |_| {})
    }

    fn signed(secret: &SigningSecret, id: &str, at: i64, body: &[u8]) -> HeaderMap {
        let signature = Signer::new([secret]).sign(id, at, body);
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", at.into());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    #[test]
    fn a_signed_request_is_accepted_and_repeats_are_counted() {
        let secret = SigningSecret::generate();
        let other = SigningSecret::generate();
        let receiver = receiver(&[&other, &secret], Answers::accepting());
        for repeat in 0..3 {
            let (arrival, _) = receiver.judge(&signed(&secret, "a", NOW, b"body"), b"body");
            assert_eq!(arrival.verified, Some(true));
            assert_eq!((arrival.repeat, arrival.status_answered), (repeat, 200));
        }
        let (arrival, _) = receiver.judge(&signed(&secret, "b", NOW, b"body"), b"body");
        assert_eq!(arrival.repeat, 0);
    }

    #[test]
    fn an_unverified_request_is_answered_401() {
        let secret = SigningSecret::generate();
        let receiver = receiver(&[&secret], Answers::accepting());
        let mut unsigned = signed(&secret, "a", NOW, b"body");
        unsigned.remove("webhook-signature");
        let stranger = SigningSecret::generate();
        let table = [
            ("changed body", signed(&secret, "a", NOW, b"other")),
            ("other secret", signed(&stranger, "a", NOW, b"body")),
            ("too old", signed(&secret, "a", NOW - 301, b"body")),
            ("from the future", signed(&secret, "a", NOW + 301, b"body")),
            ("unsigned", unsigned),
        ];
        for (name, headers) in table {
            let (arrival, _) = receiver.judge(&headers, b"body");
            assert_eq!(arrival.verified, Some(false), "{name}");
            assert_eq!(arrival.status_answered, 401, "{name}");
            assert!(arrival.problem.is_some(), "{name}");
        }
        let (edge, _) = receiver.judge(&signed(&secret, "a", NOW - 300, b"body"), b"body");
        assert_eq!(edge.verified, Some(true));
    }

    #[test]
    fn without_a_secret_nothing_is_verified() {
        let receiver = receiver(&[], Answers::accepting());
        let (arrival, _) = receiver.judge(&HeaderMap::new(), b"\xff");
        assert_eq!((arrival.verified, arrival.status_answered), (None, 200));
        assert_eq!(arrival.body, "\u{fffd}");
    }

    #[test]
    fn the_first_requests_fail_as_configured() {
        let failing = Answers {
            fail_first: 2,
            failure: StatusCode::SERVICE_UNAVAILABLE,
            ..Answers::accepting()
        };
        let receiver = receiver(&[], failing);
        let statuses: Vec<_> = (0..4)
            .map(|_| receiver.judge(&HeaderMap::new(), b"").0.status_answered)
            .collect();
        assert_eq!(statuses, [503, 503, 200, 200]);
    }

    #[test]
    fn an_ed25519_signature_verifies_with_the_public_key() {
        let secret: SigningSecret = "whsk_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
            .parse()
            .unwrap();
        let receiver = receiver(&[&secret], Answers::accepting());
        let (arrival, _) = receiver.judge(&signed(&secret, "a", NOW, b"body"), b"body");
        assert_eq!(arrival.verified, Some(true));
    }

    #[test]
    fn the_oldest_ids_are_dropped() {
        let mut seen = SeenIds::default();
        for n in 0..=REMEMBERED_IDS {
            seen.count(&n.to_string());
        }
        assert_eq!(seen.counts.len(), REMEMBERED_IDS);
        assert_eq!(seen.count("0"), 0);
        assert_eq!(seen.count(&REMEMBERED_IDS.to_string()), 1);
    }
}
