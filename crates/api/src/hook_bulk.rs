//! Bulk operations on the deliveries of a hook: redelivering and discarding.
//!
//! One call handles one page, so that its duration is bounded; the caller repeats it with the
//! returned cursor until there is none. The cursor also holds the time of the first call, which all
//! pages of one walk share and at which redelivered deliveries become due. The cursor is untrusted
//! input: that time is accepted within bounds only.

use crate::access_scope::{AccessScope, Id};
use crate::hooks::by;
use crate::json_fields::Fields;
use crate::problem::Problem;
use crate::request::{ApiRequest, OptionalBody};
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

/// The years that both databases can store.
const YEARS: RangeInclusive<i32> = 1..=9999;

/// Longest time between the first call of a walk and a later one.
const WALK_MAX: TimeDelta = TimeDelta::hours(24);
/// Largest difference between the clocks of two processes that both follow the database's clock.
const SKEW_MAX: TimeDelta = TimeDelta::minutes(1);

/// Deliveries that one call examines.
const LOOKED_AT: u32 = 1_000;

/// The states in which deliveries can be redelivered in bulk; in all others they are still due.
const AGAIN: [DeliveryState; 5] = [
    DeliveryState::Failed,
    DeliveryState::Cancelled,
    DeliveryState::Expired,
    DeliveryState::Delivered,
    DeliveryState::Held,
];

/// The routes of the bulk operations, with their documentation.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(redeliver_many))
        .routes(routes!(discard_held))
}

/// The result of one call.
#[derive(Serialize, ToSchema)]
#[schema(as = Done)]
struct BulkAnswer {
    /// Number of deliveries changed.
    count: u32,
    /// Send this as `cursor` with the same fields to continue; `null` when all is done.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// The content of a cursor: the time of the first call, and the last delivery examined.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Walk {
    now: Timestamp,
    after: Option<BulkCursor>,
}

/// Send many deliveries of a hook again
///
/// Oldest first. One call examines up to 1,000 deliveries and returns how many of them became due,
/// with their retry schedules started again, and a cursor to continue. Pending deliveries and those
/// in flight are not changed; deliveries of a hook that is not active are held.
#[utoipa::path(
    post, path = "/v1/hooks/{id}/redeliver", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    request_body = ref("#/components/schemas/ManyAgain"),
    responses((status = 200, description = "The number of deliveries sent again.", body = BulkAnswer))
)]
async fn redeliver_many(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    call: ApiRequest,
) -> Result<Json<BulkAnswer>, Problem> {
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
/// Longest due first. One call cancels up to 1,000 deliveries and returns their number and a cursor
/// to continue. The hook must not be active. Discarded deliveries can still be sent again.
#[utoipa::path(
    post, path = "/v1/hooks/{id}/discard", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    request_body = ref("#/components/schemas/HeldToDiscard"),
    responses((status = 200, description = "The number of deliveries discarded.", body = BulkAnswer))
)]
async fn discard_held(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    OptionalBody(call): OptionalBody,
) -> Result<Json<BulkAnswer>, Problem> {
    AccessScope::of(&call.key)?;
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

    fn done(self, done: BulkPageResult) -> BulkAnswer {
        let next = done.next.map(|mark| Self {
            after: Some(mark),
            ..self
        });
        BulkAnswer {
            count: done.count,
            next_cursor: next.map(Self::into_cursor),
        }
    }

    fn into_cursor(self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }

    /// Decodes a cursor, and checks its times against `now`.
    fn from_cursor(cursor: &str, now: Timestamp) -> Result<Self, &'static str> {
        let text = URL_SAFE_NO_PAD.decode(cursor).ok();
        let walk = text.and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        let walk = walk.filter(|walk| {
            let at = walk.after.map_or(walk.now, |mark| mark.at);
            let is_of_today = (now - WALK_MAX..=now + SKEW_MAX).contains(&walk.now);
            is_of_today && YEARS.contains(&at.year())
        });
        walk.ok_or(
            "must be the unchanged next_cursor of the previous call, of a walk that began within the \
             last 24 hours",
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

/// The schemas of request bodies, for the OpenAPI document.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let cursor = json!({"type": ["string", "null"], "description": "The `next_cursor` of the previous call."});
    let time = |kind: Value, description: &str| json!({"type": kind, "format": "date-time", "description": description});
    let mut states: Vec<Value> = AGAIN.iter().map(|state| json!(state.name())).collect();
    states.push(Value::Null);
    vec![
        (
            "ManyAgain",
            json!({
                "type": "object",
                "description": "The deliveries of a hook to send again.",
                "required": ["since"],
                "additionalProperties": false,
                "properties": {
                    "state": {"type": ["string", "null"], "enum": states, "description": "Deliveries in this state; `failed` by default."},
                    "since": time(json!("string"), "Deliveries of events recorded at this time or later."),
                    "until": time(json!(["string", "null"]), "Deliveries of events recorded before this time."),
                    "event_type": {"type": ["string", "null"], "maxLength": EVENT_TYPE_MAX_BYTES, "description": "Deliveries of events of this type, or of types with this prefix (`invoice.*`)."},
                    "cursor": cursor,
                },
            }),
        ),
        (
            "HeldToDiscard",
            json!({
                "type": "object",
                "description": "The held deliveries of a hook to discard.",
                "additionalProperties": false,
                "properties": {
                    "until": time(json!(["string", "null"]), "Deliveries of events recorded before this time; all by default."),
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
    fn a_cursor_holds_the_position_of_a_walk() {
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
    fn deliveries_that_are_still_due_are_not_sent_again() {
        assert_eq!(state_again("held"), Ok(DeliveryState::Held));
        for bad in ["pending", "in_flight", "lost"] {
            assert!(state_again(bad).is_err(), "{bad}");
        }
    }
}
