//! `/v1/hooks`: registering hooks, looking at them and changing them.
//!
//! What a caller may not see is not found. A hook's account never changes, so whether a caller
//! reaches it is asked once, before the call that changes it.

use crate::access_scope::{Id, Reach};
use crate::attempt_body::AttemptBody;
use crate::hook_body::{self, HookBody};
use crate::hook_log::{changes_state, tell_removed, tell_state};
use crate::page::{Listing, Page, PageOf};
use crate::params::Params;
use crate::problem::{Kind, Problem, not_found};
use crate::request::{Call, Caller, OptionalCall};
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

/// The routes.
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
/// The answer shows the signing secret, once. All workers go by a new hook within a second.
#[utoipa::path(
    post, path = "/v1/hooks", tag = "Hooks",
    request_body = ref("#/components/schemas/NewHook"),
    responses((
        status = 201, description = "The hook, with its secret.", body = HookBody,
        headers(("location" = String, description = "Where the hook is."))
    ))
)]
async fn create_hook(State(api): State<Arc<ApiState>>, call: Call) -> Result<Response, Problem> {
    let reach = Reach::of(&call.key)?;
    let hook = hook_body::new_hook(call.text()?, &reach)?;
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
        ("account" = Option<String>, Query, description = "Only this account's."),
        ("limit" = Option<u32>, Query, description = "How many at most; 50 unless given.", minimum = 1, maximum = 250),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before."),
    ),
    responses((status = 200, description = "A page of hooks.", body = Page<HookBody>))
)]
async fn list_hooks(
    State(api): State<Arc<ApiState>>,
    mut params: Params,
    caller: Caller,
) -> Result<Json<Page<HookBody>>, Problem> {
    let reach = Reach::of(&caller.key)?;
    let page = PageOf::read(&mut params, Listing::Hooks);
    let account = params.text("account");
    params.complete()?;
    let filter = HookFilter {
        account: reach.listed(account)?,
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
/// All of it or, after a refusal, nothing. Workers go by it within a second: deliveries that wait
/// go to the new URL with the new headers, except for retries of `misskey`, which go where they
/// went before; a filter decides about events that come from then on.
#[utoipa::path(
    patch, path = "/v1/hooks/{id}", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    request_body = ref("#/components/schemas/HookChange"),
    responses((status = 200, description = "The hook as it now is.", body = HookBody))
)]
async fn edit_hook(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    call: Call,
) -> Result<Json<HookBody>, Problem> {
    Reach::of(&call.key)?;
    let edit = hook_body::edit(call.text()?)?;
    let change = HookChange::Edit(Box::new(edit));
    api.change_hook(&call.key, id, change).await
}

/// Delete a hook
///
/// Its deliveries are cancelled, which cannot be undone; pausing holds them instead. The answer
/// shows the hook as it was.
#[utoipa::path(
    delete, path = "/v1/hooks/{id}", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    responses((status = 200, description = "The hook as it was.", body = HookBody))
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
/// Its deliveries are made and held until it is enabled again.
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
/// Its failures are forgotten, and what was held goes on, beginning with a probe.
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
/// Like pausing, and marked as disabled by a person.
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
/// An event of the type `postrider.test` goes out now, signed like any delivery, whatever the
/// hook's status. Nothing is recorded and no failure is counted. The answer is 200 whatever the
/// receiver said; `outcome` tells.
#[utoipa::path(
    post, path = "/v1/hooks/{id}/test", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    responses((status = 200, description = "What came of it.", body = AttemptBody))
)]
async fn test_hook(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    caller: Caller,
) -> Result<Json<AttemptBody>, Problem> {
    let hook = api.hook_of(&caller.key, id).await?;
    let _turn = api.test_turns.try_acquire().map_err(|_| {
        let detail = "As many test events as may be sent at a time are on their way: try again \
                      in a moment.";
        Problem::rate_limited(detail.into(), 1)
    })?;
    let hook = api.told(api.store.hook_with_credentials(hook.id).await)?;
    match api.tests.send_test(&hook).await {
        Ok(attempt) => Ok(Json(attempt.into())),
        Err(why) => {
            let detail = format!("The test event could not be sent from here: {why}.");
            Err(Problem::new(Kind::Unavailable, detail))
        }
    }
}

/// Give a hook a new secret
///
/// The old one signs too until the overlap is over: each request then carries both signatures,
/// so that the receiver may change over at any moment. The body may be left out. The answer
/// shows the new secret, once.
#[utoipa::path(
    post, path = "/v1/hooks/{id}/rotate-secret", tag = "Hooks",
    params(("id" = String, Path, description = "The hook's id.", format = "uuid")),
    request_body = ref("#/components/schemas/Rotation"),
    responses((status = 200, description = "The hook, with its new secret.", body = HookBody))
)]
async fn rotate_secret(
    State(api): State<Arc<ApiState>>,
    id: Id<HookId>,
    OptionalCall(call): OptionalCall,
) -> Result<Json<HookBody>, Problem> {
    Reach::of(&call.key)?;
    let rotation = hook_body::rotation(call.text()?)?;
    let hook = api.hook_of(&call.key, id).await?;
    if hook.profile != SIGNING {
        let detail = format!(
            "Hooks of the profile {} do not sign: change their secret as they were registered.",
            hook.profile
        );
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let change = HookChange::Rotate {
        secret: rotation.secret,
        overlap_until: api.clock.now() + rotation.overlap.get(),
    };
    api.change(&call.key, hook.id, change).await
}

/// Who changes a hook, as it is recorded.
pub(crate) fn by(key: &Key) -> String {
    format!("api {}", key.id)
}

impl ApiState {
    /// The hook of this id, if the caller reaches it.
    pub(crate) async fn hook_of(&self, key: &Key, id: Id<HookId>) -> Result<HookReport, Problem> {
        let reach = Reach::of(key)?;
        let id = id.known()?;
        let hook = self.told(self.store.hook(id).await)?;
        match reach.includes(&hook.account) {
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

    /// Changes a hook that the caller reaches.
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
