//! `/v1/events`: publishing and reading events.
//!
//! The hard rule: a publisher gets a success answer only after the commit that contains its
//! events.

use crate::access_scope::{AccessScope, Id};
use crate::event_body::{EventBody, event_of, events_of};
use crate::idempotency;
use crate::page::{Listing, Page, PageOf};
use crate::params::Params;
use crate::problem::{Fault, Problem, not_found};
use crate::request::{ApiRequest, BATCH_MAX_BYTES, Caller};
use crate::state::ApiState;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use postrider_core::{EventId, NewEvent};
use postrider_store::{EventFilter, EventReport};
use std::slice;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this resource, with their documentation.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(publish_event, list_events))
        .routes(routes!(publish_events))
        .routes(routes!(show_event))
}

/// Publish an event
///
/// The answer is sent after the commit: the event is then as durable as one inserted into the
/// outbox. With an `Idempotency-Key`, repeating the same call within 24 hours publishes nothing
/// and returns the same id.
#[utoipa::path(
    post, path = "/v1/events", tag = "Events",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible characters of ASCII that make repeats of this call known.", min_length = 1, max_length = 255)),
    request_body = ref("#/components/schemas/NewEvent"),
    responses((status = 202, description = "The event is recorded.", body = ref("#/components/schemas/Published")))
)]
async fn publish_event(
    State(api): State<Arc<ApiState>>,
    call: ApiRequest,
) -> Result<Published, Problem> {
    let mut event = event_of(call.text()?, &call.key)?;
    event.check()?;
    event.check_due(api.clock.now(), api.keep_events)?;
    if let Some(followed) = &call.followed {
        followed.take_along(slice::from_mut(&mut event));
    }
    let id = match idempotency::of(&call, "/v1/events")? {
        None => api.publisher.publish(event).await?,
        Some(once) => {
            let ids = api.publish_once(&once, &[event]).await?;
            ids.first().copied().ok_or_else(idempotency::no_id)?
        }
    };
    if let Some(followed) = &call.followed {
        followed.published(&[id]);
    }
    Ok(Published(id))
}

/// Publish events together
///
/// Up to 1,000 events are committed in one transaction: either all of them or, if one is refused,
/// none. The body is limited to 8 MiB.
#[utoipa::path(
    post, path = "/v1/events/batch", tag = "Events",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible characters of ASCII that make repeats of this call known.", min_length = 1, max_length = 255)),
    request_body = ref("#/components/schemas/NewEvents"),
    responses((status = 202, description = "The events are recorded.", body = ref("#/components/schemas/PublishedEvents")))
)]
async fn publish_events(
    State(api): State<Arc<ApiState>>,
    call: ApiRequest<BATCH_MAX_BYTES>,
) -> Result<PublishedTogether, Problem> {
    let now = api.clock.now();
    let mut events = events_of(call.text()?, &call.key, |event: &NewEvent| {
        let checked = event.check();
        let checked = checked.and_then(|()| event.check_due(now, api.keep_events));
        checked.map_err(|error| Fault::from(&error))
    })?;
    if let Some(followed) = &call.followed {
        followed.take_along(&mut events);
    }
    let ids = match idempotency::of(&call, "/v1/events/batch")? {
        None => api.publish_together(&events).await?,
        Some(once) => api.publish_once(&once, &events).await?,
    };
    if let Some(followed) = &call.followed {
        followed.published(&ids);
    }
    Ok(PublishedTogether(ids))
}

/// List events, newest first
///
/// Includes events still in the outbox; payloads are left out. `since` and `until` refer to the
/// time when the event was recorded.
#[utoipa::path(
    get, path = "/v1/events", tag = "Events",
    params(
        ("account" = Option<String>, Query, description = "Only events of this account."),
        ("event_type" = Option<String>, Query, description = "Only events of exactly this type."),
        ("since" = Option<String>, Query, description = "Only events recorded at this time or later (RFC 3339).", format = DateTime),
        ("until" = Option<String>, Query, description = "Only events recorded before this time (RFC 3339).", format = DateTime),
        ("limit" = Option<u32>, Query, description = "Largest number of entries; 50 by default.", minimum = 1, maximum = 250),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ),
    responses((status = 200, description = "A page of events.", body = Page<EventBody>))
)]
async fn list_events(
    State(api): State<Arc<ApiState>>,
    mut params: Params,
    caller: Caller,
) -> Result<Json<Page<EventBody>>, Problem> {
    let scope = AccessScope::of(&caller.key)?;
    let page = PageOf::read(&mut params, Listing::Events);
    let (account, event_type) = (params.text("account"), params.text("event_type"));
    let (since, until) = (params.time("since"), params.time("until"));
    params.complete()?;
    let filter = EventFilter {
        account: scope.listed(account)?,
        event_type,
        since,
        until,
        before: page.after.map(EventId),
        limit: page.ask_for(),
    };
    let found = api.told(api.store.events(filter).await)?;
    Ok(Json(page.of(found, |event: &EventReport| event.id.0)))
}

/// Show an event
///
/// Includes the payload, byte for byte.
#[utoipa::path(
    get, path = "/v1/events/{id}", tag = "Events",
    params(("id" = String, Path, description = "The event's id.", format = "uuid")),
    responses((status = 200, description = "The event.", body = EventBody))
)]
async fn show_event(
    State(api): State<Arc<ApiState>>,
    id: Id<EventId>,
    caller: Caller,
) -> Result<Json<EventBody>, Problem> {
    let scope = AccessScope::of(&caller.key)?;
    let id = id.known()?;
    let event = api.told(api.store.event(id).await)?;
    match scope.includes(&event.account) {
        true => Ok(Json(event.into())),
        false => Err(not_found("event", &id.to_string())),
    }
}

/// The answer to a committed event.
struct Published(EventId);

/// The answer to events committed together, with their ids in the order of the events.
struct PublishedTogether(Vec<EventId>);

impl IntoResponse for Published {
    fn into_response(self) -> Response {
        let kind = (header::CONTENT_TYPE, "application/json");
        let body = format!("{{\"id\":\"{}\"}}", self.0);
        (StatusCode::ACCEPTED, [kind], body).into_response()
    }
}

impl IntoResponse for PublishedTogether {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "ids": self.0 });
        (StatusCode::ACCEPTED, Json(body)).into_response()
    }
}
