//! The API as a whole: its routes, what they share, and the tasks behind them.

use crate::dialects::{self, Desk, DeskParts, DialectSettings};
use crate::keys::Keys;
use crate::observe::{Observer, observe};
use crate::publisher::{Publisher, PublisherParts};
use crate::test_sender::TestSender;
use crate::trouble::Trouble;
use crate::{call, events, problem};
use axum::Router;
use axum::middleware::from_fn_with_state;
use postrider_core::{Clock, Span};
use postrider_store::Store;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
    /// Is told of every request.
    pub observer: Arc<dyn Observer>,
    /// Sends test events.
    pub tests: Arc<dyn TestSender>,
    /// What the compatible APIs are told.
    pub dialects: DialectSettings,
}

/// The API, at work.
pub struct Api {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    observer: Arc<dyn Observer>,
    tasks: JoinSet<()>,
    closed: CancellationToken,
}

/// What the handlers share.
pub(crate) struct Shared {
    pub(crate) publisher: Publisher,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keep_events: Span,
    /// What bodies may take of memory, in KiB.
    pub(crate) room: Arc<Semaphore>,
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
            observer,
            tests,
            dialects,
        } = parts;
        let trouble = Arc::new(Trouble::default());
        let closed = CancellationToken::new();
        let keys = Arc::new(Keys::new(store.clone(), clock.clone(), trouble.clone()));
        let desk = Arc::new(Desk::new(DeskParts {
            store: store.clone(),
            clock: clock.clone(),
            trouble: trouble.clone(),
            tests,
            settings: dialects,
        }));
        let (publisher, publishing) = Publisher::start(PublisherParts {
            store,
            commits,
            published,
            trouble,
            closed: closed.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(publishing);
        tasks.spawn({
            let (keys, closed) = (keys.clone(), closed.clone());
            async move { keys.run(closed).await }
        });
        Self {
            shared: Arc::new(Shared {
                publisher,
                keys,
                clock,
                keep_events,
                room: Arc::new(Semaphore::new(call::ROOM_KIB)),
            }),
            desk,
            observer,
            tasks,
            closed,
        }
    }

    /// Its routes; whatever else is asked for is answered by a problem document.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(events::routes())
            .merge(dialects::routes(&self.desk))
            .method_not_allowed_fallback(problem::method_not_allowed)
            .fallback(problem::not_found)
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
