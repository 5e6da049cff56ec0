//! `/v1/hooks/{id}/history`: the changes of a hook, each with its actor.

use crate::access_scope::Id;
use crate::page::{Listing, Page, PageOf};
use crate::params::Params;
use crate::problem::Problem;
use crate::request::Caller;
use crate::state::ApiState;
use axum::Json;
use axum::extract::State;
use postrider_core::{HookId, Timestamp};
use postrider_store::{HistoryFilter, HookChangeReport};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// The routes of this resource, with their documentation.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new().routes(routes!(list_history))
}

/// One change of a hook.
#[derive(Serialize, ToSchema)]
#[schema(as = HookHistoryEntry)]
struct EntryBody {
    /// Sequence number over the changes of all hooks; it increases from change to change.
    number: i64,
    /// Time of the change.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Kind of change: `created`, `changed`, `paused`, `enabled`, `disabled`, `secret_rotated`,
    /// `removed`, `warned` or `discarded`.
    action: String,
    /// Who made the change: `postrider`, `cli`, or `api` and the id of a key.
    actor: String,
    /// Why the hook was disabled, or which settings were changed.
    #[schema(required)]
    reason: Option<String>,
    /// Failures in a row before the change.
    fail_count: u32,
    /// Error of the last of these failures.
    #[schema(required)]
    last_error: Option<String>,
    /// Number of deliveries discarded.
    #[schema(required)]
    deliveries: Option<u32>,
}

impl From<HookChangeReport> for EntryBody {
    fn from(change: HookChangeReport) -> Self {
        Self {
            number: change.number,
            at: change.at,
            action: change.action,
            actor: change.actor,
            reason: change.reason,
            fail_count: change.fail_count,
            last_error: change.last_error,
            deliveries: change.deliveries,
        }
    }
}

/// List the changes of a hook, newest first
///
/// Shows who changed it, and who disabled it and why. The newest 500 changes are kept.
#[utoipa::path(
    get, path = "/v1/hooks/{id}/history", tag = "Hooks",
    params(
        ("id" = String, Path, description = "The hook's id.", format = "uuid"),
        ("limit" = Option<u32>, Query, description = "Largest number of entries; 50 by default.", minimum = 1, maximum = 250),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ),
    responses((status = 200, description = "A page of changes.", body = Page<EntryBody>))
)]
async fn list_history(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    mut params: Params,
    caller: Caller,
) -> Result<Json<Page<EntryBody>>, Problem> {
    let hook = api.hook_of(&caller.key, id).await?;
    let page = PageOf::read(&mut params, Listing::History);
    params.complete()?;
    let before = page.after.map(|last| last.as_u128());
    let filter = HistoryFilter {
        before: before.map(|number| i64::try_from(number).unwrap_or(i64::MAX)),
        limit: page.ask_for(),
    };
    let found = api.told(api.store.hook_history(hook.id, filter).await)?;
    let place = |change: &HookChangeReport| {
        Uuid::from_u128(u128::try_from(change.number).unwrap_or_default())
    };
    Ok(Json(page.of(found, place)))
}
