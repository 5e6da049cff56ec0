//! Hooks as callers write and read them.

use crate::access_scope::AccessScope;
use crate::json_fields::Fields;
use crate::problem::{Fault, Problem};
use postrider_core::{
    BasicAuth, BodyForm, EVENT_TYPE_MAX_BYTES, EventPattern, Filter, HOOK_URL_MAX_BYTES,
    HookCredentials, HookEdit, HookId, HookSettings, NewHook, OnFailure, Ordered, Phase, Rate,
    RetrySchedule, SettingsChange, SigningSecret, Span, Timestamp,
};
use postrider_store::HookReport;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::str::FromStr;
use utoipa::ToSchema;

/// The formats that deliveries to a hook of this API can have.
const PROFILES: [&str; 1] = ["standard"];
/// Event patterns of a hook at most.
const PATTERNS_MAX: usize = 100;
/// Waits of a schedule at most.
const WAITS_MAX: usize = 50;
/// How durations are written plainly; several may stand together, as in `1h 30m`.
const DURATION: &str = "^([0-9]{1,6}(ms|s|m|h|d) ?)+$";
/// How long the old secret signs too, unless the caller says.
const OVERLAP: Span = Span::secs(24 * 3600);

/// A hook. The secret is shown when it is made and when it is rotated, never again.
#[derive(Serialize, ToSchema)]
#[schema(as = Hook)]
pub(crate) struct HookBody {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    id: HookId,
    /// The id under which its profile's own API knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    /// Whose events it gets.
    account: String,
    /// Where its deliveries go.
    url: String,
    /// Which events it asks for.
    events: Vec<String>,
    /// Which payloads of these; all when there is none.
    #[schema(value_type = Option<String>, required)]
    filter: Option<Filter>,
    /// The delivery format and policy.
    profile: String,
    /// The signing secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// `active`, `paused` or `disabled`.
    status: String,
    /// Failed attempts in a row.
    fail_count: u32,
    /// When the first of them failed.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    first_failure_at: Option<Timestamp>,
    /// How the last of them failed.
    #[schema(required)]
    last_error: Option<String>,
    /// Whether it is held back because of its failures: `backed_off` or `ramping`.
    #[schema(value_type = Option<String>, required)]
    phase: Option<Phase>,
    /// While it is backed off: nothing is sent before then.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    not_before: Option<Timestamp>,
    /// Why it is disabled: `failures`, `gone` or `manual`.
    #[schema(required)]
    disabled_reason: Option<String>,
    /// When it was disabled.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    disabled_at: Option<Timestamp>,
    /// By whom: `postrider`, `cli`, or `api` and the id of a key.
    #[schema(required)]
    disabled_by: Option<String>,
    /// When it was last sent to, if its profile keeps that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    latest_sent_at: Option<Timestamp>,
    /// What it answered then; none where there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_status: Option<u16>,
    /// Deliveries that wait for it to become active; counted up to 10,000.
    held: u32,
    /// When the event of the oldest of them was made, as far as the longest due ones tell.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    oldest_held_at: Option<Timestamp>,
    /// Requests in flight to it at most, over all workers, if it sets that.
    #[schema(required)]
    in_flight: Option<u32>,
    /// Requests to it in a time at most, such as `20/s`, if it sets that.
    #[schema(value_type = Option<String>, required)]
    rate: Option<Rate>,
    /// Whether it gets the events of one key in their order, one at a time: `key`.
    #[schema(value_type = Option<String>, required)]
    ordered: Option<Ordered>,
    /// What becomes of the events behind one that has failed for good: `hold` or `skip`.
    #[schema(value_type = Option<String>, required)]
    on_failure: Option<OnFailure>,
    /// What else it sets for itself.
    #[schema(value_type = Object)]
    settings: HookSettings,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl HookBody {
    pub(crate) fn id(&self) -> HookId {
        self.id
    }
}

impl From<HookReport> for HookBody {
    fn from(hook: HookReport) -> Self {
        Self {
            id: hook.id,
            alias: hook.alias,
            account: hook.account,
            url: hook.url,
            events: hook.events,
            filter: hook.filter,
            profile: hook.profile,
            secret: hook.secret,
            status: hook.status,
            fail_count: hook.fail_count,
            first_failure_at: hook.first_failure_at,
            last_error: hook.last_error,
            phase: hook.phase,
            not_before: hook.not_before,
            disabled_reason: hook.disabled_reason,
            disabled_at: hook.disabled_at,
            disabled_by: hook.disabled_by,
            latest_sent_at: hook.latest_sent_at,
            latest_status: hook.latest_status,
            held: hook.held,
            oldest_held_at: hook.oldest_held_at,
            in_flight: hook.in_flight,
            rate: hook.rate,
            ordered: hook.ordered,
            on_failure: hook.on_failure,
            settings: hook.settings,
            created_at: hook.created_at,
            updated_at: hook.updated_at,
        }
    }
}

/// A new secret, and how long the old one signs too.
pub(crate) struct Rotation {
    pub(crate) secret: SigningSecret,
    pub(crate) overlap: Span,
}

/// The hook that a body describes.
///
/// # Errors
/// When it is not one, or of an account beyond the caller's reach.
pub(crate) fn new_hook(text: &str, reach: &AccessScope<'_>) -> Result<NewHook, Problem> {
    let mut fields = Fields::of(text)?;
    let url = fields.required("url");
    let events = patterns(&mut fields);
    let account = fields.optional("account");
    let profile = fields.parsed("profile", profile);
    let secret = fields.parsed("secret", SigningSecret::from_str);
    let headers = headers(&mut fields);
    let basic = basic(&mut fields);
    let mut settings = HookSettings::default();
    settings.apply(settings_change(&mut fields));
    let url = fields.complete(url)?;
    let secret = secret.unwrap_or_else(SigningSecret::generate);
    let hook = NewHook {
        alias: None,
        at_most: None,
        account: reach.account_for(account)?,
        url,
        events: events.unwrap_or_default(),
        profile: profile.unwrap_or(PROFILES[0]).to_owned(),
        settings,
        credentials: HookCredentials {
            basic,
            headers: headers.unwrap_or_default(),
            ..HookCredentials::signed_with(secret)
        },
    };
    hook.check()?;
    Ok(hook)
}

/// The change of a hook that a body describes: what it does not name stays as it is.
///
/// # Errors
/// When it is not one, or changes nothing.
pub(crate) fn edit(text: &str) -> Result<HookEdit, Problem> {
    let mut fields = Fields::of(text)?;
    let edit = HookEdit {
        url: fields.optional("url"),
        events: patterns(&mut fields),
        headers: fields
            .change("headers", |fields, _| headers(fields))
            .map(Option::unwrap_or_default),
        basic: fields.change("basic", |fields, _| basic(fields)),
        settings: settings_change(&mut fields),
        ..HookEdit::default()
    };
    let edit = fields.complete(Some(edit))?;
    match edit == HookEdit::default() {
        true => Err(Problem::invalid(vec![Fault::at(
            "",
            "names nothing to change: give at least one field, such as url or filter",
        )])),
        false => Ok(edit),
    }
}

/// The rotation that a body describes.
///
/// # Errors
/// When it is not one.
pub(crate) fn rotation(text: &str) -> Result<Rotation, Problem> {
    let mut fields = Fields::of(text)?;
    let secret = fields.parsed("secret", SigningSecret::from_str);
    let overlap = fields.parsed("overlap", Span::from_str);
    fields.complete(Some(()))?;
    Ok(Rotation {
        secret: secret.unwrap_or_else(SigningSecret::generate),
        overlap: overlap.unwrap_or(OVERLAP),
    })
}

/// What a body says of the hook's own settings; `null` takes one back.
fn settings_change(fields: &mut Fields<'_>) -> SettingsChange {
    SettingsChange {
        body: fields
            .change("body", |f, name| f.parsed(name, body_form))
            .map(Option::unwrap_or_default),
        filter: fields.change("filter", |f, name| f.parsed(name, Filter::from_str)),
        timeout: fields.change("timeout", |f, name| f.parsed(name, Span::from_str)),
        retry_schedule: fields.change("retry_schedule", |f, name| {
            let waits = f.list(name, WAITS_MAX, Span::from_str);
            waits.map(RetrySchedule::new)
        }),
        in_flight: fields.change("in_flight", Fields::optional),
        rate: fields.change("rate", |f, name| f.parsed(name, Rate::from_str)),
        ordered: fields.change("ordered", |f, name| f.parsed(name, ordered)),
        on_failure: fields.change("on_failure", |f, name| f.parsed(name, on_failure)),
        back_off_after: fields.change("back_off_after", Fields::optional),
        disable_after_failures: fields.change("disable_after_failures", Fields::optional),
        disable_after: fields.change("disable_after", |f, name| f.parsed(name, Span::from_str)),
    }
}

fn patterns(fields: &mut Fields<'_>) -> Option<Vec<EventPattern>> {
    fields.list("events", PATTERNS_MAX, EventPattern::from_str)
}

fn headers(fields: &mut Fields<'_>) -> Option<Vec<(String, String)>> {
    let headers: Option<BTreeMap<String, String>> = fields.optional("headers");
    headers.map(|headers| headers.into_iter().collect())
}

fn basic(fields: &mut Fields<'_>) -> Option<BasicAuth> {
    let basic: BasicAuth = fields.optional("basic")?;
    if basic.user.contains(':') {
        fields.refuse(Fault::at(
            "/basic/user",
            "must not hold a colon: HTTP Basic separates user and password by one",
        ));
    }
    Some(basic)
}

fn profile(name: &str) -> Result<&'static str, String> {
    let known = PROFILES.into_iter().find(|known| *known == name);
    known.ok_or_else(|| format!("must be one of {}", PROFILES.join(", ")))
}

fn body_form(name: &str) -> Result<BodyForm, &'static str> {
    match name {
        "envelope" => Ok(BodyForm::Envelope),
        "payload" => Ok(BodyForm::Payload),
        _ => Err("must be envelope or payload"),
    }
}

fn ordered(name: &str) -> Result<Ordered, &'static str> {
    match name {
        "key" => Ok(Ordered::Key),
        _ => Err("must be key, or null for no order"),
    }
}

fn on_failure(name: &str) -> Result<OnFailure, &'static str> {
    match name {
        "hold" => Ok(OnFailure::Hold),
        "skip" => Ok(OnFailure::Skip),
        _ => Err("must be hold or skip"),
    }
}

/// What callers may send, for the document of the API.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let mut new_hook = properties();
    for (name, schema) in [
        (
            "account",
            json!({"type": ["string", "null"], "description": "Whose events it gets: the key's account unless given, else `default`."}),
        ),
        (
            "profile",
            json!({"type": ["string", "null"], "enum": ["standard", null], "description": "The delivery format and policy."}),
        ),
        (
            "secret",
            secret_schema("The signing secret; one is made unless given."),
        ),
    ] {
        new_hook[name] = schema;
    }
    vec![
        (
            "HookChange",
            json!({
                "type": "object",
                "description": "What is to change. A field that is left out stays as it is; \
                                `null` takes back what the hook had set.",
                "minProperties": 1,
                "additionalProperties": false,
                "properties": properties(),
            }),
        ),
        (
            "NewHook",
            json!({
                "type": "object",
                "description": "A hook to be registered.",
                "required": ["url", "events"],
                "additionalProperties": false,
                "properties": new_hook,
            }),
        ),
        (
            "Rotation",
            json!({
                "type": "object",
                "description": "A new secret, and how long the old one signs too.",
                "additionalProperties": false,
                "properties": {
                    "secret": secret_schema("The new secret; one is made unless given."),
                    "overlap": duration_schema("How long the old secret signs too; `24h` unless given."),
                },
            }),
        ),
    ]
}

/// What can be set when a hook is made and changed later.
fn properties() -> Value {
    json!({
        "url": {
            "type": "string",
            "description": "Where its deliveries go: `http://` or `https://`, without credentials or fragment.",
            "pattern": r"^https?://[^\s@#/?]+(/[^\s#]*)?$",
            "maxLength": HOOK_URL_MAX_BYTES,
            "examples": ["https://example.com/hook"],
        },
        "events": {
            "type": "array",
            "description": "Which events it asks for: types such as `invoice.paid`, prefixes such as `invoice.*`, or `*`.",
            "items": {"type": "string", "pattern": r"^(\*|[^\s*]+(\.\*)?)$", "maxLength": EVENT_TYPE_MAX_BYTES},
            "minItems": 1,
            "maxItems": PATTERNS_MAX,
            "examples": [["invoice.*"]],
        },
        "filter": {
            "type": ["string", "null"],
            "description": "Only events whose payload fits this condition.",
            "examples": ["amount >= 100 && currency == \"EUR\""],
        },
        "body": {
            "type": ["string", "null"],
            "enum": ["envelope", "payload", null],
            "description": "What stands in the body: `{type, timestamp, data}`, which is the default, or the payload alone.",
        },
        "headers": {
            "type": ["object", "null"],
            "description": "Extra request headers; they are stored sealed and not shown again.",
            "additionalProperties": {"type": "string"},
        },
        "basic": {
            "type": ["object", "null"],
            "description": "HTTP Basic credentials for the receiver; stored sealed and not shown again.",
            "required": ["user", "password"],
            "properties": {"user": {"type": "string"}, "password": {"type": "string"}},
        },
        "timeout": duration_schema("The deadline of a request; never longer than `worker.request_timeout`."),
        "retry_schedule": {
            "type": ["array", "null"],
            "description": "The waits between attempts; n waits make n + 1 attempts.",
            "items": {"type": "string", "pattern": DURATION},
            "maxItems": WAITS_MAX,
            "examples": [["5s", "5m", "1h"]],
        },
        "in_flight": count_schema("Requests in flight at most, over all workers."),
        "rate": {
            "type": ["string", "null"],
            "description": "Requests in a second, a minute or an hour at most, over all workers.",
            "pattern": "^[1-9][0-9]{0,8}/[smh]$",
            "examples": ["20/s", "300/m", "1000/h"],
        },
        "ordered": {
            "type": ["string", "null"],
            "enum": ["key", null],
            "description": "The events of one ordering key come in their order, one at a time.",
        },
        "on_failure": {
            "type": ["string", "null"],
            "enum": ["hold", "skip", null],
            "description": "If it is ordered: once an event has failed for good, hold those of its key behind it, which is the default, or skip it.",
        },
        "back_off_after": count_schema("Back it off as a whole from so many failures in a row."),
        "disable_after_failures": count_schema("Disable it at so many failures in a row …"),
        "disable_after": duration_schema("… that span at least this time."),
    })
}

fn secret_schema(description: &str) -> Value {
    json!({
        "type": ["string", "null"],
        "pattern": "^wh(sec|sk)_[A-Za-z0-9+/]+=*$",
        "description": format!("{description} `whsec_…` (HMAC-SHA256) or `whsk_…` (ed25519), as in Standard Webhooks."),
    })
}

fn duration_schema(description: &str) -> Value {
    json!({"type": ["string", "null"], "pattern": DURATION, "description": description, "examples": ["15s", "24h", "7d"]})
}

fn count_schema(description: &str) -> Value {
    json!({"type": ["integer", "null"], "minimum": 1, "maximum": u32::MAX, "description": description})
}
