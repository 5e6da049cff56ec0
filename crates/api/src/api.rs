//! The API as a whole: its routes, what they share, and the tasks behind them.

use crate::keys::Keys;
use crate::limits::{ApiLimits, Limits};
use crate::observe::{Observer, observe};
use crate::problem::Problem;
use crate::publisher::{Publisher, PublisherParts};
use crate::test_sender::TestSender;
use crate::trouble::Trouble;
use crate::{call, deliveries, events, hooks, problem};
use axum::Router;
use axum::middleware::from_fn_with_state;
use postrider_core::{Clock, Span};
use postrider_store::{Error, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

/// Test events on their way at a time.
const TESTS: usize = 16;
/// How often limits that are full again are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10);

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
    /// Is told of every request.
    pub observer: Arc<dyn Observer>,
}

/// The API, at work.
pub struct Api {
    shared: Arc<Shared>,
    observer: Arc<dyn Observer>,
    tasks: JoinSet<()>,
    closed: CancellationToken,
}

/// What the handlers share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) publisher: Publisher,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keep_events: Span,
    /// What bodies may take of memory, in KiB.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) limits: Limits,
    pub(crate) tests: Arc<dyn TestSender>,
    /// Who may send a test event now.
    pub(crate) test_turns: Semaphore,
    /// Who may commit events beside the publisher now.
    pub(crate) commit_turns: Semaphore,
    pub(crate) published: Arc<dyn Fn() + Send + Sync>,
    pub(crate) trouble: Arc<Trouble>,
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
            observer,
        } = parts;
        let trouble = Arc::new(Trouble::default());
        let closed = CancellationToken::new();
        let keys = Arc::new(Keys::new(store.clone(), clock.clone(), trouble.clone()));
        let (publisher, publishing) = Publisher::start(PublisherParts {
            store: store.clone(),
            commits,
            published: published.clone(),
            trouble: trouble.clone(),
            closed: closed.clone(),
        });
        let shared = Arc::new(Shared {
            store,
            publisher,
            keys: keys.clone(),
            clock,
            keep_events,
            room: Arc::new(Semaphore::new(call::ROOM_KIB)),
            limits: Limits::new(limits),
            tests,
            test_turns: Semaphore::new(TESTS),
            commit_turns: Semaphore::new(commits),
            published,
            trouble,
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
            observer,
            tasks,
            closed,
        }
    }

    /// Its routes; whatever else is asked for is answered by a problem document.
    pub fn router(&self) -> Router {
        let (routes, _) = routes().split_for_parts();
        routes
            .method_not_allowed_fallback(problem::method_not_allowed)
            .fallback(problem::nothing_here)
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

impl Shared {
    /// What a call of the store came to, told where trouble with the database is told.
    pub(crate) fn told<T>(&self, result: Result<T, Error>) -> Result<T, Problem> {
        match &result {
            Err(error @ (Error::Unavailable(_) | Error::Denied(_) | Error::Schema(_))) => {
                self.trouble.met(error);
            }
            _ => self.trouble.passed(),
        }
        result.map_err(Problem::from)
    }

    /// Forgets limits that are full again, until `closed`.
    async fn forget(&self, closed: CancellationToken) {
        while closed
            .run_until_cancelled(tokio::time::sleep(FORGET_EVERY))
            .await
            .is_some()
        {
            self.limits.forget(self.clock.now());
        }
    }
}

/// Every route of the API and its part of the document.
fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .merge(events::routes())
        .merge(hooks::routes())
        .merge(deliveries::routes())
}
