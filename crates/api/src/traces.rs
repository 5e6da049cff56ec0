//! What follows publishing in traces, handed in by the binary.
//!
//! An event that is published takes its place in the trace along, among its headers, so that its
//! attempts belong to the same trace however much later they are made.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use postrider_core::{EventId, NewEvent, TraceContext};
use std::sync::Arc;

/// The calls that are followed.
const PUBLISHING: [&str; 2] = ["/v1/events", "/v1/events/batch"];

/// Follows publishing in traces. Called while calls are answered: it must not block.
pub trait PublishTraces: Send + Sync {
    /// A call of this route has come with these headers.
    ///
    /// Returns nothing if it is in no trace.
    fn begin(&self, route: &'static str, headers: &HeaderMap) -> Option<Arc<dyn PublishSpan>>;
}

/// A call that is being answered. Dropped without an answer, its caller went away.
pub trait PublishSpan: Send + Sync {
    /// Where the events of the call belong.
    fn context(&self) -> &TraceContext;

    /// These events are committed.
    fn published(&self, ids: &[EventId]);

    /// The call was answered with this status.
    fn answered(&self, status: u16);
}

/// What follows a call, for its handler.
#[derive(Clone)]
pub(crate) struct Followed(Arc<dyn PublishSpan>);

impl Followed {
    /// Puts the events of the call where they belong.
    pub(crate) fn take_along(&self, events: &mut [NewEvent]) {
        for event in events {
            self.0.context().join(event);
        }
    }

    /// These events are committed.
    pub(crate) fn published(&self, ids: &[EventId]) {
        self.0.published(ids);
    }
}

/// Follows a call that publishes, and lets all others pass.
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
