//! The profile `misskey`: events as Misskey sends them to the webhooks of its users.
//!
//! The payload is `body`. A delivery's id and time are the same at every attempt, so that its
//! receiver recognises a repeat.

use super::NAME;
use super::server::MisskeyServer;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use postrider_core::{
    AliasForm, DeliveryId, Hook, Jitter, Outcome, RefusalKind, RetrySchedule, Span, Timestamp,
};
use postrider_worker::{
    DisableWhen, Format, HeaderNames, Policy, Prepared, Profile, ProfileSetting, SecretUse,
    Sending, SettingValues, own_headers, secret_value,
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use uuid::Uuid;

/// The profile, for webhooks that come from this server.
pub(super) fn profile(server: MisskeyServer) -> Profile {
    Profile {
        name: NAME,
        alias: Some(AliasForm::Aidx),
        secret: SecretUse::Sent,
        settings: &[ProfileSetting {
            name: "name",
            values: SettingValues::Text,
        }],
        user_agent: "Misskey-Hooks",
        header_names: HeaderNames::TitleCase,
        policy: Policy {
            schedule: Some(|| &SCHEDULE),
            timeout: Some(Duration::from_secs(5)),
            backs_off: false,
            disables: DisableWhen::Never,
            keeps_latest: true,
            keeps_target: true,
        },
        format: Arc::new(server),
    }
}

const HOST: HeaderName = HeaderName::from_static("x-misskey-host");
const HOOK_ID: HeaderName = HeaderName::from_static("x-misskey-hook-id");
const HOOK_SECRET: HeaderName = HeaderName::from_static("x-misskey-hook-secret");

/// `(2^n - 1)` minutes and up to a fifth more: four attempts.
static SCHEDULE: LazyLock<RetrySchedule> = LazyLock::new(|| {
    let waits = [60, 180, 420].map(Span::secs);
    RetrySchedule::new(waits.to_vec()).jittered(Jitter::Longer)
});

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    server: &'a str,
    hook_id: &'a str,
    user_id: &'a str,
    event_id: Uuid,
    created_at: i64,
    r#type: &'a str,
    body: &'a RawValue,
}

impl Format for MisskeyServer {
    fn shared(&self, hook: &Hook) -> Option<HeaderMap> {
        let mut headers = own_headers(hook, "application/json")?;
        headers.insert(HOST, HeaderValue::from_str(&self.host).ok()?);
        headers.insert(HOOK_ID, HeaderValue::from_str(&hook_id(hook)).ok()?);
        let secret = hook.credentials.token.as_deref().unwrap_or_default();
        headers.insert(HOOK_SECRET, secret_value(secret)?);
        Some(headers)
    }

    fn build(&self, _: &Prepared, sending: &Sending<'_>, _: &mut HeaderMap) -> Bytes {
        let (hook, event) = (sending.hook, sending.event);
        let body = serde_json::from_str(event.payload.as_str()).unwrap_or(RawValue::NULL);
        let envelope = Body {
            server: &self.url,
            hook_id: &hook_id(hook),
            user_id: &event.account,
            event_id: DeliveryId::of(event.id, hook.id).in_random_form(),
            created_at: event.occurred_at.timestamp_millis(),
            r#type: &event.event_type,
            body,
        };
        serde_json::to_vec(&envelope).unwrap_or_default().into()
    }

    fn judge(&self, status: StatusCode, _: &HeaderMap, _: Timestamp) -> Outcome {
        judge(status)
    }
}

/// The id under which the registrant knows the hook.
fn hook_id(hook: &Hook) -> Cow<'_, str> {
    match &hook.alias {
        Some(alias) => alias.into(),
        None => hook.id.0.simple().to_string().into(),
    }
}

/// 2xx is accepted. A 4xx ends this delivery, except 429, and says nothing about others.
fn judge(status: StatusCode) -> Outcome {
    let code = status.as_u16();
    if status.is_success() {
        return Outcome::Accepted { status: code };
    }
    let meaning = match status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        true => RefusalKind::Final,
        false => RefusalKind::Passing,
    };
    Outcome::Refused {
        status: code,
        retry_after: None,
        meaning,
    }
}
