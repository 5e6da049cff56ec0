//! Reports each answered request and its duration to an [`Observer`].

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use postrider_core::monotonic_now;
use std::sync::Arc;
use std::time::Duration;

/// The label for unknown paths and unusual methods.
const OTHER: &str = "other";

/// Receives every request that the API has answered.
pub trait Observer: Send + Sync {
    /// A request was answered. `route` and `method` are among few: the API's own routes as they
    /// are written, the usual methods, and `other`.
    fn answered(&self, route: &str, method: &str, status: &str, took: Duration);
}

/// Middleware that reports a request to the observer.
pub(crate) async fn observe(
    State(observer): State<Arc<dyn Observer>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let begun = monotonic_now();
    let method = name_of(request.method());
    let response = next.run(request).await;
    let route = route.as_ref().map_or(OTHER, MatchedPath::as_str);
    observer.answered(
        route,
        method,
        response.status().as_str(),
        monotonic_now() - begun,
    );
    response
}

fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => OTHER,
    }
}
