//! The interface for tracing calls that publish events, implemented by the binary.
//!
//! A published event carries its trace context in its headers, so that its attempts belong to the
//! same trace whenever they are made.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use postrider_core::{EventId, NewEvent, TraceContext};
use std::sync::Arc;

/// The routes that are traced.
const PUBLISHING: [&str; 2] = ["/v1/events", "/v1/events/batch"];

/// Creates spans for calls that publish events. Called on the request path: it must not block.
pub trait PublishTraces: Send + Sync {
    /// Begins the span of a call to `route` with these headers; `None` when the call is not traced.
    fn begin(&self, route: &'static str, headers: &HeaderMap) -> Option<Arc<dyn PublishSpan>>;
}

/// The span of one call. If it is dropped before `answered`, the caller has gone away.
pub trait PublishSpan: Send + Sync {
    /// The trace context for the events of the call.
    fn context(&self) -> &TraceContext;

    /// Notes the ids of the committed events.
    fn published(&self, ids: &[EventId]);

    /// Notes the HTTP status of the answer.
    fn answered(&self, status: u16);
}

/// The span of a traced call, as its handler gets it.
#[derive(Clone)]
pub(crate) struct Followed(Arc<dyn PublishSpan>);

impl Followed {
    /// Adds the trace context to events.
    pub(crate) fn take_along(&self, events: &mut [NewEvent]) {
        for event in events {
            self.0.context().join(event);
        }
    }

    /// Notes the ids of the committed events.
    pub(crate) fn published(&self, ids: &[EventId]) {
        self.0.published(ids);
    }
}

/// Middleware that traces calls that publish events.
pub(crate) async fn follow(
    State(traces): State<Arc<dyn PublishTraces>>,
    route: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = route.as_ref().map(MatchedPath::as_str);
    let route = PUBLISHING.into_iter().find(|known| route == Some(*known));
    let span = match route {
        Some(route) if request.method() == Method::POST => traces.begin(route, request.headers()),
        _ => None,
    };
    let Some(span) = span else {
        return next.run(request).await;
    };
    request.extensions_mut().insert(Followed(span.clone()));
    let response = next.run(request).await;
    span.answered(response.status().as_u16());
    response
}
