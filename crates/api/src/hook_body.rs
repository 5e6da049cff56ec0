//! The JSON of hooks in requests and answers.

use crate::access_scope::AccessScope;
use crate::json_fields::Fields;
use crate::problem::{Fault, Problem};
use postrider_core::{
    BasicAuth, EventPattern, Filter, HOOK_SETTINGS, HookCredentials, HookEdit, HookId,
    HookSettings, NewHook, OnFailure, Ordered, Phase, Rate, SettingForm, SettingsChange,
    SigningSecret, Span, Timestamp,
};
use postrider_store::HookReport;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::str::FromStr;
use utoipa::ToSchema;

/// The profiles of hooks that this API registers.
const PROFILES: [&str; 1] = ["standard"];
/// The largest number of event patterns of a hook.
pub(crate) const PATTERNS_MAX: usize = 100;
/// The largest number of waits in a retry schedule.
pub(crate) const WAITS_MAX: usize = 50;
/// How long the old secret also signs by default.
const OVERLAP: Span = Span::secs(24 * 3600);

/// A hook. The secret is shown when it is made and when it is rotated, never again.
#[derive(Serialize, ToSchema)]
#[schema(as = Hook)]
pub(crate) struct HookBody {
    /// The id, drawn when the hook was registered.
    #[schema(value_type = String, format = "uuid")]
    id: HookId,
    /// The id in the API of its profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    /// The account whose events it gets.
    account: String,
    /// The URL of its deliveries.
    url: String,
    /// The event types it gets.
    events: Vec<String>,
    /// The condition on payloads; `null` for every payload.
    #[schema(value_type = Option<String>, required)]
    filter: Option<Filter>,
    /// The profile, which decides format and retries.
    profile: String,
    /// The signing secret, in answers that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// `active`, `paused` or `disabled`.
    status: String,
    /// Failed attempts in a row.
    fail_count: u32,
    /// When the first of these attempts ended.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    first_failure_at: Option<Timestamp>,
    /// How the last of these attempts failed.
    #[schema(required)]
    last_error: Option<String>,
    /// `backed_off` or `ramping` while it is held back because of its failures.
    #[schema(value_type = Option<String>, required)]
    phase: Option<Phase>,
    /// While it is backed off: the earliest time of the next probe.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    not_before: Option<Timestamp>,
    /// The reason for disabling: `failures`, `gone` or `manual`.
    #[schema(required)]
    disabled_reason: Option<String>,
    /// The time of disabling.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    disabled_at: Option<Timestamp>,
    /// The actor: `postrider`, `cli`, or `api` and the id of a key.
    #[schema(required)]
    disabled_by: Option<String>,
    /// The time of the latest request, if its profile records that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    latest_sent_at: Option<Timestamp>,
    /// The status of the latest answer; left out when there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_status: Option<u16>,
    /// Deliveries that wait until it is active; counted up to 10,000.
    held: u32,
    /// The time of the oldest event among the hundred that are due longest.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    oldest_held_at: Option<Timestamp>,
    /// Its setting `in_flight`; `null` without one.
    #[schema(required)]
    in_flight: Option<u32>,
    /// Its setting `rate`, such as `20/s`; `null` without one.
    #[schema(value_type = Option<String>, required)]
    rate: Option<Rate>,
    /// Its setting `ordered`: `key`, or `null` for any order.
    #[schema(value_type = Option<String>, required)]
    ordered: Option<Ordered>,
    /// Its setting `on_failure`: `hold` or `skip`; `null` when it is not ordered.
    #[schema(value_type = Option<String>, required)]
    on_failure: Option<OnFailure>,
    /// All its settings except for the filter. Settings that it does not have are left out.
    #[schema(value_type = Object)]
    settings: HookSettings,
    /// The time of registration.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The time of the last change.
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
            in_flight: hook.settings.in_flight,
            rate: hook.settings.rate,
            ordered: hook.settings.ordered,
            on_failure: hook.settings.after_failure(),
            settings: hook.settings,
            created_at: hook.created_at,
            updated_at: hook.updated_at,
        }
    }
}

/// A new secret, and how long the old one also signs.
pub(crate) struct Rotation {
    pub(crate) secret: SigningSecret,
    pub(crate) overlap: Span,
}

/// Reads a hook that is being registered.
///
/// # Errors
/// When a member is wrong, or the caller's scope does not include the account.
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

/// Reads a change of a hook. Members that the body does not name stay as they are.
///
/// # Errors
/// When a member is wrong, or the body names nothing.
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

/// Reads a rotation of the secret.
///
/// # Errors
/// When a member is wrong.
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

/// The settings that a body changes; `null` removes what the hook had set.
fn settings_change(fields: &mut Fields<'_>) -> SettingsChange {
    let mut change = SettingsChange::default();
    for setting in HOOK_SETTINGS {
        let value = fields.change(setting.name, |fields, name| {
            setting_value(fields, name, setting.form)
        });
        let Some(value) = value else { continue };
        if let Err(error) = setting.set(&mut change, value.unwrap_or_default()) {
            fields.refuse(Fault::at(format!("/{}", error.field), error.why));
        }
    }
    change
}

fn setting_value(fields: &mut Fields<'_>, name: &'static str, form: SettingForm) -> Option<Value> {
    match form {
        SettingForm::Count => fields.optional::<u32>(name).map(Value::from),
        SettingForm::Durations => {
            let waits = fields.list(name, WAITS_MAX, Span::from_str)?;
            Some(json!(waits))
        }
        SettingForm::Duration
        | SettingForm::Rate
        | SettingForm::Condition
        | SettingForm::Choice(_) => fields.optional::<String>(name).map(Value::from),
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
            "must not contain a colon, which separates user and password in HTTP Basic",
        ));
    }
    Some(basic)
}

fn profile(name: &str) -> Result<&'static str, String> {
    let known = PROFILES.into_iter().find(|known| *known == name);
    known.ok_or_else(|| format!("must be one of {}", PROFILES.join(", ")))
}
