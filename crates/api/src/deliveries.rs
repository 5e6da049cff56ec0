//! `/v1/deliveries`: listing deliveries and their attempts, redelivering and discarding.

use crate::access_scope::{AccessScope, Id};
use crate::attempt_body::AttemptBody;
use crate::page::{Listing, Page, PageOf};
use crate::params::Params;
use crate::problem::{Problem, not_found};
use crate::request::Caller;
use crate::state::ApiState;
use axum::Json;
use axum::extract::State;
use postrider_core::{DeliveryId, EventId, HookId, Key, Timestamp};
use postrider_store::{DeliveryFilter, DeliveryReport, DeliveryState};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this resource, with their documentation.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(list_deliveries))
        .routes(routes!(show_delivery))
        .routes(routes!(list_attempts))
        .routes(routes!(redeliver))
        .routes(routes!(discard))
}

/// One event for one hook.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
struct DeliveryBody {
    /// The delivery's id.
    #[schema(value_type = String, format = "uuid")]
    id: DeliveryId,
    /// The event's id, which the receiver gets as `webhook-id`.
    #[schema(value_type = String, format = "uuid")]
    event_id: EventId,
    /// The hook's id.
    #[schema(value_type = String, format = "uuid")]
    hook_id: HookId,
    /// The account of the event.
    account: String,
    /// The event's type.
    event_type: String,
    /// `pending`, `in_flight`, `held`, `delivered`, `failed`, `cancelled` or `expired`.
    #[schema(value_type = String)]
    state: DeliveryState,
    /// Number of attempts made.
    attempts: u32,
    /// Time of the next attempt; `null` when the delivery has ended, is in flight, or is blocked by
    /// its predecessor.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    next_attempt_at: Option<Timestamp>,
    /// Why it ended without being delivered; `behind` while an earlier delivery of its ordering key
    /// blocks it.
    #[schema(required)]
    reason: Option<String>,
}

impl From<DeliveryReport> for DeliveryBody {
    fn from(delivery: DeliveryReport) -> Self {
        Self {
            id: delivery.id,
            event_id: delivery.event_id,
            hook_id: delivery.hook_id,
            account: delivery.account,
            event_type: delivery.event_type,
            state: delivery.state,
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at,
            reason: delivery.reason,
        }
    }
}

/// All attempts of one delivery.
#[derive(Serialize, ToSchema)]
struct Attempts {
    /// The attempts, oldest first.
    data: Vec<AttemptBody>,
}

/// List deliveries, newest first
///
/// Deliveries in any state. `since` and `until` refer to the time when the event was recorded.
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "Deliveries",
    params(
        ("hook" = Option<String>, Query, description = "Only deliveries to this hook.", format = "uuid"),
        ("event" = Option<String>, Query, description = "Only deliveries of this event.", format = "uuid"),
        ("state" = Option<String>, Query, description = "Only deliveries in this state: `pending`, `in_flight`, `held`, `delivered`, `failed`, `cancelled` or `expired`."),
        ("account" = Option<String>, Query, description = "Only deliveries of this account."),
        ("since" = Option<String>, Query, description = "Only deliveries of events recorded at this time or later (RFC 3339).", format = DateTime),
        ("until" = Option<String>, Query, description = "Only deliveries of events recorded before this time (RFC 3339).", format = DateTime),
        ("limit" = Option<u32>, Query, description = "Largest number of entries; 50 by default.", minimum = 1, maximum = 250),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ),
    responses((status = 200, description = "A page of deliveries.", body = Page<DeliveryBody>))
)]
async fn list_deliveries(
    State(api): State<Arc<ApiState>>,
    mut params: Params,
    caller: Caller,
) -> Result<Json<Page<DeliveryBody>>, Problem> {
    let scope = AccessScope::of(&caller.key)?;
    let page = PageOf::read(&mut params, Listing::Deliveries);
    let (hook, event) = (params.id("hook"), params.id("event"));
    let state = params.read("state", |name| {
        DeliveryState::from_name(name).ok_or_else(|| {
            let names = DeliveryState::ALL.map(DeliveryState::name);
            format!("must be one of {}", names.join(", "))
        })
    });
    let account = params.text("account");
    let (since, until) = (params.time("since"), params.time("until"));
    params.complete()?;
    let filter = DeliveryFilter {
        hook,
        event,
        state,
        account: scope.listed(account)?,
        since,
        until,
        before: page.after.map(DeliveryId),
        limit: page.ask_for(),
    };
    let found = api.told(api.store.deliveries(filter).await)?;
    Ok(Json(
        page.of(found, |delivery: &DeliveryReport| delivery.id.0),
    ))
}

/// Show a delivery
#[utoipa::path(
    get, path = "/v1/deliveries/{id}", tag = "Deliveries",
    params(("id" = String, Path, description = "The delivery's id.", format = "uuid")),
    responses((status = 200, description = "The delivery.", body = DeliveryBody))
)]
async fn show_delivery(
    State(api): State<Arc<ApiState>>,
    id: Id<DeliveryId>,
    caller: Caller,
) -> Result<Json<DeliveryBody>, Problem> {
    Ok(Json(api.delivery_of(&caller.key, id).await?.into()))
}

/// List the attempts of a delivery
///
/// Each attempt shows what the receiver answered.
#[utoipa::path(
    get, path = "/v1/deliveries/{id}/attempts", tag = "Deliveries",
    params(("id" = String, Path, description = "The delivery's id.", format = "uuid")),
    responses((status = 200, description = "The attempts, oldest first.", body = Attempts))
)]
async fn list_attempts(
    State(api): State<Arc<ApiState>>,
    id: Id<DeliveryId>,
    caller: Caller,
) -> Result<Json<Attempts>, Problem> {
    let delivery = api.delivery_of(&caller.key, id).await?;
    let attempts = api.told(api.store.attempts(delivery.id).await)?;
    let data = attempts.into_iter().map(AttemptBody::from).collect();
    Ok(Json(Attempts { data }))
}

/// Send a delivery again
///
/// The delivery becomes due now, whether it is waiting or has ended, and its retry schedule starts
/// again. A delivery in flight, or one whose hook was deleted, answers 409.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/redeliver", tag = "Deliveries",
    params(("id" = String, Path, description = "The delivery's id.", format = "uuid")),
    responses((status = 200, description = "The delivery as it now is.", body = DeliveryBody))
)]
async fn redeliver(
    State(api): State<Arc<ApiState>>,
    id: Id<DeliveryId>,
    caller: Caller,
) -> Result<Json<DeliveryBody>, Problem> {
    let delivery = api.delivery_of(&caller.key, id).await?;
    let again = api.store.redeliver(delivery.id, api.clock.now()).await;
    Ok(Json(api.told(again)?.into()))
}

/// Discard a delivery
///
/// A waiting or held delivery is cancelled with the reason `discarded`; it can still be sent again.
/// A delivery that is in flight or has ended answers 409, except a failed one that blocks later
/// deliveries of its ordering key.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/discard", tag = "Deliveries",
    params(("id" = String, Path, description = "The delivery's id.", format = "uuid")),
    responses((status = 200, description = "The delivery as it now is.", body = DeliveryBody))
)]
async fn discard(
    State(api): State<Arc<ApiState>>,
    id: Id<DeliveryId>,
    caller: Caller,
) -> Result<Json<DeliveryBody>, Problem> {
    let delivery = api.delivery_of(&caller.key, id).await?;
    let discarded = api.store.discard(delivery.id, api.clock.now()).await;
    Ok(Json(api.told(discarded)?.into()))
}

impl ApiState {
    /// The delivery with this id.
    ///
    /// # Errors
    /// 404 when there is none, or when it is outside the caller's scope.
    async fn delivery_of(&self, key: &Key, id: Id<DeliveryId>) -> Result<DeliveryReport, Problem> {
        let scope = AccessScope::of(key)?;
        let id = id.known()?;
        let delivery = self.told(self.store.delivery(id).await)?;
        match scope.includes(&delivery.account) {
            true => Ok(delivery),
            false => Err(not_found("delivery", &id.to_string())),
        }
    }
}
