//! What is answered where there is nothing: `application/problem+json` (RFC 9457).

use axum::Router;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The management API. In this release it has no routes of its own.
pub fn router() -> Router {
    Router::new().fallback(not_found)
}

#[derive(Serialize)]
struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
}

async fn not_found(uri: Uri) -> Response {
    let status = StatusCode::NOT_FOUND;
    let problem = Problem {
        title: "Not found",
        status: status.as_u16(),
        detail: format!("There is nothing at {}.", uri.path()),
    };
    match serde_json::to_vec(&problem) {
        Ok(body) => (
            status,
            [(header::CONTENT_TYPE, "application/problem+json")],
            body,
        )
            .into_response(),
        Err(_) => status.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_page_is_a_problem_document() {
        let response = not_found(Uri::from_static("/v1/nothing?key=secret")).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let kind = &response.headers()[header::CONTENT_TYPE];
        assert_eq!(kind, "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), 1024)
            .await
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&body),
            r#"{"title":"Not found","status":404,"detail":"There is nothing at /v1/nothing."}"#
        );
    }
}
