//! The schemas of hooks in request bodies, for the OpenAPI document.

use crate::hook_body::{PATTERNS_MAX, WAITS_MAX};
use postrider_core::{
    EVENT_TYPE_MAX_BYTES, HOOK_SETTINGS, HOOK_URL_MAX_BYTES, HookSetting, SettingForm,
};
use serde_json::{Value, json};

/// The form of durations: one or more numbers with units, as in `1h 30m`.
const DURATION: &str = "^([0-9]{1,6}(ms|s|m|h|d) ?)+$";

/// The schemas by their names.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let mut new_hook = properties();
    for (name, schema) in [
        (
            "account",
            json!({"type": ["string", "null"], "description": "The account whose events it gets; by default that of the key, otherwise `default`."}),
        ),
        (
            "profile",
            json!({"type": ["string", "null"], "enum": ["standard", null], "description": "The profile, which decides format and retries."}),
        ),
        (
            "secret",
            secret_schema("The signing secret; generated unless given."),
        ),
    ] {
        new_hook[name] = schema;
    }
    let mut overlap = duration_schema();
    overlap["description"] = "How long the old secret also signs; `24h` unless given.".into();
    vec![
        (
            "HookChange",
            json!({
                "type": "object",
                "description": "A change of a hook. A field that is left out stays as it is; \
                                `null` removes what the hook had set.",
                "minProperties": 1,
                "additionalProperties": false,
                "properties": properties(),
            }),
        ),
        (
            "NewHook",
            json!({
                "type": "object",
                "description": "A hook that is being registered.",
                "required": ["url", "events"],
                "additionalProperties": false,
                "properties": new_hook,
            }),
        ),
        (
            "Rotation",
            json!({
                "type": "object",
                "description": "A new secret, and how long the old one also signs.",
                "additionalProperties": false,
                "properties": {
                    "secret": secret_schema("The new secret; generated unless given."),
                    "overlap": overlap,
                },
            }),
        ),
    ]
}

/// The members that a new hook and a change of one have in common.
fn properties() -> Value {
    let mut properties = json!({
        "url": {
            "type": "string",
            "description": "The URL of its deliveries: `http://` or `https://`, without credentials or fragment.",
            "pattern": r"^https?://[^\s@#/?]+(/[^\s#]*)?$",
            "maxLength": HOOK_URL_MAX_BYTES,
            "examples": ["https://example.com/hook"],
        },
        "events": {
            "type": "array",
            "description": "The event types it gets: names such as `invoice.paid`, prefixes such as `invoice.*`, or `*`.",
            "items": {"type": "string", "pattern": r"^(\*|[^\s*]+(\.\*)?)$", "maxLength": EVENT_TYPE_MAX_BYTES},
            "minItems": 1,
            "maxItems": PATTERNS_MAX,
            "examples": [["invoice.*"]],
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
    });
    for setting in HOOK_SETTINGS {
        properties[setting.name] = setting_schema(setting);
    }
    properties
}

fn setting_schema(setting: &HookSetting) -> Value {
    let description = format!("{}. Unless set: {}.", setting.summary, setting.default);
    let mut schema = match setting.form {
        SettingForm::Count => {
            json!({"type": ["integer", "null"], "minimum": 1, "maximum": u32::MAX})
        }
        SettingForm::Duration => duration_schema(),
        SettingForm::Durations => json!({
            "type": ["array", "null"],
            "items": {"type": "string", "pattern": DURATION},
            "maxItems": WAITS_MAX,
            "examples": [["5s", "5m", "1h"]],
        }),
        SettingForm::Rate => json!({
            "type": ["string", "null"],
            "pattern": "^[1-9][0-9]{0,8}/[smh]$",
            "examples": ["20/s", "300/m", "1000/h"],
        }),
        SettingForm::Condition => json!({
            "type": ["string", "null"],
            "examples": ["amount >= 100 && currency == \"EUR\""],
        }),
        SettingForm::Choice(words) => {
            let words = words.iter().map(|word| json!(word));
            let choices: Vec<_> = words.chain([Value::Null]).collect();
            json!({"type": ["string", "null"], "enum": choices})
        }
    };
    schema["description"] = description.into();
    schema
}

fn secret_schema(description: &str) -> Value {
    json!({
        "type": ["string", "null"],
        "pattern": "^wh(sec|sk)_[A-Za-z0-9+/]+=*$",
        "description": format!("{description} `whsec_…` (HMAC-SHA256) or `whsk_…` (ed25519), as in Standard Webhooks."),
    })
}

fn duration_schema() -> Value {
    json!({"type": ["string", "null"], "pattern": DURATION, "examples": ["15s", "24h", "7d"]})
}
