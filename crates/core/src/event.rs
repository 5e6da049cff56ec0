//! Something that happened in an application.

use crate::{
    EventId, HEADERS_MAX, HEADERS_MAX_BYTES, KEY_MAX_BYTES, PAYLOAD_MAX_BYTES, Span, Timestamp,
    limits::EVENT_TYPE_MAX_BYTES,
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

/// The account of an event that names none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// The prefix of the event types that Postrider itself publishes.
const OPERATIONAL_PREFIX: &str = "postrider.";

/// An event's JSON, byte for byte as the application wrote it: it is signed and sent verbatim.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Payload(Arc<str>);

impl Payload {
    /// Takes JSON text that the database has already checked.
    pub fn from_checked(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

/// An event that has left the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id: what receivers see as `webhook-id`.
    pub id: EventId,
    /// Whose hooks it is for.
    pub account: String,
    /// What happened, such as `invoice.paid`.
    pub event_type: String,
    /// What the application says about it.
    pub payload: Payload,
    /// Events of one key reach an ordered hook in their order.
    pub ordering_key: Option<String>,
    /// Extra request headers as a JSON object of strings.
    pub headers: Option<String>,
    /// When it happened: as the application says, else when it was inserted.
    pub occurred_at: Timestamp,
}

/// An event to be inserted into the outbox.
///
/// ```
/// use postrider_core::NewEvent;
/// let event = NewEvent::new("invoice.paid", &serde_json::json!({"id": 1}))?
///     .account("acme")
///     .ordering_key("invoice-1");
/// # Ok::<(), postrider_core::EventError>(())
/// ```
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Whose hooks it is for; `default` unless set.
    pub account: String,
    /// What happened.
    pub event_type: String,
    /// The JSON text, sent verbatim.
    pub payload: Box<RawValue>,
    /// Events of one key reach an ordered hook in their order.
    pub ordering_key: Option<String>,
    /// A second event of the account with this key is dropped at fan-out.
    pub dedup_key: Option<String>,
    /// Not to be delivered before this moment.
    pub deliver_after: Option<Timestamp>,
    /// When it happened; the time of insertion unless set.
    pub occurred_at: Option<Timestamp>,
    /// Extra request headers as a JSON object of strings.
    pub headers: Option<String>,
}

/// The event cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The type is empty.
    #[error("the event type is empty: name what happened, such as \"invoice.paid\"")]
    TypeEmpty,
    /// The type is longer than [`EVENT_TYPE_MAX_BYTES`].
    #[error("the event type is {0} bytes long; at most {EVENT_TYPE_MAX_BYTES} are allowed")]
    TypeTooLong(usize),
    /// The type has white space or control characters, or a `*`.
    #[error(
        "the event type {0:?} has white space, a control character or a \"*\"; use names such as \"invoice.paid\""
    )]
    TypeMalformed(String),
    /// The type is one of ours.
    #[error(
        "the event type {0:?} begins with \"postrider.\", which is kept for events of Postrider itself; choose another name"
    )]
    TypeReserved(String),
    /// The payload is not JSON.
    #[error("the payload is not valid JSON: {0}")]
    PayloadMalformed(String),
    /// The payload is larger than [`PAYLOAD_MAX_BYTES`].
    #[error(
        "the payload is {0} bytes large; at most {PAYLOAD_MAX_BYTES} are allowed: send a reference to large data instead"
    )]
    PayloadTooLarge(usize),
    /// A key or the account is empty or too long, or holds a NUL.
    #[error(
        "the {what} must be 1 to {KEY_MAX_BYTES} bytes long, without NUL; this one has {length} bytes"
    )]
    Key {
        /// Which one.
        what: &'static str,
        /// How long it is.
        length: usize,
    },
    /// The extra headers are not a JSON object of strings, or not valid as headers.
    #[error("the headers must be a JSON object of strings with valid header names: {0}")]
    Headers(String),
    /// There are more extra headers than receivers take.
    #[error(
        "there are more than {HEADERS_MAX} headers, or more than {HEADERS_MAX_BYTES} bytes of them: put data into the payload"
    )]
    HeadersTooMany,
    /// The event is not to be delivered while it is kept.
    #[error(
        "deliver_after ({at}) lies beyond retention.events ({kept}): the event would be dropped before it is due; choose an earlier time or keep events for longer"
    )]
    DueTooLate {
        /// When it is to be delivered.
        at: Timestamp,
        /// How long events are kept.
        kept: Span,
    },
}

/// Names of what happened: `invoice.paid`.
#[derive(Debug)]
pub struct EventType;

impl EventType {
    /// Whether `name` can be an event type. Segments of letters, digits and underscores joined
    /// by full stops are recommended (Standard Webhooks); other printable names that existing
    /// systems use (`chat-assigned`, `SINGLE-REPORT`) are accepted.
    ///
    /// # Errors
    /// Empty, too long, or with white space, control characters or `*`.
    pub fn check(name: &str) -> Result<(), EventError> {
        if name.is_empty() {
            return Err(EventError::TypeEmpty);
        }
        if name.len() > EVENT_TYPE_MAX_BYTES {
            return Err(EventError::TypeTooLong(name.len()));
        }
        if name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '*') {
            return Err(EventError::TypeMalformed(name.into()));
        }
        Ok(())
    }

    /// The same for an event that an application publishes: `postrider.*` is not its to use.
    ///
    /// # Errors
    /// As [`check`](Self::check), and for reserved names.
    pub fn check_published(name: &str) -> Result<(), EventError> {
        Self::check(name)?;
        match Self::is_operational(name) {
            true => Err(EventError::TypeReserved(name.into())),
            false => Ok(()),
        }
    }

    /// Whether the type is one of Postrider's own.
    pub fn is_operational(name: &str) -> bool {
        name.starts_with(OPERATIONAL_PREFIX)
    }
}

impl NewEvent {
    /// An event of this type with this payload, for the account `default`.
    ///
    /// # Errors
    /// When the payload does not serialise.
    pub fn new<T: Serialize + ?Sized>(
        event_type: impl Into<String>,
        payload: &T,
    ) -> Result<Self, EventError> {
        let payload = serde_json::value::to_raw_value(payload)
            .map_err(|error| EventError::PayloadMalformed(error.to_string()))?;
        Ok(Self::raw(event_type, payload))
    }

    /// The same from JSON text, which is kept byte for byte.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub fn from_json(event_type: impl Into<String>, json: String) -> Result<Self, EventError> {
        let payload = RawValue::from_string(json)
            .map_err(|error| EventError::PayloadMalformed(error.to_string()))?;
        Ok(Self::raw(event_type, payload))
    }

    fn raw(event_type: impl Into<String>, payload: Box<RawValue>) -> Self {
        Self {
            account: DEFAULT_ACCOUNT.into(),
            event_type: event_type.into(),
            payload,
            ordering_key: None,
            dedup_key: None,
            deliver_after: None,
            occurred_at: None,
            headers: None,
        }
    }

    /// Whose hooks the event is for.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// Keeps the events of this key in order at hooks that ask for it.
    #[must_use]
    pub fn ordering_key(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// Drops later events of the account with this key.
    #[must_use]
    pub fn dedup_key(mut self, key: impl Into<String>) -> Self {
        self.dedup_key = Some(key.into());
        self
    }

    /// Holds the event back until `at`.
    #[must_use]
    pub fn deliver_after(mut self, at: Timestamp) -> Self {
        self.deliver_after = Some(at);
        self
    }

    /// Says when it happened.
    #[must_use]
    pub fn occurred_at(mut self, at: Timestamp) -> Self {
        self.occurred_at = Some(at);
        self
    }

    /// The key that decides the event's slot: the ordering key, else the deduplication key.
    pub fn slot_key(&self) -> Option<&str> {
        self.ordering_key.as_deref().or(self.dedup_key.as_deref())
    }

    /// Checks every bound, as the API, the command line and the producer do before inserting.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self) -> Result<(), EventError> {
        EventType::check_published(&self.event_type)?;
        if self.payload.get().len() > PAYLOAD_MAX_BYTES {
            return Err(EventError::PayloadTooLarge(self.payload.get().len()));
        }
        check_key("account", Some(&self.account))?;
        check_key("ordering key", self.ordering_key.as_deref())?;
        check_key("deduplication key", self.dedup_key.as_deref())?;
        check_headers(self.headers.as_deref())
    }

    /// Checks that the event is due while events of now are `kept`.
    ///
    /// # Errors
    /// When it is not: fan-out would reject it.
    pub fn check_due(&self, now: Timestamp, kept: Span) -> Result<(), EventError> {
        let wait = |at: Timestamp| at.signed_duration_since(now).to_std().unwrap_or_default();
        match self.deliver_after {
            Some(at) if wait(at) > kept.get() => Err(EventError::DueTooLate { at, kept }),
            _ => Ok(()),
        }
    }
}

impl Event {
    /// Checks what the outbox's constraints cannot say; what fails is a rejected row.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self, dedup_key: Option<&str>) -> Result<(), EventError> {
        EventType::check_published(&self.event_type)?;
        self.check_own(dedup_key)
    }

    /// The same for an event of our own, which alone may have a reserved type.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check_own(&self, dedup_key: Option<&str>) -> Result<(), EventError> {
        EventType::check(&self.event_type)?;
        if self.payload.as_str().len() > PAYLOAD_MAX_BYTES {
            return Err(EventError::PayloadTooLarge(self.payload.as_str().len()));
        }
        check_key("account", Some(&self.account))?;
        check_key("ordering key", self.ordering_key.as_deref())?;
        check_key("deduplication key", dedup_key)?;
        check_headers(self.headers.as_deref())
    }
}

fn check_key(what: &'static str, key: Option<&str>) -> Result<(), EventError> {
    match key {
        Some(key) if key.is_empty() || key.len() > KEY_MAX_BYTES || key.contains('\0') => {
            Err(EventError::Key {
                what,
                length: key.len(),
            })
        }
        _ => Ok(()),
    }
}

/// Checks the bounds of the extra headers, and that they are headers.
pub(crate) fn check_headers(headers: Option<&str>) -> Result<(), EventError> {
    let Some(text) = headers else { return Ok(()) };
    let parsed: std::collections::BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|error| EventError::Headers(error.to_string()))?;
    if are_too_many_headers(parsed.iter().map(|(name, value)| name.len() + value.len())) {
        return Err(EventError::HeadersTooMany);
    }
    for (name, value) in &parsed {
        if !is_header_name(name) || !is_header_value(value) {
            return Err(EventError::Headers(format!("{name:?} is not valid")));
        }
        if is_reserved_header(name) {
            return Err(EventError::Headers(format!(
                "{name:?} is set by Postrider or by HTTP itself"
            )));
        }
    }
    Ok(())
}

/// Headers that neither a hook nor an event can set: one that says how long the body is, or
/// where the request goes, would change what the receiver reads.
const RESERVED_HEADERS: [&str; 13] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

/// Whether Postrider or HTTP itself sets this header.
pub(crate) fn is_reserved_header(name: &str) -> bool {
    RESERVED_HEADERS
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// Whether headers of these sizes, names and values together, are more than may be sent.
pub(crate) fn are_too_many_headers(sizes: impl Iterator<Item = usize>) -> bool {
    let (mut count, mut bytes) = (0, 0);
    for size in sizes {
        count += 1;
        bytes += size;
    }
    count > HEADERS_MAX || bytes > HEADERS_MAX_BYTES
}

/// Whether `name` is a token of RFC 9110 §5.6.2.
pub(crate) fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Whether `value` is a field value of RFC 9110 §5.5.
pub(crate) fn is_header_value(value: &str) -> bool {
    value
        .bytes()
        .all(|b| b == b'\t' || (b >= 0x20 && b != 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str) -> NewEvent {
        NewEvent::new(event_type, &1).unwrap()
    }

    #[test]
    fn event_types_are_checked() {
        for good in ["invoice.paid", "SINGLE-REPORT", "a", "rechnung.bezahlt.ä"] {
            assert_eq!(event(good).check(), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a\nb",
            "a*",
            "postrider.hook.disabled",
            &"x".repeat(257),
        ] {
            assert!(event(bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_are_checked() {
        assert!(event("a").account("").check().is_err());
        assert!(event("a").ordering_key("k".repeat(513)).check().is_err());
        assert!(event("a").dedup_key("a\0b").check().is_err());
        let large = NewEvent::new("a", &"x".repeat(PAYLOAD_MAX_BYTES)).unwrap();
        assert_eq!(
            large.check(),
            Err(EventError::PayloadTooLarge(PAYLOAD_MAX_BYTES + 2))
        );
        for bad in [
            "{\"Content-Length\":\"3\"}",
            "{\"host\":\"other\"}",
            "[]",
            "{\"a\":1}",
            "{\"a b\":\"c\"}",
            "{\"a\":\"b\\nc\"}",
        ] {
            let mut event = event("a");
            event.headers = Some(bad.into());
            assert!(event.check().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_must_be_due_while_it_is_kept() {
        let now = "2026-03-02T10:00:00Z".parse::<Timestamp>().unwrap();
        let kept = Span::secs(3_600);
        let due = |seconds| event("a").deliver_after(now + chrono::TimeDelta::seconds(seconds));
        assert_eq!(event("a").check_due(now, kept), Ok(()));
        for seconds in [-7_200, 0, 3_600] {
            assert_eq!(due(seconds).check_due(now, kept), Ok(()), "{seconds}");
        }
        let late = due(3_601).check_due(now, kept).unwrap_err().to_string();
        assert!(late.contains("beyond retention.events (1h)"), "{late}");
    }

    #[test]
    fn headers_are_few_and_short() {
        let with = |count: usize, length: usize| {
            let value = "x".repeat(length);
            let headers: std::collections::BTreeMap<_, _> =
                (0..count).map(|n| (format!("h{n}"), &value)).collect();
            let mut event = event("a");
            event.headers = serde_json::to_string(&headers).ok();
            event.check()
        };
        assert_eq!(with(100, 100), Ok(()));
        assert_eq!(with(101, 1), Err(EventError::HeadersTooMany));
        assert_eq!(with(1, 16 * 1024), Err(EventError::HeadersTooMany));
    }

    #[test]
    fn json_text_is_kept_verbatim() {
        let text = "{\"b\":1.0, \"a\":\"\\u0000\",\"b\":2}";
        let event = NewEvent::from_json("a", text.into()).unwrap();
        assert_eq!(event.payload.get(), text);
        assert!(NewEvent::from_json("a", "{".into()).is_err());
    }
}
