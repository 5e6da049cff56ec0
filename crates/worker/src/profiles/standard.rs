//! The profile `standard`: Standard Webhooks 1.0.0.

use super::{Prepared, Profile};
use crate::client::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use postrider_core::{Event, Hook, Outcome, Timestamp, standard_body};
use std::time::Duration;

pub(super) const PROFILE: Profile = Profile {
    name: "standard",
    build,
    judge,
};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The headers that all requests of a hook have; `None` when one of them is malformed.
pub(super) fn shared_headers(hook: &Hook) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if let Some(basic) = &hook.credentials.basic {
        let pair = BASE64.encode(format!("{}:{}", basic.user, basic.password));
        let mut value = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    for (name, value) in &hook.credentials.headers {
        let mut value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name.as_str()).ok()?, value);
    }
    Some(headers)
}

/// `webhook-id` is the event's id, the same for every attempt; `webhook-timestamp` is the
/// attempt's.
fn build(prepared: &Prepared, hook: &Hook, event: &Event, now: Timestamp) -> Request {
    let body = standard_body(event, hook.settings.body);
    let id = event.id.to_string();
    let timestamp = now.timestamp();
    let mut headers = HeaderMap::with_capacity(prepared.headers.len() + 6);
    add_event_headers(&mut headers, event);
    for (name, value) in &prepared.headers {
        headers.insert(name, value.clone());
    }
    if !prepared.signer.is_empty() {
        let signature = prepared.signer.sign(&id, timestamp, body.as_bytes());
        if let Ok(value) = HeaderValue::try_from(signature) {
            headers.insert(SIGNATURE, value);
        }
    }
    if let Ok(value) = HeaderValue::try_from(id) {
        headers.insert(ID, value);
    }
    headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
    Request {
        target: prepared.target.clone(),
        headers,
        body: body.into(),
        timeout: prepared.timeout,
    }
}

/// Adds the headers that the application gave the event. They were checked at fan-out; the
/// hook's own and ours are set after them and win.
fn add_event_headers(headers: &mut HeaderMap, event: &Event) {
    let Some(text) = &event.headers else { return };
    let parsed: std::collections::BTreeMap<String, String> =
        serde_json::from_str(text).unwrap_or_default();
    for (name, value) in parsed {
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            headers.insert(name, value);
        }
    }
}

/// 2xx is taken; everything else, redirects included, is refused.
fn judge(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Outcome {
    let code = status.as_u16();
    match status.is_success() {
        true => Outcome::Accepted { status: code },
        false => Outcome::Refused {
            status: code,
            retry_after: retry_after(headers, now),
        },
    }
}

/// `Retry-After` in both its forms, seconds and HTTP date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = Timestamp::from(httpdate::parse_http_date(text).ok()?);
    Some((date - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = Utc.with_ymd_and_hms(2026, 11, 21, 10, 0, 0).unwrap();
        let table = [
            ("120", Some(120)),
            ("Sat, 21 Nov 2026 10:01:30 GMT", Some(90)),
            ("Sat, 21 Nov 2026 09:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
            ("99999999999999999999999", None),
        ];
        for (text, seconds) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            assert_eq!(
                retry_after(&headers, now),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}
