//! Thulium's API for webhooks: `/api/webhooks`.
//!
//! A hook gets any number of actions, and Basic credentials of its own if it wants some. Adding
//! and listing is what Thulium documents; a hook by its id (`/api/webhooks/{id}`) is ours.

mod call;
mod hooks;
mod refusal;

use super::credentials::{drawn, password};
use super::{Brought, Desk, Dialect};
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;

/// Its name, and its profile's.
const NAME: &str = "thulium";

pub(super) const DIALECT: Dialect = Dialect {
    name: NAME,
    issue: |brought: Brought| {
        password(["user", "password"], brought, || {
            format!("api_{}", drawn(8).to_lowercase())
        })
    },
    routes,
};

fn routes() -> Router<Arc<Desk>> {
    let webhooks = Router::new()
        .route("/", post(hooks::create).get(hooks::list))
        .route(
            "/{id}",
            get(hooks::show).put(hooks::update).delete(hooks::delete),
        )
        .method_not_allowed_fallback(refusal::no_method)
        .fallback(refusal::no_route);
    Router::new().nest("/api/webhooks", webhooks)
}
