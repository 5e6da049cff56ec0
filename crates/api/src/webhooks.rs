//! The requests that receivers get, for the OpenAPI document.

use postrider_core::{DELIVERY_FAILED, HOOK_DISABLED, HOOK_ENABLED, HOOK_WARNING};
use serde_json::{Map, Value, json};

/// The requests to hooks of the profile `standard`: any event, and the operational events.
pub(crate) fn webhooks() -> Value {
    let any = json!({"description": "The payload, byte for byte as it was published."});
    let hook = json!({"$ref": "#/components/schemas/HookNotice"});
    let delivery = json!({"$ref": "#/components/schemas/DeliveryNotice"});
    let mut webhooks = Map::new();
    for (name, summary, data) in [
        ("delivery", "An event, delivered to a hook", &any),
        (
            HOOK_WARNING,
            "A hook has reached half of its failure limit",
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

/// The schemas of the operational events' data.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let id =
        |description: &str| json!({"type": "string", "format": "uuid", "description": description});
    let text = |description: &str| json!({"type": "string", "description": description});
    let perhaps =
        |description: &str| json!({"type": ["string", "null"], "description": description});
    let count =
        |description: &str| json!({"type": "integer", "minimum": 0, "description": description});
    let time = |kind: Value, description: &str| json!({"type": kind, "format": "date-time", "description": description});
    let url = text("The hook's URL, without parts that may be credentials.");
    vec![
        (
            "HookNotice",
            json!({
                "type": "object",
                "description": "The data of an operational event about a hook.",
                "properties": {
                    "hook_id": id("The hook's id."),
                    "url": url,
                    "reason": perhaps("The reason: `failures`, `gone` or `manual`; `null` when the hook was enabled."),
                    "fail_count": count("Failed attempts in a row; when the hook was enabled, their number before."),
                    "first_failure_at": time(json!(["string", "null"]), "Time of the first of these failures."),
                    "last_error": perhaps("Error of the last of these failures."),
                    "by": text("Who changed the hook: `postrider`, `cli`, or `api` and the id of a key."),
                    "at": time(json!("string"), "When."),
                },
            }),
        ),
        (
            "DeliveryNotice",
            json!({
                "type": "object",
                "description": "The data of an operational event about a delivery.",
                "properties": {
                    "delivery_id": id("The delivery's id."),
                    "event_id": id("The id of the delivered event."),
                    "event_type": text("The type of that event."),
                    "hook_id": id("The id of the hook."),
                    "url": url,
                    "reason": text("The reason: `exhausted`, `gone` or `refused`."),
                    "attempts": count("Number of attempts made."),
                    "last_error": text("Error of the last attempt."),
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
            "Signed according to Standard Webhooks. Each event arrives at least once: `webhook-id` \
             identifies repeats. Redirects are not followed."
        }
        _ => "An operational event, for hooks that subscribe to it by name or by `postrider.*`.",
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
                "description": "Hooks with the body `payload` get the value of `data` only.",
                "required": ["type", "timestamp", "data"],
                "properties": {
                    "type": {"type": "string", "description": "The event's type.", "examples": ["invoice.paid"]},
                    "timestamp": {"type": "string", "format": "date-time", "description": "When it happened."},
                    "data": data,
                },
            }}},
        },
        "responses": {
            "2XX": {"description": "Accepted."},
            "410": {"description": "The receiver is gone: the hook is disabled at once."},
            "429": {"description": "Throttled: no requests are sent to the hook for the time in `Retry-After`."},
            "503": {"description": "Throttled, as with 429."},
            "default": {"description": "Not accepted: the delivery is attempted again according to its retry schedule."},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::OPERATIONAL_TYPES;

    #[test]
    fn every_operational_event_is_described() {
        let webhooks = webhooks();
        for name in OPERATIONAL_TYPES {
            let schema = "/post/requestBody/content/application~1json/schema";
            assert!(webhooks[name].pointer(schema).is_some(), "{name}");
        }
    }
}
