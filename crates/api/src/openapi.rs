//! The OpenAPI 3.1 document, generated from the routes, and the page that shows it.
//!
//! Each route declares its own part of the document. Parts common to all routes, such as error
//! answers, are added here.

use crate::problem::{Document, Fault};
use crate::state::{ApiState, Pages};
use crate::{docs_page, event_body, hook_bulk, hook_schema, webhooks};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use utoipa::PartialSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The page may use its own style and load nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

const ABOUT: &str = "\
Postrider delivers webhooks durably: publish events, register hooks, and see the state of each \
delivery. Every call except those for this document needs a key (`postrider key create`). \
Errors are problem documents (RFC 9457) whose `detail` says what to do. \
A key of one account sees the resources of that account only; all others answer 404.";

/// The routes of the document and its page.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(openapi_document))
        .routes(routes!(docs))
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", tag = "About", security(()),
    responses((status = 200, description = "The API as OpenAPI 3.1.", body = Object))
)]
async fn openapi_document(State(api): State<Arc<ApiState>>) -> Response {
    let kind = (header::CONTENT_TYPE, "application/json");
    ([kind], api.pages.document.clone()).into_response()
}

/// This document as a page
#[utoipa::path(
    get, path = "/docs", tag = "About", security(()),
    responses((status = 200, description = "The API documentation.", body = String, content_type = "text/html"))
)]
async fn docs(State(api): State<Arc<ApiState>>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
    ];
    (headers, api.pages.page.clone()).into_response()
}

/// The document of `routes` and the page that shows it, both rendered.
pub(crate) fn pages(routes: &OpenApi) -> Pages {
    let document = document(routes);
    Pages {
        document: document.to_string().into(),
        page: docs_page::page(&document).into(),
    }
}

fn document(routes: &OpenApi) -> Value {
    let mut document = json!(routes);
    document["info"] = json!({
        "title": "Postrider",
        "version": env!("CARGO_PKG_VERSION"),
        "description": ABOUT,
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    });
    document["security"] = json!([{"key": []}]);
    document["tags"] = json!([
        {"name": "Events", "description": "What happened in an application."},
        {"name": "Hooks", "description": "Subscribers: a URL and the types of events that it receives."},
        {"name": "Deliveries", "description": "One event for one hook, and its attempts."},
        {"name": "About", "description": "The API itself; these calls need no key."},
    ]);
    document["webhooks"] = webhooks::webhooks();
    document["components"]["securitySchemes"] = json!({
        "key": {"type": "http", "scheme": "bearer", "description": "A token (`pr_…`) printed by `postrider key create`."},
    });
    let schemas = &mut document["components"]["schemas"];
    for (name, schema) in [
        event_body::schemas(),
        hook_schema::schemas(),
        hook_bulk::schemas(),
        webhooks::schemas(),
    ]
    .concat()
    {
        schemas[name] = schema;
    }
    schemas["Problem"] = json!(Document::schema());
    schemas["Fault"] = json!(Fault::schema());
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            add_refusals(path, method, operation);
        }
    }
    document
}

/// Adds the error answers that an operation may have, judged by its method, path and body.
fn add_refusals(path: &str, method: &str, operation: &mut Value) {
    if operation.get("security").is_some() {
        return;
    }
    let body = operation.get("requestBody").is_some();
    let parameters = operation["parameters"].as_array();
    let choices = parameters.is_some_and(|all| all.iter().any(|one| one["in"] != "path"));
    let named = path.contains('{');
    let mut refusals = vec![
        ("401", "The key is missing, unknown or revoked."),
        ("403", "The key does not permit this call."),
        ("429", "The key has exceeded its rate limit."),
        (
            "500",
            "A fault of Postrider; the call may or may not have taken effect.",
        ),
        (
            "503",
            "The database is unavailable, or the process is shutting down.",
        ),
    ];
    if body || choices {
        refusals.push(("400", "The body is not JSON, or a parameter is wrong."));
    }
    if named {
        refusals.push((
            "404",
            "The resource does not exist, or is outside the key's scope.",
        ));
    }
    if method != "get" {
        refusals.push((
            "409",
            "The current state of the resource does not permit this.",
        ));
    }
    if body {
        refusals.extend([
            ("408", "The body took too long to arrive."),
            ("413", "The body is too large."),
            ("415", "The body is not sent as uncompressed JSON."),
            ("422", "The body is JSON with invalid content."),
        ]);
    }
    if let Some(responses) = operation["responses"].as_object_mut() {
        for (status, description) in refusals {
            responses.insert(status.into(), refusal(status, description));
        }
    }
}

fn refusal(status: &str, description: &str) -> Value {
    let mut headers = Map::new();
    if matches!(status, "429" | "503") {
        let retry_after = json!({"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}});
        headers.insert("Retry-After".into(), retry_after);
    }
    json!({
        "description": description,
        "headers": headers,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::documented_routes;

    #[test]
    fn every_reference_leads_somewhere() {
        let (_, routes) = documented_routes().split_for_parts();
        let document = document(&routes);
        let mut found = 0;
        let mut left = vec![&document];
        while let Some(value) = left.pop() {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(place)) = members.get("$ref") {
                        let place = place.strip_prefix('#').unwrap();
                        assert!(document.pointer(place).is_some(), "{place}");
                        found += 1;
                    }
                    left.extend(members.values());
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
        assert!(found > 50, "{found}");
    }

    #[test]
    fn each_operation_has_a_name_of_its_own_and_a_summary() {
        let (_, routes) = documented_routes().split_for_parts();
        let document = document(&routes);
        assert_eq!(document["openapi"], "3.1.0");
        let mut names = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name), "{name} twice");
                let summary = operation["summary"].as_str().unwrap_or_default();
                assert!(!summary.is_empty(), "{method} {path}");
            }
        }
    }
}
