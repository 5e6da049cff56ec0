//! The representation of events in requests and answers.

use crate::json_fields::Fields;
use crate::problem::{Fault, Problem};
use postrider_core::{EVENT_TYPE_MAX_BYTES, EventId, KEY_MAX_BYTES, Key, NewEvent, Timestamp};
use postrider_store::{EventReport, EventState};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Largest number of events in a batch.
pub(crate) const BATCH_MAX: usize = 1_000;

/// An event.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventBody {
    /// The event's id, which receivers get as `webhook-id`.
    #[schema(value_type = String, format = "uuid")]
    id: EventId,
    /// The account whose hooks get the event.
    account: String,
    /// The event's type.
    event_type: String,
    /// `queued`, `fanned_out` (its deliveries exist) or `rejected`.
    #[schema(value_type = String)]
    state: EventState,
    /// When it happened.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    occurred_at: Option<Timestamp>,
    /// When its deliveries were created; `null` before that.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    fanned_out_at: Option<Timestamp>,
    /// Ordered hooks get the events of one ordering key in order.
    #[schema(required)]
    ordering_key: Option<String>,
    /// A later event of the account with the same key is dropped.
    #[schema(required)]
    dedup_key: Option<String>,
    /// The payload, byte for byte; left out of listings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    payload: Option<Box<RawValue>>,
}

impl From<EventReport> for EventBody {
    fn from(event: EventReport) -> Self {
        Self {
            id: event.id,
            account: event.account,
            event_type: event.event_type,
            state: event.state,
            occurred_at: event.occurred_at,
            fanned_out_at: event.fanned_out_at,
            ordering_key: event.ordering_key,
            dedup_key: event.dedup_key,
            payload: event.payload,
        }
    }
}

/// The event in a request body. The payload is kept byte for byte.
///
/// # Errors
/// When the body is not an event, or names an account that is not the key's.
pub(crate) fn event_of(text: &str, key: &Key) -> Result<NewEvent, Problem> {
    let (mut event, account) = read(Fields::of(text)?).map_err(Problem::invalid)?;
    event.account = key.account_for(account)?;
    Ok(event)
}

/// The events in the body of a batch; `check` examines each of them further.
///
/// # Errors
/// All faults of all events, each with its JSON pointer.
pub(crate) fn events_of(
    text: &str,
    key: &Key,
    check: impl Fn(&NewEvent) -> Result<(), Fault>,
) -> Result<Vec<NewEvent>, Problem> {
    let mut fields = Fields::of(text)?;
    let values = fields.required::<Vec<&RawValue>>("events");
    let values = fields.complete(values)?;
    if values.is_empty() || values.len() > BATCH_MAX {
        let detail = format!(
            "must hold 1 to {BATCH_MAX} events; there are {}",
            values.len()
        );
        return Err(Problem::invalid(vec![Fault::at("/events", detail)]));
    }
    let (mut events, mut faults) = (Vec::with_capacity(values.len()), Vec::new());
    for (place, value) in values.into_iter().enumerate() {
        match one_of(value, key, &check) {
            Ok(event) => events.push(event),
            Err(wrong) => {
                let place = format!("/events/{place}");
                faults.extend(wrong.into_iter().map(|fault| fault.below(&place)));
            }
        }
    }
    match faults.is_empty() {
        true => Ok(events),
        false => Err(Problem::invalid(faults)),
    }
}

fn one_of(
    value: &RawValue,
    key: &Key,
    check: impl Fn(&NewEvent) -> Result<(), Fault>,
) -> Result<NewEvent, Vec<Fault>> {
    let fields = Fields::within(value).map_err(|fault| vec![fault])?;
    let (mut event, account) = read(fields)?;
    event.account = key
        .account_for(account)
        .map_err(|error| vec![Fault::at("/account", error.to_string())])?;
    match check(&event) {
        Ok(()) => Ok(event),
        Err(fault) => Err(vec![fault]),
    }
}

/// An event without its account, and the account named in the body.
fn read(mut fields: Fields<'_>) -> Result<(NewEvent, Option<String>), Vec<Fault>> {
    let event_type = fields.required::<String>("event_type");
    let payload = fields.required::<&RawValue>("payload");
    let account = fields.optional("account");
    let ordering_key = fields.optional("ordering_key");
    let dedup_key = fields.optional("dedup_key");
    let deliver_after = fields.optional("deliver_after");
    let occurred_at = fields.optional("occurred_at");
    let headers: Option<BTreeMap<String, String>> = fields.optional("headers");
    let (event_type, payload) = fields.end(event_type.zip(payload))?;
    let event = NewEvent {
        account: String::new(),
        event_type,
        payload: payload.to_owned(),
        ordering_key,
        dedup_key,
        deliver_after,
        occurred_at,
        headers: headers.map(|headers| json!(headers).to_string()),
    };
    Ok((event, account))
}

/// The schemas of request bodies, for the OpenAPI document.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let key = |description: &str| json!({"type": ["string", "null"], "minLength": 1, "maxLength": KEY_MAX_BYTES, "description": description});
    let time = |description: &str| json!({"type": ["string", "null"], "format": "date-time", "description": description});
    let id = json!({"type": "string", "format": "uuid", "description": "The event's id, which receivers get as `webhook-id`."});
    vec![
        (
            "NewEvent",
            json!({
                "type": "object",
                "description": "An event to publish. `null` means the same as a missing field, except for the payload.",
                "required": ["event_type", "payload"],
                "additionalProperties": false,
                "properties": {
                    "event_type": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": EVENT_TYPE_MAX_BYTES,
                        "description": "The event's type; `postrider.*` is reserved.",
                        "examples": ["invoice.paid"],
                    },
                    "payload": {
                        "description": "Any JSON, at most 512 KiB; stored, signed and sent byte for byte.",
                        "examples": [{"id": 1}],
                    },
                    "account": key("The account whose hooks get the event: by default the key's account, else `default`."),
                    "ordering_key": key("Ordered hooks get the events of one ordering key in order."),
                    "dedup_key": key("A second event of the account with this key is dropped."),
                    "deliver_after": time("Earliest time of delivery; within `retention.events` from now."),
                    "occurred_at": time("When it happened; now by default."),
                    "headers": {
                        "type": ["object", "null"],
                        "description": "Extra headers of the requests that deliver it.",
                        "additionalProperties": {"type": "string"},
                    },
                },
            }),
        ),
        (
            "NewEvents",
            json!({
                "type": "object",
                "description": "Events to publish together.",
                "required": ["events"],
                "additionalProperties": false,
                "properties": {
                    "events": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": BATCH_MAX,
                        "items": {"$ref": "#/components/schemas/NewEvent"},
                    },
                },
            }),
        ),
        (
            "Published",
            json!({
                "type": "object",
                "description": "The id of a recorded event.",
                "required": ["id"],
                "properties": {"id": id},
            }),
        ),
        (
            "PublishedEvents",
            json!({
                "type": "object",
                "description": "The ids of recorded events.",
                "required": ["ids"],
                "properties": {
                    "ids": {"type": "array", "items": id, "description": "In the order of the events."},
                },
            }),
        ),
    ]
}
