//! Misskey's API for a user's webhooks: `/api/i/webhooks/…`.
//!
//! Every route is a POST with its parameters in a JSON body. What changes a hook answers 204.

mod hooks;
mod params;
mod refusal;
mod request;
mod sample;

use super::credentials::token;
use super::route::Route;
use super::{Brought, Desk, Dialect};
use axum::Router;
use axum::routing::on;
use std::sync::Arc;

/// Its name, and its profile's.
const NAME: &str = "misskey";

pub(super) const DIALECT: Dialect = Dialect {
    name: NAME,
    issue: |brought: Brought| token(NAME, "token", brought),
    prefix: "/api",
    routes: ROUTES,
    refusing,
};

const ROUTES: &[Route] = &[
    Route::post("/i/webhooks/create", |by| on(by, hooks::create)),
    Route::post("/i/webhooks/list", |by| on(by, hooks::list)),
    Route::post("/i/webhooks/show", |by| on(by, hooks::show)),
    Route::post("/i/webhooks/update", |by| on(by, hooks::update)),
    Route::post("/i/webhooks/delete", |by| on(by, hooks::delete)),
    Route::post("/i/webhooks/test", |by| on(by, hooks::test)),
];

fn refusing(routes: Router<Arc<Desk>>) -> Router<Arc<Desk>> {
    routes
        .method_not_allowed_fallback(refusal::no_method)
        .fallback(refusal::no_route)
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
