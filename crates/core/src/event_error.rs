//! Why an event cannot be accepted.

use crate::{
    EVENT_TYPE_MAX_BYTES, HEADERS_MAX, HEADERS_MAX_BYTES, KEY_MAX_BYTES, PAYLOAD_MAX_BYTES, Span,
    Timestamp,
};

/// The event cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The event type has no characters.
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
    /// The type is reserved for operational events.
    #[error(
        "the event type {0:?} begins with \"postrider.\", which is reserved for operational events; choose another name"
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
        /// The member of the event, such as `ordering_key`.
        field: &'static str,
        /// Its name in the error text.
        what: &'static str,
        /// The length that was given, in bytes.
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
    /// The event is due only after its retention has ended.
    #[error(
        "deliver_after ({at}) is beyond retention.events ({kept}): the event would be dropped before it is due; choose an earlier time or a longer retention"
    )]
    DueTooLate {
        /// The earliest time of delivery.
        at: Timestamp,
        /// The retention of events.
        kept: Span,
    },
}

impl EventError {
    /// The member of the event's JSON that is wrong.
    pub fn field(&self) -> &'static str {
        match self {
            Self::TypeEmpty
            | Self::TypeTooLong(_)
            | Self::TypeMalformed(_)
            | Self::TypeReserved(_) => "event_type",
            Self::PayloadMalformed(_) | Self::PayloadTooLarge(_) => "payload",
            Self::Key { field, .. } => field,
            Self::Headers(_) | Self::HeadersTooMany => "headers",
            Self::DueTooLate { .. } => "deliver_after",
        }
    }
}
