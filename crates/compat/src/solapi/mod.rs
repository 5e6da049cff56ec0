//! SOLAPI's API for outgoing webhooks: `/webhook/v1/outgoing`, `/webhook/v1/events` and
//! `/webhook/v1/outgoing-test`.
//!
//! A hook gets one kind of event, named by an id out of a table that is configured. Every
//! success is 200, deletions included, and every refusal has a code and a message.

mod authorization;
mod events;
mod hooks;
mod profile;
mod query;
mod refusal;
mod request;
mod settings;
#[cfg(test)]
mod tests;

use crate::System;
use axum::http::Method;
use axum::routing::on;
use axum::{Extension, Router};
use chrono::SecondsFormat;
use postrider_api::{Brought, Dialect, Registrar, Route, drawn, signing};
use postrider_core::Timestamp;
use refusal::Scope;
use std::sync::Arc;

pub use settings::{SolapiEvent, SolapiSettings as Settings};

/// Its name, and its profile's.
const NAME: &str = "solapi";

/// The system as it is configured.
pub(crate) fn system(settings: &Settings, _: &str) -> System {
    System {
        profile: profile::profile(settings.batch_window.get()),
        dialect: dialect(settings.entries().into()),
    }
}

fn dialect(entries: Arc<[events::EventEntry]>) -> Dialect {
    Dialect {
        name: NAME,
        issue: |brought: Brought| {
            signing(["api_key", "api_secret"], brought, || {
                format!("NCS{}", drawn(13).to_uppercase())
            })
        },
        prefix: "/webhook",
        routes: ROUTES,
        complete: Arc::new(move |routes| refusing(routes).layer(Extension(entries.clone()))),
    }
}

const ROUTES: &[Route] = &[
    Route::post("/v1/outgoing", |by| on(by, hooks::create)),
    Route::get("/v1/outgoing", |by| on(by, hooks::list)),
    Route::get("/v1/outgoing/{id}", |by| on(by, hooks::show)),
    Route::put("/v1/outgoing/{id}", |by| on(by, hooks::update)),
    Route::delete("/v1/outgoing/{id}", |by| on(by, hooks::delete)),
    Route::post("/v1/outgoing-test", |by| on(by, hooks::test)),
    Route::get("/v1/events", |by| on(by, events::list)),
];

fn refusing(routes: Router<Arc<Registrar>>) -> Router<Arc<Registrar>> {
    routes
        .method_not_allowed_fallback(refusal::no_method)
        .fallback(refusal::no_route)
}

/// What a caller must have for this route, as SOLAPI's documents say of each.
fn routes_scope(method: &Method, path: &str) -> Scope {
    let writes = !matches!(*method, Method::GET | Method::HEAD);
    let about_hooks = path != "/v1/events";
    Scope {
        writes,
        account: about_hooks,
        member: about_hooks && writes,
        verified: about_hooks,
    }
}

/// A moment as SOLAPI shows it: UTC, with milliseconds.
fn shown_date(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
