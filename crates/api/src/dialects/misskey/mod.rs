//! Misskey's API for a user's webhooks: `/api/i/webhooks/…`.
//!
//! Every route is a POST with its parameters in a JSON body. What changes a hook answers 204.

mod call;
mod hooks;
mod params;
mod refusal;
mod sample;

use super::credentials::token;
use super::{Brought, Desk, Dialect};
use axum::Router;
use axum::routing::post;
use std::sync::Arc;

/// Its name, and its profile's.
const NAME: &str = "misskey";

pub(super) const DIALECT: Dialect = Dialect {
    name: NAME,
    issue: |brought: Brought| token(NAME, "token", brought),
    routes,
};

fn routes() -> Router<Arc<Desk>> {
    let api = Router::new()
        .route("/i/webhooks/create", post(hooks::create))
        .route("/i/webhooks/list", post(hooks::list))
        .route("/i/webhooks/show", post(hooks::show))
        .route("/i/webhooks/update", post(hooks::update))
        .route("/i/webhooks/delete", post(hooks::delete))
        .route("/i/webhooks/test", post(hooks::test))
        .method_not_allowed_fallback(refusal::no_method)
        .fallback(refusal::no_route);
    Router::new().nest("/api", api)
}

/// What a caller must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// `read:account`.
    Read,
    /// `write:account`.
    Write,
    /// A token of the user's own, not one with a part of its permissions.
    OwnToken,
}

fn need_of(path: &str) -> Need {
    match path.rsplit('/').next() {
        Some("list" | "show") => Need::Read,
        Some("test") => Need::OwnToken,
        _ => Need::Write,
    }
}
