//! Events: before and after the outbox.

use crate::event_error::EventError;
use crate::header_rules::check_event_headers;
use crate::{EVENT_TYPE_MAX_BYTES, EventId, KEY_MAX_BYTES, PAYLOAD_MAX_BYTES, Span, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

/// The account of an event that names none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// The prefix of the types of operational events.
const OPERATIONAL_PREFIX: &str = "postrider.";

/// The JSON text of an event, byte for byte as the application wrote it. It is signed and sent
/// unchanged.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Payload(Arc<str>);

impl Payload {
    /// A payload of JSON text that the database has already checked.
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
    /// What receivers see as `webhook-id`.
    pub id: EventId,
    /// The account whose hooks get the event.
    pub account: String,
    /// The event type, such as `invoice.paid`.
    pub event_type: String,
    /// The JSON that the application wrote.
    pub payload: Payload,
    /// Ordered hooks get events with the same key in the order of insertion.
    pub ordering_key: Option<String>,
    /// Extra request headers as a JSON object of strings.
    pub headers: Option<String>,
    /// The time that the application gave, otherwise the time of insertion.
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
    /// The account whose hooks get the event; `default` unless set.
    pub account: String,
    /// The event type, such as `invoice.paid`.
    pub event_type: String,
    /// The JSON text, which is sent unchanged.
    pub payload: Box<RawValue>,
    /// Ordered hooks get events with the same key in the order of insertion.
    pub ordering_key: Option<String>,
    /// Later events of the account with the same key are dropped at fan-out.
    pub dedup_key: Option<String>,
    /// The earliest time of delivery; `None` for at once.
    pub deliver_after: Option<Timestamp>,
    /// When the event happened; the time of insertion unless set.
    pub occurred_at: Option<Timestamp>,
    /// Extra request headers as a JSON object of strings.
    pub headers: Option<String>,
}

/// The rules for event types such as `invoice.paid`.
#[derive(Debug)]
pub struct EventType;

impl EventType {
    /// Checks a name. Standard Webhooks recommends segments of letters, digits and underscores
    /// between full stops; other printable names that existing systems use (`chat-assigned`,
    /// `SINGLE-REPORT`) are accepted.
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

    /// Checks the name of an event that an application publishes.
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

    /// Whether the type is reserved for operational events: `postrider.*`.
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

    /// An event with JSON text as its payload, which is sent unchanged.
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

    /// Sets the account whose hooks get the event.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// Sets the key within which ordered hooks keep the order of events.
    #[must_use]
    pub fn ordering_key(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// Sets the deduplication key: later events of the account with the same key are dropped.
    #[must_use]
    pub fn dedup_key(mut self, key: impl Into<String>) -> Self {
        self.dedup_key = Some(key.into());
        self
    }

    /// Sets the earliest time of delivery.
    #[must_use]
    pub fn deliver_after(mut self, at: Timestamp) -> Self {
        self.deliver_after = Some(at);
        self
    }

    /// Sets when the event happened.
    #[must_use]
    pub fn occurred_at(mut self, at: Timestamp) -> Self {
        self.occurred_at = Some(at);
        self
    }

    /// The key that decides the event's slot: the ordering key, else the deduplication key.
    pub fn slot_key(&self) -> Option<&str> {
        self.ordering_key.as_deref().or(self.dedup_key.as_deref())
    }

    /// Checks every limit. The API, the command line and the producer call it before inserting.
    ///
    /// # Errors
    /// The first limit that is exceeded.
    pub fn check(&self) -> Result<(), EventError> {
        EventType::check_published(&self.event_type)?;
        if self.payload.get().len() > PAYLOAD_MAX_BYTES {
            return Err(EventError::PayloadTooLarge(self.payload.get().len()));
        }
        check_key("account", Some(&self.account))?;
        check_key("ordering_key", self.ordering_key.as_deref())?;
        check_key("dedup_key", self.dedup_key.as_deref())?;
        check_event_headers(self.headers.as_deref())
    }

    /// Checks that an event inserted now is due before its retention ends.
    ///
    /// # Errors
    /// When it is not due by then: fan-out would reject it.
    pub fn check_due(&self, now: Timestamp, kept: Span) -> Result<(), EventError> {
        let wait = |at: Timestamp| at.signed_duration_since(now).to_std().unwrap_or_default();
        match self.deliver_after {
            Some(at) if wait(at) > kept.get() => Err(EventError::DueTooLate { at, kept }),
            _ => Ok(()),
        }
    }
}

impl Event {
    /// Checks the limits that the constraints of the outbox cannot express. Fan-out rejects a row
    /// that fails.
    ///
    /// # Errors
    /// The first limit that is exceeded.
    pub fn check(&self, dedup_key: Option<&str>) -> Result<(), EventError> {
        EventType::check_published(&self.event_type)?;
        self.check_own(dedup_key)
    }

    /// Checks an operational event, whose type may be reserved.
    ///
    /// # Errors
    /// The first limit that is exceeded.
    pub fn check_own(&self, dedup_key: Option<&str>) -> Result<(), EventError> {
        EventType::check(&self.event_type)?;
        if self.payload.as_str().len() > PAYLOAD_MAX_BYTES {
            return Err(EventError::PayloadTooLarge(self.payload.as_str().len()));
        }
        check_key("account", Some(&self.account))?;
        check_key("ordering_key", self.ordering_key.as_deref())?;
        check_key("dedup_key", dedup_key)?;
        check_event_headers(self.headers.as_deref())
    }
}

fn check_key(field: &'static str, key: Option<&str>) -> Result<(), EventError> {
    let what = match field {
        "ordering_key" => "ordering key",
        "dedup_key" => "deduplication key",
        field => field,
    };
    match key {
        Some(key) if key.is_empty() || key.len() > KEY_MAX_BYTES || key.contains('\0') => {
            Err(EventError::Key {
                field,
                what,
                length: key.len(),
            })
        }
        _ => Ok(()),
    }
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
