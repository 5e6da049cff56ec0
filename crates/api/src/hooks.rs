//! `/v1/hooks`: registering, reading and changing hooks.
//!
//! Hooks outside the caller's scope answer 404. A hook's account never changes, so the scope is
//! checked once, before the call that changes the hook.

use crate::access_scope::{AccessScope, Id};
use crate::attempt_body::AttemptBody;
use crate::hook_body::{self, HookBody};
use crate::hook_log::{changes_state, tell_removed, tell_state};
use crate::page::{Listing, Page, PageOf};
use crate::params::Params;
use crate::problem::{Problem, ProblemKind, not_found};
use crate::request::{ApiRequest, Caller, OptionalBody};
use crate::state::ApiState;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use postrider_core::{HookId, Key};
use postrider_store::{HookChange, HookFilter, HookReport};
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The profile whose hooks have signing secrets.
const SIGNING: &str = "standard";

/// The routes of this resource, with their documentation.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(create_hook, list_hooks))
        .routes(routes!(show_hook, edit_hook, delete_hook))
        .routes(routes!(pause_hook))
        .routes(routes!(enable_hook))
        .routes(routes!(disable_hook))
        .routes(routes!(test_hook))
        .routes(routes!(rotate_secret))
}

/// Register a hook
///
/// The signing secret is shown in this answer only. All workers use a new hook within a second.
#[utoipa::path(
    post, path = "/v1/hooks", tag = "Hooks",
    request_body = ref("#/components/schemas/NewHook"),
    responses((
        status = 201, description = "The hook, with its secret.", body = HookBody,
        headers(("location" = String, description = "The path of the hook."))
    ))
)]
async fn create_hook(
    State(api): State<Arc<ApiState>>,
    call: ApiRequest,
) -> Result<Response, Problem> {
    let scope = AccessScope::of(&call.key)?;
    let hook = hook_body::new_hook(call.text()?, &scope)?;
    let (by, now) = (by(&call.key), api.clock.now());
    let made = api.store.create_hook(hook, &by, now).await;
    let made = HookBody::from(api.told(made)?);
    let place = [(header::LOCATION, format!("/v1/hooks/{}", made.id()))];
    Ok((StatusCode::CREATED, place, Json(made)).into_response())
}

/// List hooks, oldest first
#[utoipa::path(
    get, path = "/v1/hooks", tag = "Hooks",
    params(
        ("account" = Option<String>, Query, description = "Only hooks of this account."),
        ("limit" = Option<u32>, Query, description = "Largest number of entries; 50 by default.", minimum = 1, maximum = 250),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ),
    responses((status = 200, description = "A page of hooks.", body = Page<HookBody>))
)]
async fn list_hooks(
    State(api): State<Arc<ApiState>>,
    mut params: Params,
    caller: Caller,
) -> Result<Json<Page<HookBody>>, Problem> {
    let scope = AccessScope::of(&caller.key)?;
    let page = PageOf::read(&mut params, Listing::Hooks);
    let account = params.text("account");
    params.complete()?;
    let filter = HookFilter {
        account: scope.listed(account)?,
        after: page.after.map(HookId),
        limit: page.ask_for(),
        ..HookFilter::default()
    };
    let found = api.told(api.store.hooks(filter).await)?;
    Ok(Json(page.of(found, |hook: &HookReport| hook.id.0)))
}

/// Show a hook
#[utoipa::path(
    get, path = "/v1/hooks/{id}", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    responses((status = 200, description = "The hook.", body = HookBody))
)]
async fn show_hook(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    caller: Caller,
) -> Result<Json<HookBody>, Problem> {
    let hook = api.hook_of(&caller.key, id).await?;
    Ok(Json(hook.into()))
}

/// Change a hook
///
/// Either the whole change is made or, if it is refused, none of it. Workers apply it within a
/// second: waiting deliveries go to the new URL with the new headers, except for retries of hooks
/// whose profile keeps the URL of the first attempt. A changed filter applies to events fanned out
/// after the change.
#[utoipa::path(
    patch, path = "/v1/hooks/{id}", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    request_body = ref("#/components/schemas/HookChange"),
    responses((status = 200, description = "The hook as it now is.", body = HookBody))
)]
async fn edit_hook(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    call: ApiRequest,
) -> Result<Json<HookBody>, Problem> {
    AccessScope::of(&call.key)?;
    let edit = hook_body::edit(call.text()?)?;
    let change = HookChange::Edit(Box::new(edit));
    api.change_hook(&call.key, id, change).await
}

/// Delete a hook
///
/// Its deliveries are cancelled, which cannot be undone; pausing holds them instead. The answer
/// shows the hook as it was before.
#[utoipa::path(
    delete, path = "/v1/hooks/{id}", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    responses((status = 200, description = "The hook as it was before.", body = HookBody))
)]
async fn delete_hook(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    caller: Caller,
) -> Result<Json<HookBody>, Problem> {
    let hook = api.hook_of(&caller.key, id).await?;
    let (by, now) = (by(&caller.key), api.clock.now());
    let removed = api.told(api.store.remove_hook(hook.id, &by, now).await)?;
    tell_removed(&removed, &by);
    Ok(Json(removed.into()))
}

/// Pause a hook
///
/// Deliveries are still created, and held until the hook is enabled again.
#[utoipa::path(
    post, path = "/v1/hooks/{id}/pause", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    responses((status = 200, description = "The hook as it now is.", body = HookBody))
)]
async fn pause_hook(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    caller: Caller,
) -> Result<Json<HookBody>, Problem> {
    api.change_hook(&caller.key, id, HookChange::Pause).await
}

/// Enable a hook
///
/// Its fail count is reset, and held deliveries resume, starting with a probe.
#[utoipa::path(
    post, path = "/v1/hooks/{id}/enable", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    responses((status = 200, description = "The hook as it now is.", body = HookBody))
)]
async fn enable_hook(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    caller: Caller,
) -> Result<Json<HookBody>, Problem> {
    api.change_hook(&caller.key, id, HookChange::Enable).await
}

/// Disable a hook
///
/// Like pausing, but recorded as disabled by hand.
#[utoipa::path(
    post, path = "/v1/hooks/{id}/disable", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    responses((status = 200, description = "The hook as it now is.", body = HookBody))
)]
async fn disable_hook(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    caller: Caller,
) -> Result<Json<HookBody>, Problem> {
    api.change_hook(&caller.key, id, HookChange::Disable).await
}

/// Send a hook a test event
///
/// An event of the type `postrider.test` is sent at once, signed like any delivery, whatever the
/// hook's status. Nothing is recorded and no failure is counted. The answer is 200 whatever the
/// receiver answered; see `outcome`.
#[utoipa::path(
    post, path = "/v1/hooks/{id}/test", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    responses((status = 200, description = "The result of the attempt.", body = AttemptBody))
)]
async fn test_hook(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    caller: Caller,
) -> Result<Json<AttemptBody>, Problem> {
    let hook = api.hook_of(&caller.key, id).await?;
    let _place = api.test_places.take(&hook.account).ok_or_else(|| {
        let detail = "As many test events as this account may have, or the process, are in flight \
                      already: try again in a moment.";
        Problem::rate_limited(detail.into(), 1)
    })?;
    let hook = api.told(api.store.hook_with_credentials(hook.id).await)?;
    match api.tests.send_test(&hook).await {
        Ok(attempt) => Ok(Json(attempt.into())),
        Err(why) => {
            let detail = format!("The test event could not be sent from here: {why}.");
            Err(Problem::new(ProblemKind::Unavailable, detail))
        }
    }
}

/// Give a hook a new secret
///
/// During the overlap each request is signed with the old and the new secret, so that the receiver
/// can change over at any moment. The body is optional. The new secret is shown in this answer
/// only.
#[utoipa::path(
    post, path = "/v1/hooks/{id}/rotate-secret", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    request_body = ref("#/components/schemas/Rotation"),
    responses((status = 200, description = "The hook, with its new secret.", body = HookBody))
)]
async fn rotate_secret(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    OptionalBody(call): OptionalBody,
) -> Result<Json<HookBody>, Problem> {
    AccessScope::of(&call.key)?;
    let rotation = hook_body::rotation(call.text()?)?;
    let hook = api.hook_of(&call.key, id).await?;
    if hook.profile != SIGNING {
        let detail = format!(
            "Hooks of the profile {} have no signing secret: change their secret in the way they were \
             registered.",
            hook.profile
        );
        return Err(Problem::new(ProblemKind::Conflict, detail));
    }
    let change = HookChange::Rotate {
        secret: rotation.secret,
        overlap_until: api.clock.now() + rotation.overlap.get(),
    };
    api.change(&call.key, hook.id, change).await
}

/// The actor recorded for a change made with this key, such as `api 0193a5c8-…`.
pub(crate) fn by(key: &Key) -> String {
    format!("api {}", key.id)
}

impl ApiState {
    /// The hook with this id.
    ///
    /// # Errors
    /// 404 when there is none, or when it is outside the caller's scope.
    pub(crate) async fn hook_of(&self, key: &Key, id: Id<HookId>) -> Result<HookReport, Problem> {
        let scope = AccessScope::of(key)?;
        let id = id.known()?;
        let hook = self.told(self.store.hook(id).await)?;
        match scope.includes(&hook.account) {
            true => Ok(hook),
            false => Err(not_found("hook", &id.to_string())),
        }
    }

    async fn change_hook(
        &self,
        key: &Key,
        id: Id<HookId>,
        change: HookChange,
    ) -> Result<Json<HookBody>, Problem> {
        let hook = self.hook_of(key, id).await?;
        self.change(key, hook.id, change).await
    }

    /// Changes a hook whose scope has been checked, and logs a change of its status.
    async fn change(
        &self,
        key: &Key,
        id: HookId,
        change: HookChange,
    ) -> Result<Json<HookBody>, Problem> {
        let (by, now) = (by(key), self.clock.now());
        let is_news = changes_state(&change);
        let changed = self.told(self.store.change_hook(id, change, &by, now).await)?;
        if is_news {
            tell_state(&changed, &by);
        }
        Ok(Json(changed.into()))
    }
}
