//! What is done to many deliveries of a hook: sent again, or given up.
//!
//! A call does a page of it, so that none takes long however many there are; the caller goes on
//! with the cursor until there is none. The cursor holds the moment of the first call too, which
//! all pages of one walk share. It comes back from outside, so it is believed within bounds only:
//! deliveries become due at that moment.

use crate::access_scope::{Id, Reach};
use crate::hooks::by;
use crate::json_fields::Fields;
use crate::problem::Problem;
use crate::request::{Call, OptionalCall};
use crate::state::ApiState;
use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{Datelike, TimeDelta};
use postrider_core::{EVENT_TYPE_MAX_BYTES, EventPattern, HookId, Timestamp};
use postrider_store::{BulkCursor, BulkPage, BulkPageResult, DeliveryState, Discard, Redelivery};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The times that databases have a place for.
const YEARS: RangeInclusive<i32> = 1..=9999;

/// How long ago the first call of a walk may be.
const WALK_MAX: TimeDelta = TimeDelta::hours(24);
/// How far the clocks of two processes may differ, which both follow the database's.
const SKEW_MAX: TimeDelta = TimeDelta::minutes(1);

/// Deliveries that a call looks at.
const LOOKED_AT: u32 = 1_000;

/// The states in which deliveries can be sent again together; the rest is on its way.
const AGAIN: [DeliveryState; 5] = [
    DeliveryState::Failed,
    DeliveryState::Cancelled,
    DeliveryState::Expired,
    DeliveryState::Delivered,
    DeliveryState::Held,
];

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(redeliver_many))
        .routes(routes!(discard_held))
}

/// What a page came to.
#[derive(Serialize, ToSchema)]
struct Done {
    /// How many deliveries were meant, and changed.
    count: u32,
    /// Give this as `cursor`, beside the same fields, to go on; `null` when all is done.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Where a walk stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Walk {
    now: Timestamp,
    after: Option<BulkCursor>,
}

/// Send many deliveries of a hook again
///
/// The oldest first: a call looks at up to 1,000 of them and answers how many are due now, with
/// their schedules begun anew, and a cursor to go on with. What is pending or in flight is left
/// alone; what belongs to a hook that is not active is held.
#[utoipa::path(
    post, path = "/v1/hooks/{id}/redeliver", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    request_body = ref("#/components/schemas/ManyAgain"),
    responses((status = 200, description = "How many are sent again.", body = Done))
)]
async fn redeliver_many(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    call: Call,
) -> Result<Json<Done>, Problem> {
    let hook = api.hook_of(&call.key, id).await?.id;
    let now = api.clock.now();
    let mut fields = Fields::of(call.text()?)?;
    let state = fields.parsed("state", state_again);
    let since = fields.required("since");
    let until = fields.optional("until");
    let event_type = fields.parsed("event_type", EventPattern::from_str);
    let walk = fields.parsed("cursor", |text| Walk::from_cursor(text, now));
    let since = fields.complete(since)?;
    let which = Redelivery {
        hook,
        state: state.unwrap_or(DeliveryState::Failed),
        since: Some(since),
        until,
        event_type,
    };
    let walk = walk.unwrap_or_else(|| Walk::begun(now));
    let done = api
        .store
        .redeliver_many(&which, walk.page(), walk.now)
        .await;
    Ok(Json(walk.done(api.told(done)?)))
}

/// Discard held deliveries of a hook
///
/// Those that are due longest first: a call ends up to 1,000 of them as cancelled and answers how
/// many, and a cursor to go on with. The hook must not be active. They can still be sent again.
#[utoipa::path(
    post, path = "/v1/hooks/{id}/discard", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    request_body = ref("#/components/schemas/HeldToDiscard"),
    responses((status = 200, description = "How many were discarded.", body = Done))
)]
async fn discard_held(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    OptionalCall(call): OptionalCall,
) -> Result<Json<Done>, Problem> {
    Reach::of(&call.key)?;
    let hook = api.hook_of(&call.key, id).await?.id;
    let now = api.clock.now();
    let mut fields = Fields::of(call.text()?)?;
    let made_before = fields.optional("until");
    let walk = fields.parsed("cursor", |text| Walk::from_cursor(text, now));
    fields.complete(Some(()))?;
    let which = Discard {
        hook,
        made_before,
        by: by(&call.key),
    };
    let walk = walk.unwrap_or_else(|| Walk::begun(now));
    let done = api.store.discard_held(&which, walk.page(), walk.now).await;
    Ok(Json(walk.done(api.told(done)?)))
}

impl Walk {
    fn begun(now: Timestamp) -> Self {
        Self { now, after: None }
    }

    fn page(self) -> BulkPage {
        BulkPage {
            after: self.after,
            limit: LOOKED_AT,
        }
    }

    fn done(self, done: BulkPageResult) -> Done {
        let next = done.next.map(|mark| Self {
            after: Some(mark),
            ..self
        });
        Done {
            count: done.count,
            next_cursor: next.map(Self::into_cursor),
        }
    }

    fn into_cursor(self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }

    /// Reads a cursor at this moment.
    fn from_cursor(cursor: &str, now: Timestamp) -> Result<Self, &'static str> {
        let text = URL_SAFE_NO_PAD.decode(cursor).ok();
        let walk = text.and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        let walk = walk.filter(|walk| {
            let at = walk.after.map_or(walk.now, |mark| mark.at);
            let is_of_today = (now - WALK_MAX..=now + SKEW_MAX).contains(&walk.now);
            is_of_today && YEARS.contains(&at.year())
        });
        walk.ok_or(
            "must be the next_cursor of the call before, as it was given, of a walk that was begun \
             within the last 24 hours",
        )
    }
}

fn state_again(name: &str) -> Result<DeliveryState, String> {
    let known = AGAIN.into_iter().find(|state| state.name() == name);
    known.ok_or_else(|| {
        format!(
            "must be one of {}",
            AGAIN.map(DeliveryState::name).join(", ")
        )
    })
}

/// What callers may send, for the document of the API.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let cursor =
        json!({"type": ["string", "null"], "description": "The `next_cursor` of the call before."});
    let time = |kind: Value, description: &str| json!({"type": kind, "format": "date-time", "description": description});
    let mut states: Vec<Value> = AGAIN.iter().map(|state| json!(state.name())).collect();
    states.push(Value::Null);
    vec![
        (
            "ManyAgain",
            json!({
                "type": "object",
                "description": "Which deliveries of a hook are sent again.",
                "required": ["since"],
                "additionalProperties": false,
                "properties": {
                    "state": {"type": ["string", "null"], "enum": states, "description": "Those in this state; `failed` unless given."},
                    "since": time(json!("string"), "Those of events recorded at this time or later."),
                    "until": time(json!(["string", "null"]), "Those of events recorded before this time."),
                    "event_type": {"type": ["string", "null"], "maxLength": EVENT_TYPE_MAX_BYTES, "description": "Those of events of this type, or below this prefix (`invoice.*`)."},
                    "cursor": cursor,
                },
            }),
        ),
        (
            "HeldToDiscard",
            json!({
                "type": "object",
                "description": "Which held deliveries of a hook are given up.",
                "additionalProperties": false,
                "properties": {
                    "until": time(json!(["string", "null"]), "Those of events recorded before this time; all unless given."),
                    "cursor": cursor,
                },
            }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::DeliveryId;
    use uuid::Uuid;

    #[test]
    fn a_cursor_holds_where_a_walk_stands() {
        let now = "2026-03-02T10:00:00.000001Z".parse().unwrap();
        let mark = BulkCursor {
            at: "2026-03-01T00:00:00.5Z".parse().unwrap(),
            id: DeliveryId(Uuid::from_u128(7)),
        };
        let done = Walk::begun(now).done(BulkPageResult {
            count: 3,
            next: Some(mark),
        });
        let walk = Walk::from_cursor(&done.next_cursor.unwrap(), now).unwrap();
        assert_eq!(walk.now, now);
        assert_eq!(walk.page().after, Some(mark));
        for bad in ["", "e30", "%"] {
            assert!(Walk::from_cursor(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_that_was_changed_makes_nothing_due_long_ago_or_much_later() {
        let now: Timestamp = "2026-03-02T10:00:00Z".parse().unwrap();
        for (begun, is_taken) in [
            ("2026-03-02T10:00:30Z", true),
            ("2026-03-01T10:00:00Z", true),
            ("2026-03-02T10:02:00Z", false),
            ("2026-03-01T09:59:59Z", false),
            ("9999-12-31T23:59:60Z", false),
            ("+262142-12-31T23:59:59Z", false),
            ("-262143-01-01T00:00:00Z", false),
        ] {
            let walk = json!({"now": begun, "after": null}).to_string();
            let walk = Walk::from_cursor(&URL_SAFE_NO_PAD.encode(walk), now);
            assert_eq!(walk.is_ok(), is_taken, "{begun}");
        }
    }

    #[test]
    fn only_what_is_not_on_its_way_is_sent_again() {
        assert_eq!(state_again("held"), Ok(DeliveryState::Held));
        for bad in ["pending", "in_flight", "lost"] {
            assert!(state_again(bad).is_err(), "{bad}");
        }
    }
}
