//! `/api/webhooks`: hooks as Thulium's API shows and changes them.
//!
//! The URL is shown exactly as it was given, and Basic credentials that were not given are empty
//! texts.

use super::NAME;
use super::refusal::{Fault, ThuliumRefusal};
use super::request::ThuliumRequest;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use postrider_api::{PathId, Registrar};
use postrider_core::{
    AliasForm, BasicAuth, EventPattern, Hook, HookCredentials, HookEdit, HookSettings, NewHook,
    parse_hook_url,
};
use postrider_store::{Error, RegisteredHook};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

const ACTIONS: &str = "actions";
const URL: &str = "subscription_url";
const USER: &str = "http_auth_user";
const PASSWORD: &str = "http_auth_password";

/// A hook.
#[derive(Serialize)]
pub(super) struct ThuliumItem {
    id: u64,
    actions: Vec<String>,
    subscription_url: String,
    http_auth_user: String,
    http_auth_password: String,
}

/// What a body says, member by member; what it leaves out is `None`.
struct Given {
    actions: Option<Vec<EventPattern>>,
    url: Option<String>,
    user: Option<String>,
    password: Option<String>,
}

/// Adds a hook.
pub(super) async fn create(
    State(registrar): State<Arc<Registrar>>,
    call: ThuliumRequest,
) -> Result<Json<ThuliumItem>, ThuliumRefusal> {
    let (given, mut faults) = Given::read(&call.body);
    if !call.body.contains_key(ACTIONS) {
        faults.push(Fault::Actions);
    }
    if !call.body.contains_key(URL) {
        faults.push(Fault::Url("it is missing".into()));
    }
    let (Some(actions), Some(url), true) = (given.actions, given.url, faults.is_empty()) else {
        return Err(call.asked.refused_for_all(faults));
    };
    let hook = NewHook {
        alias: Some(AliasForm::Number.draw(registrar.now())),
        account: call.account.clone(),
        url,
        events: actions,
        profile: NAME.to_owned(),
        settings: HookSettings::default(),
        credentials: HookCredentials {
            basic: basic(
                given.user.unwrap_or_default(),
                given.password.unwrap_or_default(),
            ),
            ..HookCredentials::default()
        },
        at_most: None,
    };
    let made = registrar
        .create(hook, NAME)
        .await
        .map_err(|e| call.asked.refused(e))?;
    let alias = made.alias.unwrap_or_default();
    Ok(Json(find(&registrar, &call, &alias).await?.into()))
}

/// All hooks, in the order of their ids.
pub(super) async fn list(
    State(registrar): State<Arc<Registrar>>,
    call: ThuliumRequest,
) -> Result<Json<Vec<ThuliumItem>>, ThuliumRefusal> {
    let all = registrar.all(NAME, &call.account).await;
    let all = all.map_err(|e| call.asked.refused(e))?;
    let mut items: Vec<ThuliumItem> = all.into_iter().map(ThuliumItem::from).collect();
    items.sort_by_key(|item| item.id);
    Ok(Json(items))
}

/// Shows one hook.
pub(super) async fn show(
    State(registrar): State<Arc<Registrar>>,
    PathId(id): PathId,
    call: ThuliumRequest,
) -> Result<Json<ThuliumItem>, ThuliumRefusal> {
    Ok(Json(find(&registrar, &call, &id).await?.into()))
}

/// Changes what the body names.
pub(super) async fn update(
    State(registrar): State<Arc<Registrar>>,
    PathId(id): PathId,
    call: ThuliumRequest,
) -> Result<Json<ThuliumItem>, ThuliumRefusal> {
    let hook = find(&registrar, &call, &id).await?.hook;
    let (given, faults) = Given::read(&call.body);
    if !faults.is_empty() {
        return Err(call.asked.refused_for_all(faults));
    }
    let names_basic = given.user.is_some() || given.password.is_some();
    let own = hook.credentials.basic;
    let (own_user, own_password) = own.map_or_else(Default::default, |b| (b.user, b.password));
    let edit = HookEdit {
        url: given.url,
        events: given.actions,
        basic: names_basic.then(|| {
            basic(
                given.user.unwrap_or(own_user),
                given.password.unwrap_or(own_password),
            )
        }),
        ..HookEdit::default()
    };
    let edited = registrar.edit(hook.id, edit, NAME).await;
    edited.map_err(|e| call.asked.refused(e))?;
    Ok(Json(find(&registrar, &call, &id).await?.into()))
}

/// Deletes a hook; the answer has no body.
pub(super) async fn delete(
    State(registrar): State<Arc<Registrar>>,
    PathId(id): PathId,
    call: ThuliumRequest,
) -> Result<StatusCode, ThuliumRefusal> {
    let hook = find(&registrar, &call, &id).await?.hook;
    let removed = registrar.remove(hook.id, NAME).await;
    removed.map_err(|e| call.asked.refused(e))?;
    Ok(StatusCode::OK)
}

async fn find(
    registrar: &Registrar,
    call: &ThuliumRequest,
    id: &str,
) -> Result<RegisteredHook, ThuliumRefusal> {
    let found = registrar.find(NAME, &call.account, id).await;
    let found = found.map_err(|e: Error| call.asked.refused(e))?;
    found.ok_or_else(|| call.asked.refused(Fault::NoHook))
}

impl From<RegisteredHook> for ThuliumItem {
    fn from(registered: RegisteredHook) -> Self {
        let Hook {
            alias,
            events,
            url,
            credentials,
            ..
        } = registered.hook;
        let basic = credentials.basic;
        let (user, password) = basic.map_or_else(Default::default, |b| (b.user, b.password));
        Self {
            id: alias
                .and_then(|alias| alias.parse().ok())
                .unwrap_or_default(),
            actions: events.iter().map(ToString::to_string).collect(),
            subscription_url: url,
            http_auth_user: user,
            http_auth_password: password,
        }
    }
}

impl Given {
    /// What the body says, and all that is wrong with it.
    fn read(body: &Map<String, Value>) -> (Self, Vec<Fault>) {
        let mut faults = Vec::new();
        let given = Self {
            actions: body.get(ACTIONS).and_then(|value| match actions(value) {
                Ok(actions) => Some(actions),
                Err(fault) => {
                    faults.push(fault);
                    None
                }
            }),
            url: text(body, URL, &mut faults).filter(|url| match parse_hook_url(url) {
                Ok(_) => true,
                Err(problem) => {
                    faults.push(Fault::Url(problem.to_string()));
                    false
                }
            }),
            user: text(body, USER, &mut faults),
            password: text(body, PASSWORD, &mut faults),
        };
        (given, faults)
    }
}

/// The actions in their order, each once.
fn actions(value: &Value) -> Result<Vec<EventPattern>, Fault> {
    let names = value.as_array().filter(|names| !names.is_empty());
    let mut actions = Vec::new();
    for name in names.ok_or(Fault::Actions)? {
        let action = name.as_str().filter(|name| is_action(name));
        let action: EventPattern = action
            .and_then(|name| name.parse().ok())
            .ok_or(Fault::Action)?;
        if !actions.contains(&action) {
            actions.push(action);
        }
    }
    Ok(actions)
}

fn is_action(name: &str) -> bool {
    let of_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(of_name)
}

/// A member that must be a text; `null` is an empty one.
fn text(body: &Map<String, Value>, name: &'static str, faults: &mut Vec<Fault>) -> Option<String> {
    match body.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Null => Some(String::new()),
        _ => {
            faults.push(Fault::NotText(name));
            None
        }
    }
}

fn basic(user: String, password: String) -> Option<BasicAuth> {
    let is_empty = user.is_empty() && password.is_empty();
    (!is_empty).then_some(BasicAuth { user, password })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn actions_keep_their_order_and_come_once() {
        let read = |value| {
            actions(&value)
                .map(|actions| actions.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            read(json!(["TICKET_CREATED", "AGENT_RINGING", "TICKET_CREATED"])),
            Ok(vec!["TICKET_CREATED".into(), "AGENT_RINGING".into()])
        );
        for bad in [json!([]), json!("TICKET_CREATED"), json!(null), json!({})] {
            assert_eq!(read(bad), Err(Fault::Actions));
        }
        for bad in [
            json!(["ticket"]),
            json!([1]),
            json!(["_A"]),
            json!(["*"]),
            json!([""]),
        ] {
            assert_eq!(read(bad), Err(Fault::Action));
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_body_is_found() {
        let body = json!({
            "actions": [],
            "subscription_url": "ftp://example.pl",
            "http_auth_user": 7,
            "http_auth_password": null,
        });
        let (given, faults) = Given::read(body.as_object().unwrap());
        let [
            Fault::Actions,
            Fault::Url(_),
            Fault::NotText("http_auth_user"),
        ] = faults.as_slice()
        else {
            panic!("{faults:?}");
        };
        assert_eq!(given.password.as_deref(), Some(""));
    }
}
