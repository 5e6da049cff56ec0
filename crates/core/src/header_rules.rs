//! The rules for extra request headers, of hooks and of events.

use crate::event_error::EventError;
use crate::{HEADERS_MAX, HEADERS_MAX_BYTES};
use std::collections::BTreeMap;

/// Headers that neither a hook nor an event can set. One for the length of the body or the host
/// would change what the receiver reads.
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

/// Checks the extra headers of an event: a JSON object of strings that may be sent.
pub(crate) fn check_event_headers(headers: Option<&str>) -> Result<(), EventError> {
    let Some(text) = headers else { return Ok(()) };
    let parsed: BTreeMap<String, String> =
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

/// Whether Postrider or HTTP itself sets this header.
pub(crate) fn is_reserved_header(name: &str) -> bool {
    RESERVED_HEADERS
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// Whether headers of these sizes, name and value together, exceed the limits.
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
