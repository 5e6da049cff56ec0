//! Thulium's API for webhooks: `/api/webhooks`.
//!
//! A hook gets any number of actions, and Basic credentials of its own if it wants some. Adding
//! and listing is what Thulium documents; a hook by its id (`/api/webhooks/{id}`) is ours.

mod hooks;
mod refusal;
mod request;

use super::credentials::{drawn, password};
use super::route::Route;
use super::{Brought, Desk, Dialect};
use axum::Router;
use axum::routing::on;
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
    prefix: "/api/webhooks",
    routes: ROUTES,
    refusing,
};

const ROUTES: &[Route] = &[
    Route::post("/", |by| on(by, hooks::create)),
    Route::get("/", |by| on(by, hooks::list)),
    Route::get("/{id}", |by| on(by, hooks::show)),
    Route::put("/{id}", |by| on(by, hooks::update)),
    Route::delete("/{id}", |by| on(by, hooks::delete)),
];

fn refusing(routes: Router<Arc<Desk>>) -> Router<Arc<Desk>> {
    routes
        .method_not_allowed_fallback(refusal::no_method)
        .fallback(refusal::no_route)
}
