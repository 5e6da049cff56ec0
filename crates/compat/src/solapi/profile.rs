//! The profile `solapi`: reports as SOLAPI sends them to its webhooks.
//!
//! A payload is one report. It travels in a JSON array, verbatim, as it is or in an envelope,
//! by itself or with others of its type.
//! Whatever is not 2xx is tried again by SOLAPI's own schedule, and a delivery that has used it
//! up makes its hook inactive.

use super::NAME;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use postrider_core::{
    AliasForm, Batching, Hook, Jitter, Outcome, RefusalKind, RetrySchedule, Span, Timestamp,
};
use postrider_worker::{
    DisableWhen, Format, HeaderNames, Policy, Prepared, Profile, ProfileSetting, SecretUse,
    Sending, SettingValues, USER_AGENT, own_headers, profile_setting, secret_value,
};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The profile; a report is held back for `batch_window` for its batch to fill.
pub(super) fn profile(batch_window: Duration) -> Profile {
    Profile {
        name: NAME,
        alias: Some(AliasForm::Dated { prefix: "WH01WH" }),
        secret: SecretUse::SentAsSha1,
        settings: &[
            ProfileSetting {
                name: FORMAT,
                values: SettingValues::OneOf(&["flat", ENVELOPE]),
            },
            ProfileSetting {
                name: BATCH,
                values: SettingValues::Count { most: BATCH_MAX },
            },
            ProfileSetting {
                name: "event_id",
                values: SettingValues::Text,
            },
            ProfileSetting {
                name: "name",
                values: SettingValues::Text,
            },
        ],
        user_agent: USER_AGENT,
        header_names: HeaderNames::TitleCase,
        policy: Policy {
            schedule: Some(|| &SCHEDULE),
            timeout: Some(Duration::from_secs(5)),
            backs_off: false,
            disables: DisableWhen::WhenExhausted,
            keeps_latest: false,
            keeps_target: false,
        },
        format: Arc::new(Reports { batch_window }),
    }
}

/// The format of reports.
struct Reports {
    batch_window: Duration,
}

const FORMAT: &str = "format";
const ENVELOPE: &str = "envelope";
const BATCH: &str = "batch";

/// Reports in one request at most.
const BATCH_MAX: u32 = 100;

const EVENT_NAME: HeaderName = HeaderName::from_static("x-solapi-event-name");
const SECRET: HeaderName = HeaderName::from_static("x-solapi-secret");

/// A quarter of an hour, doubling: eight attempts in 31 h 45 min.
static SCHEDULE: LazyLock<RetrySchedule> = LazyLock::new(|| {
    let quarters = (0..7).map(|n| Span::secs(900 << n));
    RetrySchedule::new(quarters.collect()).jittered(Jitter::None)
});

/// The hash of the secret; without a secret there is no header.
fn shared(hook: &Hook) -> Option<HeaderMap> {
    let mut headers = own_headers(hook, "application/json")?;
    if let Some(hash) = hook
        .credentials
        .token
        .as_deref()
        .filter(|hash| !hash.is_empty())
    {
        headers.insert(SECRET, secret_value(hash)?);
    }
    Some(headers)
}

fn build(sending: &Sending<'_>, headers: &mut HeaderMap) -> Bytes {
    let event = sending.event;
    if let Ok(name) = HeaderValue::from_bytes(event.event_type.as_bytes()) {
        headers.insert(EVENT_NAME, name);
    }
    let retries = sending.number.saturating_sub(1);
    let enveloped = profile_setting(sending.hook, FORMAT) == Some(ENVELOPE);
    let mut body = String::from("[");
    for event in sending.events() {
        if body.len() > 1 {
            body.push(',');
        }
        let report = event.payload.as_str();
        if enveloped {
            body.push_str(r#"{"eventDataId":""#);
            body.push_str(&event.id.to_string());
            body.push_str(r#"","data":"#);
            body.push_str(report);
            body.push_str(r#","retryCount":"#);
            body.push_str(&retries.to_string());
            body.push('}');
        } else {
            body.push_str(report);
        }
    }
    body.push(']');
    body.into()
}

impl Format for Reports {
    fn shared(&self, hook: &Hook) -> Option<HeaderMap> {
        shared(hook)
    }

    fn build(&self, _: &Prepared, sending: &Sending<'_>, headers: &mut HeaderMap) -> Bytes {
        build(sending, headers)
    }

    fn judge(&self, status: StatusCode, _: &HeaderMap, _: Timestamp) -> Outcome {
        judge(status)
    }

    fn batches_any(&self) -> bool {
        !self.batch_window.is_zero()
    }

    /// Up to as many reports as the hook allows, if there is a batch window.
    fn batching(&self, hook: &Hook) -> Option<Batching> {
        let window = self.batch_window;
        let set = profile_setting(hook, BATCH).and_then(|text| text.parse().ok());
        let most = set.unwrap_or(BATCH_MAX).min(BATCH_MAX);
        (most > 1 && !window.is_zero()).then_some(Batching { most, window })
    }
}

/// 2xx is accepted; every other answer is retried.
fn judge(status: StatusCode) -> Outcome {
    let code = status.as_u16();
    match status.is_success() {
        true => Outcome::Accepted { status: code },
        false => Outcome::Refused {
            status: code,
            retry_after: None,
            meaning: RefusalKind::Passing,
        },
    }
}
