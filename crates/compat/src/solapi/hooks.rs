//! `/webhook/v1/outgoing`: hooks as SOLAPI's API shows and changes them.
//!
//! Of a secret only the SHA-1 is kept: it is what is shown, and what deliveries carry.

use super::events::EventEntry;
use super::query::{Held, Kind};
use super::refusal::SolapiRefusal;
use super::request::SolapiRequest;
use super::{NAME, shown_date};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use postrider_api::{PathId, Registrar};
use postrider_core::{
    AliasForm, EventPattern, Hook, HookCredentials, HookEdit, HookId, HookSettings, HookStatus,
    NewHook, parse_hook_url, sha1_hex,
};
use postrider_store::RegisteredHook;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// How its ids look.
const ALIAS: AliasForm = AliasForm::Dated { prefix: "WH01WH" };
/// Longest secret, in bytes.
const SECRET_MAX_BYTES: usize = 255;
/// What its hooks have beside what all hooks have.
const EVENT_ID: &str = "event_id";
const HOOK_NAME: &str = "name";

const ACTIVE: &str = "ACTIVE";
const INACTIVE: &str = "INACTIVE";

/// What a test sends: a report of a message that nobody sent.
const SAMPLE: &str = r#"{"messageId":"M4V20191031070017POSTRIDERTEST00","groupId":"G4V20191031070017POSTRIDERTEST00","type":"SMS","to":"01000000000","from":"0200000000","statusCode":"4000","statusMessage":"test"}"#;
const SAMPLE_TYPE: &str = "SINGLE-REPORT";

/// A hook as the answer to its registration shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Created {
    secret: Option<String>,
    status: &'static str,
    fail_count: u32,
    account_id: String,
    event_id: String,
    url: String,
    webhook_id: String,
    date_created: String,
    date_updated: String,
}

/// A hook as every other answer shows it: the same in another order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SolapiItem {
    secret: Option<String>,
    status: &'static str,
    fail_count: u32,
    account_id: String,
    webhook_id: String,
    event_id: String,
    url: String,
    date_created: String,
    date_updated: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SolapiPage {
    limit: usize,
    webhook_list: Vec<SolapiItem>,
    start_key: Option<String>,
    next_key: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Tested {
    message: &'static str,
}

const FIELDS: &[(&str, Kind)] = &[
    ("eventId", Kind::Text),
    ("url", Kind::Text),
    ("status", Kind::Text),
    ("dateCreated", Kind::Time),
    ("dateUpdated", Kind::Time),
];

/// Registers a hook.
pub(super) async fn create(
    State(registrar): State<Arc<Registrar>>,
    Extension(entries): Extension<Arc<[EventEntry]>>,
    call: SolapiRequest,
) -> Result<Json<Created>, SolapiRefusal> {
    let body = &call.body;
    let required =
        |name| text(body, name)?.ok_or_else(|| SolapiRefusal::invalid(name, "is required"));
    let event_id = required("eventId")?;
    let url = checked_url(required("url")?)?;
    let token = secret(body)?.flatten();
    let hook = NewHook {
        alias: Some(ALIAS.draw(registrar.now())),
        account: call.account.clone(),
        url,
        events: vec![pattern_of(&entries, &event_id)?],
        profile: NAME.to_owned(),
        settings: HookSettings {
            profile: settings(&event_id, body),
            ..HookSettings::default()
        },
        credentials: HookCredentials {
            token: token.clone(),
            ..HookCredentials::default()
        },
        at_most: None,
    };
    let made = registrar.create(hook, NAME).await?;
    Ok(Json(Created {
        secret: token,
        status: ACTIVE,
        fail_count: 0,
        account_id: made.account,
        event_id,
        url: made.url,
        webhook_id: made.alias.unwrap_or_default(),
        date_created: shown_date(made.created_at),
        date_updated: shown_date(made.updated_at),
    }))
}

/// Lists hooks, the youngest first.
pub(super) async fn list(
    State(registrar): State<Arc<Registrar>>,
    call: SolapiRequest,
) -> Result<Json<SolapiPage>, SolapiRefusal> {
    let filter = call.query.filter(FIELDS)?;
    let mut asked = Vec::new();
    let from = filter.start_key.clone();
    registrar
        .each(NAME, &call.account, from, |registered| {
            let hook = &registered.hook;
            let matches = filter.matches(|field| match field {
                "eventId" => Some(Held::Text(event_id_of(hook))),
                "url" => Some(Held::Text(&hook.url)),
                "status" => Some(Held::Text(status_of(hook))),
                "dateCreated" => Some(Held::Time(hook.created_at)),
                _ => Some(Held::Time(hook.updated_at)),
            });
            if matches {
                asked.push(SolapiItem::of(registered));
            }
            // One more than the page holds, with which the next begins.
            asked.len() <= filter.limit
        })
        .await?;
    let next_key = match asked.len() > filter.limit {
        true => asked.pop().map(|item| item.webhook_id),
        false => None,
    };
    Ok(Json(SolapiPage {
        limit: filter.limit,
        start_key: asked.first().map(|item| item.webhook_id.clone()),
        next_key,
        webhook_list: asked,
    }))
}

/// Shows one hook.
pub(super) async fn show(
    State(registrar): State<Arc<Registrar>>,
    PathId(id): PathId,
    call: SolapiRequest,
) -> Result<Json<SolapiItem>, SolapiRefusal> {
    Ok(Json(SolapiItem::of(find(&registrar, &call, &id).await?)))
}

/// Changes a hook.
pub(super) async fn update(
    State(registrar): State<Arc<Registrar>>,
    Extension(entries): Extension<Arc<[EventEntry]>>,
    PathId(id): PathId,
    call: SolapiRequest,
) -> Result<Json<SolapiItem>, SolapiRefusal> {
    let hook = find(&registrar, &call, &id).await?.hook;
    let mut edit = HookEdit {
        url: text(&call.body, "url")?.map(checked_url).transpose()?,
        token: secret(&call.body)?,
        ..HookEdit::default()
    };
    if let Some(event_id) = text(&call.body, "eventId")? {
        edit.events = Some(vec![pattern_of(&entries, &event_id)?]);
        edit.profile = settings(&event_id, &Map::new());
    }
    edit.status = match text(&call.body, "status")?.as_deref() {
        None => None,
        Some(ACTIVE) => Some(HookStatus::Active),
        // A hook that was switched off after its failures keeps the reason.
        Some(INACTIVE) if hook.status == HookStatus::Active => Some(HookStatus::Paused),
        Some(INACTIVE) => None,
        Some(_) => {
            return Err(SolapiRefusal::invalid(
                "status",
                "must be ACTIVE or INACTIVE",
            ));
        }
    };
    registrar.edit(hook.id, edit, NAME).await?;
    Ok(Json(SolapiItem::of(find(&registrar, &call, &id).await?)))
}

/// Deletes a hook, and shows it as it was.
pub(super) async fn delete(
    State(registrar): State<Arc<Registrar>>,
    PathId(id): PathId,
    call: SolapiRequest,
) -> Result<Json<SolapiItem>, SolapiRefusal> {
    let registered = find(&registrar, &call, &id).await?;
    registrar.remove(registered.hook.id, NAME).await?;
    Ok(Json(SolapiItem::of(registered)))
}

/// Sends a report of nothing to a URL, and tells whether it was taken.
pub(super) async fn test(
    State(registrar): State<Arc<Registrar>>,
    call: SolapiRequest,
) -> Result<Json<Tested>, SolapiRefusal> {
    let url =
        text(&call.body, "url")?.ok_or_else(|| SolapiRefusal::invalid("url", "is required"))?;
    let now = registrar.now();
    let hook = Hook {
        id: HookId::draw(now),
        alias: None,
        account: call.account,
        url: checked_url(url)?,
        events: Vec::new(),
        profile: NAME.to_owned(),
        status: HookStatus::Active,
        disabled: None,
        phase: None,
        settings: HookSettings::default(),
        credentials: HookCredentials {
            token: secret(&call.body)?.flatten(),
            ..HookCredentials::default()
        },
        locked: false,
        created_at: now,
        updated_at: now,
        version: 0,
    };
    registrar.count_test(&hook.account)?;
    let attempt = registrar.test(&hook, SAMPLE_TYPE, SAMPLE).await?;
    match attempt.error() {
        None => Ok(Json(Tested { message: "Success" })),
        Some(why) => Err(SolapiRefusal::new(
            StatusCode::BAD_REQUEST,
            "WebhookTestFailed",
            format!("the test was not taken: {why}"),
        )),
    }
}

async fn find(
    registrar: &Registrar,
    call: &SolapiRequest,
    id: &str,
) -> Result<RegisteredHook, SolapiRefusal> {
    let found = registrar.find(NAME, &call.account, id).await?;
    found.ok_or_else(|| SolapiRefusal::not_found("webhook", id))
}

impl SolapiItem {
    fn of(registered: RegisteredHook) -> Self {
        let hook = registered.hook;
        Self {
            status: status_of(&hook),
            event_id: event_id_of(&hook).to_owned(),
            secret: hook.credentials.token.filter(|hash| !hash.is_empty()),
            fail_count: registered.fail_count,
            account_id: hook.account,
            webhook_id: hook.alias.unwrap_or_default(),
            url: hook.url,
            date_created: shown_date(hook.created_at),
            date_updated: shown_date(hook.updated_at),
        }
    }
}

fn status_of(hook: &Hook) -> &'static str {
    match hook.status {
        HookStatus::Active => ACTIVE,
        HookStatus::Paused | HookStatus::Disabled => INACTIVE,
    }
}

/// The id of the event as it was registered; a hook that was made otherwise shows the type it
/// asks for.
fn event_id_of(hook: &Hook) -> &str {
    let registered = hook.settings.profile.get(EVENT_ID);
    let first = || match hook.events.first() {
        Some(EventPattern::Exactly(name)) => name,
        _ => "*",
    };
    registered.and_then(Value::as_str).unwrap_or_else(first)
}

/// What the hook is given for the id of an event.
fn pattern_of(entries: &[EventEntry], event_id: &str) -> Result<EventPattern, SolapiRefusal> {
    let known = |entry: &&EventEntry| entry.id == event_id;
    let entry = entries.iter().find(known);
    let entry = entry.ok_or_else(|| SolapiRefusal::not_found("event", event_id))?;
    entry
        .event_type
        .parse()
        .map_err(|_| SolapiRefusal::not_found("event", event_id))
}

fn settings(event_id: &str, body: &Map<String, Value>) -> Map<String, Value> {
    let mut settings = Map::new();
    settings.insert(EVENT_ID.to_owned(), event_id.into());
    if let Some(Value::String(name)) = body.get(HOOK_NAME) {
        settings.insert(HOOK_NAME.to_owned(), name.as_str().into());
    }
    settings
}

/// A member that must be a string; `None` when it is missing or null.
fn text(body: &Map<String, Value>, name: &str) -> Result<Option<String>, SolapiRefusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(SolapiRefusal::invalid(name, "must be a string")),
    }
}

/// The hash of the secret: `Some(None)` takes it away, `None` leaves it.
fn secret(body: &Map<String, Value>) -> Result<Option<Option<String>>, SolapiRefusal> {
    if !body.contains_key("secret") {
        return Ok(None);
    }
    match text(body, "secret")? {
        None => Ok(Some(None)),
        Some(secret) if secret.is_empty() => Ok(Some(None)),
        Some(secret) if secret.len() > SECRET_MAX_BYTES => {
            let rule = format!("must be at most {SECRET_MAX_BYTES} bytes long");
            Err(SolapiRefusal::invalid("secret", &rule))
        }
        Some(secret) => Ok(Some(Some(sha1_hex(&secret)))),
    }
}

fn checked_url(url: String) -> Result<String, SolapiRefusal> {
    match parse_hook_url(&url) {
        Ok(_) => Ok(url),
        Err(problem) => Err(SolapiRefusal::invalid("url", &problem.to_string())),
    }
}
