//! What `serve` tells of itself: its metrics, and whether it is ready.

use async_trait::async_trait;
use axum::Router;
use axum::http::header;
use axum::routing::get;
use postrider_api::{Observer, Readiness};
use postrider_store::Store;
use postrider_worker::{Metrics, Progress, Standstill, WorkerSettings};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long `/readyz` waits for the database.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// A worker that has not looked for work with success for so long, and some polls, does not move.
const NO_LOOK_MAX: Duration = Duration::from_secs(10);

/// Nor does one that has done nothing for so long, and two requests, although there was work
/// that it may do.
const NO_WORK_MAX: Duration = Duration::from_secs(30);

/// What is looked at when somebody asks.
#[derive(Clone)]
pub struct Watched {
    /// Where everything is.
    pub store: Arc<dyn Store>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the worker moves, if there is one.
    pub progress: Option<Arc<Progress>>,
    /// Ends the process.
    pub drain: CancellationToken,
}

/// Counts what the API answers.
pub struct Counted(pub Arc<Metrics>);

/// What makes this process ready.
pub struct Ready {
    watched: Watched,
    no_look_max: Duration,
    no_work_max: Duration,
}

impl Watched {
    /// The route of `/metrics`.
    pub fn routes(&self) -> Router {
        let watched = self.clone();
        let encode = move || {
            let watched = watched.clone();
            async move {
                let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4");
                ([kind], watched.encode())
            }
        };
        Router::new().route("/metrics", get(encode))
    }

    /// What `/readyz` asks.
    pub fn readiness(&self, worker: &WorkerSettings) -> Ready {
        Ready {
            watched: self.clone(),
            no_look_max: NO_LOOK_MAX + 3 * worker.poll_interval.get(),
            no_work_max: NO_WORK_MAX + 2 * worker.request_timeout.get(),
        }
    }

    /// All metrics, with those that are looked up only when they are asked for.
    fn encode(&self) -> String {
        self.metrics.show_pools(&self.store.pools());
        if let Some(progress) = &self.progress {
            self.metrics.show_standstill(progress.standstill());
        }
        self.metrics.encode()
    }
}

impl Observer for Counted {
    fn answered(&self, route: &str, method: &str, status: &str, took: Duration) {
        self.0.http_answered(route, method, status, took);
    }
}

#[async_trait]
impl Readiness for Ready {
    async fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.watched.drain.is_cancelled() {
            problems.push("draining".into());
        }
        match tokio::time::timeout(READY_TIMEOUT, self.watched.store.schema()).await {
            Err(_) => problems.push(format!(
                "the database did not answer within {} s",
                READY_TIMEOUT.as_secs()
            )),
            Ok(Err(error)) => problems.push(error.to_string()),
            Ok(Ok(state)) => problems.extend(state.problem()),
        }
        if let Some(progress) = &self.watched.progress {
            problems.extend(self.standstill(progress.standstill()));
        }
        problems
    }
}

impl Ready {
    /// What is wrong with a worker that has been standing still for so long.
    fn standstill(&self, still: Standstill) -> Option<String> {
        if still.no_look > self.no_look_max {
            return Some(format!(
                "the worker has not looked for work for {} s: its log says why",
                still.no_look.as_secs()
            ));
        }
        (still.no_work > self.no_work_max).then(|| {
            format!(
                "the worker has done nothing for {} s although work is due",
                still.no_work.as_secs()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_store::DatabaseSettings;

    #[tokio::test]
    async fn a_worker_is_unready_when_it_stands_still_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/postrider.db", folder.path().display());
        let settings = DatabaseSettings { url };
        let store = postrider_store::open(&settings, Default::default()).await;
        let watched = Watched {
            store: store.unwrap(),
            metrics: Arc::new(Metrics::new()),
            progress: None,
            drain: CancellationToken::new(),
        };
        let ready = watched.readiness(&WorkerSettings::default());
        let still = |no_look, no_work| {
            ready.standstill(Standstill {
                no_look: Duration::from_secs(no_look),
                no_work: Duration::from_secs(no_work),
            })
        };
        assert_eq!(still(0, 0), None);
        // Requests may take 15 s, and nothing else may be free to start meanwhile.
        assert_eq!(still(9, 59), None);
        let looks = "the worker has not looked for work for 11 s: its log says why";
        assert_eq!(still(11, 0).as_deref(), Some(looks));
        let works = "the worker has done nothing for 61 s although work is due";
        assert_eq!(still(0, 61).as_deref(), Some(works));
    }
}
