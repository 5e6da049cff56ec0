//! The profile `standard`: Standard Webhooks 1.0.0.

use super::headers::own_headers;
use super::policy::Policy;
use super::prepared::{Prepared, Sending};
use super::profile::{Format, Profile, SecretUse};
use crate::client::{HeaderNames, USER_AGENT};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use postrider_core::{Hook, Outcome, Timestamp, standard_body};
use std::sync::Arc;
use std::time::Duration;

/// The standard profile.
pub(super) fn profile() -> Profile {
    Profile {
        name: "standard",
        alias: None,
        secret: SecretUse::Signs,
        settings: &[],
        user_agent: USER_AGENT,
        header_names: HeaderNames::LowerCase,
        policy: Policy::CONFIGURED,
        format: Arc::new(Standard),
    }
}

/// The format of Standard Webhooks.
struct Standard;

impl Format for Standard {
    fn shared(&self, hook: &Hook) -> Option<HeaderMap> {
        own_headers(hook, "application/json")
    }

    fn build(&self, prepared: &Prepared, sending: &Sending<'_>, headers: &mut HeaderMap) -> Bytes {
        build(prepared, sending, headers)
    }
}

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// `webhook-id` is the event's id, the same for every attempt; `webhook-timestamp` is the
/// attempt's.
fn build(prepared: &Prepared, sending: &Sending<'_>, headers: &mut HeaderMap) -> Bytes {
    let body = standard_body(sending.event, sending.hook.settings.body);
    let id = sending.event.id.to_string();
    let timestamp = sending.now.timestamp();
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
    body.into()
}

/// 2xx is taken; everything else, redirects included, is refused.
pub(super) fn judge(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Outcome {
    let code = status.as_u16();
    match status.is_success() {
        true => Outcome::Accepted { status: code },
        false => Outcome::refused(code, retry_after(headers, now)),
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
