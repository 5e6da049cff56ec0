//! `/api/i/webhooks/…`: hooks as Misskey's API shows and changes them.

use super::NAME;
use super::refusal::{MisskeyRefusal, no_such_webhook};
use super::request::MisskeyRequest;
use super::sample;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use chrono::SecondsFormat;
use postrider_api::Registrar;
use postrider_core::{AliasForm, HookCredentials, HookEdit, HookSettings, HookStatus, NewHook};
use postrider_store::RegisteredHook;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What its hooks have beside what all hooks have.
const HOOK_NAME: &str = "name";
/// What Misskey shows for a status where there was no answer.
const NO_ANSWER: u16 = 1;

/// The ids of "No such webhook." by route.
const NOT_SHOWN: &str = "50f614d9-3047-4f7e-90d8-ad6b2d5fb098";
const NOT_UPDATED: &str = "fb0fea69-da18-45b1-828d-bd4fd1612518";
const NOT_DELETED: &str = "bae73e5a-5522-4965-ae19-3a8688e71d82";
const NOT_TESTED: &str = "0c52149c-e913-18f8-5dc7-74870bfe0cf9";

/// A hook.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserWebhook {
    id: String,
    user_id: String,
    name: String,
    on: Vec<String>,
    url: String,
    secret: String,
    active: bool,
    latest_sent_at: Option<String>,
    latest_status: Option<u16>,
}

/// The most hooks of one account.
#[derive(Clone, Copy, Debug)]
pub(super) struct WebhookLimit(pub(super) u32);

/// Registers a hook.
pub(super) async fn create(
    State(registrar): State<Arc<Registrar>>,
    Extension(WebhookLimit(limit)): Extension<WebhookLimit>,
    call: MisskeyRequest,
) -> Result<Json<UserWebhook>, MisskeyRefusal> {
    let params = &call.params;
    params.require(&["name", "url", "on"])?;
    let name = params.name()?.unwrap_or_default();
    let url = params.url()?.unwrap_or_default();
    let secret = params.secret()?.unwrap_or_default();
    let on = params.on()?.unwrap_or_default();
    let hook = NewHook {
        alias: Some(AliasForm::Aidx.draw(registrar.now())),
        account: call.user,
        url,
        events: on.clone(),
        profile: NAME.to_owned(),
        settings: HookSettings {
            profile: named(&name),
            ..HookSettings::default()
        },
        credentials: HookCredentials {
            token: kept(&secret),
            ..HookCredentials::default()
        },
        at_most: Some(limit),
    };
    let made = registrar.create(hook, NAME).await?;
    Ok(Json(UserWebhook {
        id: made.alias.unwrap_or_default(),
        user_id: made.account,
        name,
        on: on.iter().map(ToString::to_string).collect(),
        url: made.url,
        secret,
        active: true,
        latest_sent_at: None,
        latest_status: None,
    }))
}

/// Lists the caller's hooks, the oldest first.
pub(super) async fn list(
    State(registrar): State<Arc<Registrar>>,
    call: MisskeyRequest,
) -> Result<Json<Vec<UserWebhook>>, MisskeyRefusal> {
    let all = registrar.all(NAME, &call.user).await?;
    Ok(Json(all.into_iter().rev().map(UserWebhook::from).collect()))
}

/// Shows one hook.
pub(super) async fn show(
    State(registrar): State<Arc<Registrar>>,
    call: MisskeyRequest,
) -> Result<Json<UserWebhook>, MisskeyRefusal> {
    Ok(Json(find(&registrar, &call, NOT_SHOWN).await?.into()))
}

/// Changes what the body names.
pub(super) async fn update(
    State(registrar): State<Arc<Registrar>>,
    call: MisskeyRequest,
) -> Result<StatusCode, MisskeyRefusal> {
    let params = &call.params;
    params.require(&["webhookId"])?;
    params.webhook_id()?;
    let mut edit = HookEdit {
        profile: params.name()?.map(|name| named(&name)).unwrap_or_default(),
        url: params.url()?,
        token: params.secret_or_null()?.map(|secret| kept(&secret)),
        events: params.on()?,
        ..HookEdit::default()
    };
    let active = params.active()?;
    let hook = find(&registrar, &call, NOT_UPDATED).await?.hook;
    let is_active = hook.status == HookStatus::Active;
    // Clients send it with every change; only one that differs begins anew.
    edit.status = active
        .filter(|wanted| *wanted != is_active)
        .map(|wanted| match wanted {
            true => HookStatus::Active,
            false => HookStatus::Paused,
        });
    registrar.edit(hook.id, edit, NAME).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a hook.
pub(super) async fn delete(
    State(registrar): State<Arc<Registrar>>,
    call: MisskeyRequest,
) -> Result<StatusCode, MisskeyRefusal> {
    let hook = find(&registrar, &call, NOT_DELETED).await?.hook;
    registrar.remove(hook.id, NAME).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a made-up event to a hook, once, whatever it asks for and whether it is active.
pub(super) async fn test(
    State(registrar): State<Arc<Registrar>>,
    call: MisskeyRequest,
) -> Result<StatusCode, MisskeyRefusal> {
    let params = &call.params;
    params.require(&["webhookId", "type"])?;
    params.webhook_id()?;
    let event_type = params.test_type()?;
    let (url, secret) = params.overrides()?;
    let mut hook = find(&registrar, &call, NOT_TESTED).await?.hook;
    if let Some(url) = url {
        hook.url = url;
    }
    if let Some(secret) = secret {
        hook.credentials.token = kept(&secret);
    }
    if let Some(body) = sample::body_of(event_type, registrar.now()) {
        // Whether it is taken is for its receiver to see.
        registrar.test(&hook, event_type, &body).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn find(
    registrar: &Registrar,
    call: &MisskeyRequest,
    id: &'static str,
) -> Result<RegisteredHook, MisskeyRefusal> {
    call.params.require(&["webhookId"])?;
    let alias = call.params.webhook_id()?;
    let found = registrar.find(NAME, &call.user, alias).await?;
    found.ok_or_else(|| no_such_webhook(id).into())
}

impl From<RegisteredHook> for UserWebhook {
    fn from(registered: RegisteredHook) -> Self {
        let hook = registered.hook;
        let name = hook.settings.profile.get(HOOK_NAME).and_then(Value::as_str);
        Self {
            name: name.unwrap_or_default().to_owned(),
            id: hook.alias.unwrap_or_default(),
            user_id: hook.account,
            on: hook.events.iter().map(ToString::to_string).collect(),
            url: hook.url,
            secret: hook.credentials.token.unwrap_or_default(),
            active: hook.status == HookStatus::Active,
            latest_sent_at: registered
                .latest_sent_at
                .map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)),
            latest_status: registered
                .latest_sent_at
                .map(|_| registered.latest_status.unwrap_or(NO_ANSWER)),
        }
    }
}

fn named(name: &str) -> Map<String, Value> {
    Map::from_iter([(HOOK_NAME.to_owned(), name.into())])
}

/// An empty secret is none.
fn kept(secret: &str) -> Option<String> {
    (!secret.is_empty()).then(|| secret.to_owned())
}
