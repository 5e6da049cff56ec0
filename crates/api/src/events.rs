//! `/v1/events`: publishing events.

use crate::api::Shared;
use crate::call::Call;
use crate::fields::Fields;
use crate::problem::Problem;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use postrider_core::{EventId, Key, NewEvent};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(publish_event))
}

/// Publish an event
///
/// Answered when it is committed: from then on it is as safe as one that was inserted.
#[utoipa::path(
    post, path = "/v1/events", tag = "Events",
    request_body = ref("#/components/schemas/NewEvent"),
    responses((status = 202, description = "It is recorded.", body = ref("#/components/schemas/Published")))
)]
async fn publish_event(State(api): State<Arc<Shared>>, call: Call) -> Result<Published, Problem> {
    let event = event_of(call.text()?, &call.key)?;
    event.check()?;
    event.check_due(api.clock.now(), api.keep_events)?;
    Ok(Published(api.publisher.publish(event).await?))
}

/// An event is committed.
struct Published(EventId);

impl IntoResponse for Published {
    fn into_response(self) -> Response {
        let kind = (header::CONTENT_TYPE, "application/json");
        let body = format!("{{\"id\":\"{}\"}}", self.0);
        (StatusCode::ACCEPTED, [kind], body).into_response()
    }
}

/// The event that a body describes. The payload is kept byte for byte.
fn event_of(text: &str, key: &Key) -> Result<NewEvent, Problem> {
    let mut fields = Fields::of(text)?;
    let event_type = fields.required("event_type");
    let payload = fields.required::<&RawValue>("payload");
    let account = fields.optional("account");
    let ordering_key = fields.optional("ordering_key");
    let dedup_key = fields.optional("dedup_key");
    let deliver_after = fields.optional("deliver_after");
    let occurred_at = fields.optional("occurred_at");
    let (event_type, payload) = fields.complete(event_type.zip(payload))?;
    Ok(NewEvent {
        account: key.account_for(account)?,
        event_type,
        payload: payload.to_owned(),
        ordering_key,
        dedup_key,
        deliver_after,
        occurred_at,
        headers: None,
    })
}
