//! What receivers are sent, for the document of the API.

use postrider_core::{DELIVERY_FAILED, HOOK_DISABLED, HOOK_ENABLED, HOOK_WARNING};
use serde_json::{Map, Value, json};

/// The requests that hooks of the profile `standard` get: any event, and Postrider's own.
pub(crate) fn webhooks() -> Value {
    let any = json!({"description": "The payload, byte for byte as it was published."});
    let hook = json!({"$ref": "#/components/schemas/HookNotice"});
    let delivery = json!({"$ref": "#/components/schemas/DeliveryNotice"});
    let mut webhooks = Map::new();
    for (name, summary, data) in [
        ("delivery", "An event, delivered to a hook", &any),
        (
            HOOK_WARNING,
            "A hook is half of the way to being disabled",
            &hook,
        ),
        (HOOK_DISABLED, "A hook was disabled", &hook),
        (HOOK_ENABLED, "A hook is active again", &hook),
        (DELIVERY_FAILED, "A delivery has failed for good", &delivery),
    ] {
        webhooks.insert(name.into(), json!({"post": request(name, summary, data)}));
    }
    Value::Object(webhooks)
}

/// What the events of Postrider itself say.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let id =
        |description: &str| json!({"type": "string", "format": "uuid", "description": description});
    let text = |description: &str| json!({"type": "string", "description": description});
    let perhaps =
        |description: &str| json!({"type": ["string", "null"], "description": description});
    let count =
        |description: &str| json!({"type": "integer", "minimum": 0, "description": description});
    let time = |kind: Value, description: &str| json!({"type": kind, "format": "date-time", "description": description});
    let url = text("Where its deliveries go, without what may be a credential.");
    vec![
        (
            "HookNotice",
            json!({
                "type": "object",
                "description": "What an event about a hook says.",
                "properties": {
                    "hook_id": id("Which hook."),
                    "url": url,
                    "reason": perhaps("Why: `failures`, `gone` or `manual`; `null` when it was enabled."),
                    "fail_count": count("Failed attempts in a row; when it was enabled, those that are forgotten now."),
                    "first_failure_at": time(json!(["string", "null"]), "When the first of them failed."),
                    "last_error": perhaps("How the last of them failed."),
                    "by": text("Who changed the hook: `postrider`, `cli`, or `api` and the id of a key."),
                    "at": time(json!("string"), "When."),
                },
            }),
        ),
        (
            "DeliveryNotice",
            json!({
                "type": "object",
                "description": "What an event about a delivery says.",
                "properties": {
                    "delivery_id": id("Which delivery."),
                    "event_id": id("Of which event."),
                    "event_type": text("The type of that event."),
                    "hook_id": id("To which hook."),
                    "url": url,
                    "reason": text("Why: `exhausted`, `gone` or `refused`."),
                    "attempts": count("Attempts made."),
                    "last_error": text("How the last of them failed."),
                    "at": time(json!("string"), "When."),
                },
            }),
        ),
    ]
}

fn request(name: &str, summary: &str, data: &Value) -> Value {
    let header = |name: &str, description: &str| json!({"name": name, "in": "header", "required": true, "description": description, "schema": {"type": "string"}});
    let about = match name {
        "delivery" => {
            "Signed as Standard Webhooks has it. Each event arrives at least once: `webhook-id` \
             tells a repeat. Redirects are not followed."
        }
        _ => {
            "One of Postrider's own events, for hooks that ask for it by name or by `postrider.*`."
        }
    };
    json!({
        "tags": ["Webhooks"],
        "operationId": name,
        "summary": summary,
        "description": about,
        "security": [],
        "parameters": [
            header("webhook-id", "The event's id: the same in every attempt."),
            header("webhook-timestamp", "When the attempt was made, in seconds since 1970."),
            header("webhook-signature", "`v1,` and the HMAC-SHA256 (or `v1a,` and the ed25519 signature) of id, timestamp and body, separated by full stops; several, separated by spaces, while a secret is rotated."),
        ],
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": {
                "type": "object",
                "description": "Hooks with the body `payload` get what stands under `data` alone.",
                "required": ["type", "timestamp", "data"],
                "properties": {
                    "type": {"type": "string", "description": "What happened.", "examples": ["invoice.paid"]},
                    "timestamp": {"type": "string", "format": "date-time", "description": "When it happened."},
                    "data": data,
                },
            }}},
        },
        "responses": {
            "2XX": {"description": "Taken."},
            "410": {"description": "The receiver wants no more: the hook is disabled at once."},
            "429": {"description": "Too many: the hook is left alone, as long as `Retry-After` says."},
            "503": {"description": "Busy: as with 429."},
            "default": {"description": "Not taken: the delivery is attempted again by its schedule."},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::OPERATIONAL_TYPES;

    #[test]
    fn every_event_of_ours_is_described() {
        let webhooks = webhooks();
        for name in OPERATIONAL_TYPES {
            let schema = "/post/requestBody/content/application~1json/schema";
            assert!(webhooks[name].pointer(schema).is_some(), "{name}");
        }
    }
}
