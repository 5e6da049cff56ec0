//! Misskey's API for a user's webhooks: `/api/i/webhooks/…`.
//!
//! Every route is a POST with its parameters in a JSON body. What changes a hook answers 204.

mod hooks;
mod params;
mod profile;
mod refusal;
mod request;
mod sample;
mod server;
mod settings;

use crate::System;
use axum::routing::on;
use axum::{Extension, Router};
use postrider_api::{Brought, Dialect, Registrar, Route, token};
use std::sync::Arc;

pub use settings::MisskeySettings as Settings;

/// Its name, and its profile's.
const NAME: &str = "misskey";

/// The system as it is configured.
pub(crate) fn system(settings: &Settings, listen: &str) -> System {
    System {
        profile: profile::profile(settings.server(listen)),
        dialect: dialect(hooks::WebhookLimit(settings.webhook_limit)),
    }
}

fn dialect(limit: hooks::WebhookLimit) -> Dialect {
    Dialect {
        name: NAME,
        issue: |brought: Brought| token(NAME, "token", brought),
        prefix: "/api",
        routes: ROUTES,
        complete: Arc::new(move |routes| refusing(routes).layer(Extension(limit))),
    }
}

const ROUTES: &[Route] = &[
    Route::post("/i/webhooks/create", |by| on(by, hooks::create)),
    Route::post("/i/webhooks/list", |by| on(by, hooks::list)),
    Route::post("/i/webhooks/show", |by| on(by, hooks::show)),
    Route::post("/i/webhooks/update", |by| on(by, hooks::update)),
    Route::post("/i/webhooks/delete", |by| on(by, hooks::delete)),
    Route::post("/i/webhooks/test", |by| on(by, hooks::test)),
];

fn refusing(routes: Router<Arc<Registrar>>) -> Router<Arc<Registrar>> {
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
