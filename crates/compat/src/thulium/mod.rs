//! Thulium's API for webhooks: `/api/webhooks`.
//!
//! A hook gets any number of actions, and Basic credentials of its own if it wants some. Adding
//! and listing is what Thulium documents; a hook by its id (`/api/webhooks/{id}`) is ours.

mod hooks;
mod profile;
mod refusal;
mod request;
mod settings;

use crate::System;
use axum::Router;
use axum::routing::on;
use postrider_api::{Brought, Dialect, Registrar, Route, drawn, password};
use std::sync::Arc;

pub use settings::ThuliumSettings as Settings;

/// Its name, and its profile's.
const NAME: &str = "thulium";

/// The system as it is configured.
pub(crate) fn system(_: &Settings, _: &str) -> System {
    System {
        profile: profile::profile(),
        dialect: dialect(),
    }
}

fn dialect() -> Dialect {
    Dialect {
        name: NAME,
        issue: |brought: Brought| {
            password(["user", "password"], brought, || {
                format!("api_{}", drawn(8).to_lowercase())
            })
        },
        prefix: "/api/webhooks",
        routes: ROUTES,
        complete: Arc::new(refusing),
    }
}

const ROUTES: &[Route] = &[
    Route::post("/", |by| on(by, hooks::create)),
    Route::get("/", |by| on(by, hooks::list)),
    Route::get("/{id}", |by| on(by, hooks::show)),
    Route::put("/{id}", |by| on(by, hooks::update)),
    Route::delete("/{id}", |by| on(by, hooks::delete)),
];

fn refusing(routes: Router<Arc<Registrar>>) -> Router<Arc<Registrar>> {
    routes
        .method_not_allowed_fallback(refusal::no_method)
        .fallback(refusal::no_route)
}
