//! The API as a whole: its routes, what they share, and the tasks behind them.

use crate::dialects::{self, Dialect, Registrar, RegistrarParts};
use crate::keys::Keys;
use crate::limits::{ApiLimits, Limits};
use crate::observe::{Observer, observe};
use crate::openapi;
use crate::outage_log::Trouble;
use crate::publisher::{Publisher, PublisherParts};
use crate::state::ApiState;
use crate::test_places::TestPlaces;
use crate::test_sender::TestSender;
use crate::traces::{PublishTraces, follow};
use crate::{deliveries, events, hook_bulk, hook_history, hooks, idempotency, problem, request};
use axum::Router;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::from_fn_with_state;
use postrider_core::{Clock, Span};
use postrider_store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_http::cors::CorsLayer;
use utoipa_axum::router::OpenApiRouter;

/// How long a browser may remember what it may call.
const CORS_MAX_AGE: Duration = Duration::from_secs(3_600);

/// What the API is made of.
pub struct ApiParts {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// The database's clock.
    pub clock: Arc<dyn Clock>,
    /// How long events are kept: nothing may be delivered later.
    pub keep_events: Span,
    /// Commits of published events in progress at a time: 2 on PostgreSQL; more than 1 are of no
    /// use on SQLite, which has one writer.
    pub commits: usize,
    /// Called after each commit of published events. Must return at once.
    pub published: Arc<dyn Fn() + Send + Sync>,
    /// Sends test events.
    pub tests: Arc<dyn TestSender>,
    /// How often each key may call.
    pub limits: ApiLimits,
    /// The web origins whose pages may call the API from a browser.
    pub cors_origins: Vec<String>,
    /// Observes every request.
    pub observer: Arc<dyn Observer>,
    /// Follows publishing in traces, where that is wanted.
    pub traces: Option<Arc<dyn PublishTraces>>,
    /// What the compatible APIs are told.
    pub dialects: Vec<Dialect>,
}

/// The API, at work.
pub struct Api {
    shared: Arc<ApiState>,
    registrar: Arc<Registrar>,
    dialects: Vec<Dialect>,
    cors: Option<CorsLayer>,
    observer: Arc<dyn Observer>,
    traces: Option<Arc<dyn PublishTraces>>,
    tasks: JoinSet<()>,
    closed: CancellationToken,
}

impl Api {
    /// Starts the tasks behind the API.
    pub fn start(parts: ApiParts) -> Self {
        let ApiParts {
            store,
            clock,
            keep_events,
            commits,
            published,
            tests,
            limits,
            cors_origins,
            observer,
            traces,
            dialects,
        } = parts;
        let trouble = Arc::new(Trouble::default());
        let closed = CancellationToken::new();
        let keys = Arc::new(Keys::new(store.clone(), clock.clone(), trouble.clone()));
        let registrar = RegistrarParts {
            store: store.clone(),
            clock: clock.clone(),
            tests: tests.clone(),
        };
        let test_places = Arc::<TestPlaces>::default();
        let registrar = Registrar::sharing(registrar, trouble.clone(), test_places.clone());
        let registrar = Arc::new(registrar);
        let (publisher, publishing) = Publisher::start(PublisherParts {
            store: store.clone(),
            commits,
            published: published.clone(),
            trouble: trouble.clone(),
            closed: closed.clone(),
        });
        let shared = Arc::new(ApiState {
            store,
            publisher,
            keys: keys.clone(),
            clock,
            keep_events,
            capacity: Arc::new(Semaphore::new(request::ROOM_KIB)),
            limits: Limits::new(limits),
            tests,
            test_places,
            commit_turns: Semaphore::new(commits),
            published,
            trouble,
            pages: openapi::pages(documented_routes().get_openapi()),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(publishing);
        tasks.spawn({
            let closed = closed.clone();
            async move { keys.run(closed).await }
        });
        tasks.spawn({
            let (shared, closed) = (shared.clone(), closed.clone());
            async move { shared.forget(closed).await }
        });
        Self {
            shared,
            registrar,
            dialects,
            cors: cors(&cors_origins),
            observer,
            traces,
            tasks,
            closed,
        }
    }

    /// Its routes; whatever else is asked for is answered by a problem document.
    pub fn router(&self) -> Router {
        let (routes, _) = documented_routes().split_for_parts();
        let routes = routes
            .merge(dialects::routes(&self.dialects, &self.registrar))
            .method_not_allowed_fallback(problem::method_not_allowed)
            .fallback(problem::nothing_here);
        let routes = match &self.cors {
            Some(cors) => routes.layer(cors.clone()),
            None => routes,
        };
        let routes = match &self.traces {
            Some(traces) => routes.layer(from_fn_with_state(traces.clone(), follow)),
            None => routes,
        };
        routes
            .layer(from_fn_with_state(self.observer.clone(), observe))
            .with_state(self.shared.clone())
    }

    /// Ends the tasks, to be called when no request is under way any more: what was handed in
    /// is committed first.
    pub async fn finish(mut self) {
        self.closed.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Every route of the API and its part of the document.
pub(crate) fn documented_routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .merge(events::routes())
        .merge(hooks::routes())
        .merge(hook_history::routes())
        .merge(hook_bulk::routes())
        .merge(deliveries::routes())
        .merge(openapi::routes())
}

/// What lets pages of these origins call; `None` when there are none.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|o| o.parse().ok()).collect();
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            idempotency::HEADER,
        ])
        .expose_headers([header::LOCATION, header::RETRY_AFTER])
        .max_age(CORS_MAX_AGE);
    Some(layer)
}
