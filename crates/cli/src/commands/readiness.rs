//! The metrics and readiness of `serve`.

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

/// A worker stands still when no search for work has succeeded for this long and three polls.
const NO_LOOK_MAX: Duration = Duration::from_secs(10);

/// A worker stands still when it has had startable work but done nothing for this long and two
/// request timeouts.
const NO_WORK_MAX: Duration = Duration::from_secs(30);

/// The parts of the process that are observed.
#[derive(Clone)]
pub struct Observed {
    /// The store, for its pools and the state of its tables.
    pub store: Arc<dyn Store>,
    /// The metrics to encode.
    pub metrics: Arc<Metrics>,
    /// Progress of the worker; `None` in a process without one.
    pub progress: Option<Arc<Progress>>,
    /// Cancelled when the process drains.
    pub drain: CancellationToken,
}

/// Counts the answers of the API.
pub struct AnswerCounter(pub Arc<Metrics>);

/// Checks whether this process is ready.
pub struct ReadinessCheck {
    observed: Observed,
    no_look_max: Duration,
    no_work_max: Duration,
}

impl Observed {
    /// The route of `/metrics`.
    pub fn routes(&self) -> Router {
        let observed = self.clone();
        let encode = move || {
            let observed = observed.clone();
            async move {
                let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4");
                ([kind], observed.encode())
            }
        };
        Router::new().route("/metrics", get(encode))
    }

    /// The check behind `/readyz`.
    pub fn readiness(&self, worker: &WorkerSettings) -> ReadinessCheck {
        ReadinessCheck {
            observed: self.clone(),
            no_look_max: NO_LOOK_MAX + 3 * worker.poll_interval.get(),
            no_work_max: NO_WORK_MAX + 2 * worker.request_timeout.get(),
        }
    }

    /// All metrics as text, after updating those that are sampled on request.
    fn encode(&self) -> String {
        self.metrics.show_pools(&self.store.pools());
        if let Some(progress) = &self.progress {
            self.metrics.show_standstill(progress.standstill());
        }
        self.metrics.encode()
    }
}

impl Observer for AnswerCounter {
    fn answered(&self, route: &str, method: &str, status: &str, took: Duration) {
        self.0.http_answered(route, method, status, took);
    }
}

#[async_trait]
impl Readiness for ReadinessCheck {
    async fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.observed.drain.is_cancelled() {
            problems.push("draining".into());
        }
        match tokio::time::timeout(READY_TIMEOUT, self.observed.store.schema()).await {
            Err(_) => problems.push(format!(
                "the database did not answer within {} s",
                READY_TIMEOUT.as_secs()
            )),
            Ok(Err(error)) => problems.push(error.to_string()),
            Ok(Ok(state)) => problems.extend(state.problem()),
        }
        if let Some(progress) = &self.observed.progress {
            problems.extend(self.standstill(progress.standstill()));
        }
        problems
    }
}

impl ReadinessCheck {
    /// The problem of a worker that stands still; `None` if it does not.
    fn standstill(&self, still: Standstill) -> Option<String> {
        if still.no_look > self.no_look_max {
            return Some(format!(
                "the worker has not looked for work for {} s: see its log",
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
    async fn a_worker_that_stands_still_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/postrider.db", folder.path().display());
        let settings = DatabaseSettings { url };
        let store = postrider_store::open(&settings, Default::default()).await;
        let observed = Observed {
            store: store.unwrap(),
            metrics: Arc::new(Metrics::new()),
            progress: None,
            drain: CancellationToken::new(),
        };
        let ready = observed.readiness(&WorkerSettings::default());
        let still = |no_look, no_work| {
            ready.standstill(Standstill {
                no_look: Duration::from_secs(no_look),
                no_work: Duration::from_secs(no_work),
            })
        };
        assert_eq!(still(0, 0), None);
        // Requests may take 15 s, and meanwhile no other delivery may be startable.
        assert_eq!(still(9, 59), None);
        let looks = "the worker has not looked for work for 11 s: see its log";
        assert_eq!(still(11, 0).as_deref(), Some(looks));
        let works = "the worker has done nothing for 61 s although work is due";
        assert_eq!(still(0, 61).as_deref(), Some(works));
    }
}
