//! The metrics and readiness of `serve`.

use async_trait::async_trait;
use axum::Router;
use axum::http::header;
use axum::routing::get;
use postrider_api::{Observer, Readiness};
use postrider_core::monotonic_now;
use postrider_store::{SchemaState, Store};
use postrider_worker::{Metrics, Progress, Standstill, WorkerSettings};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

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
    /// The question to the database that has no answer yet. The next probe waits for the same
    /// answer, so that probes of a silent database do not use up its connections.
    asking: Mutex<Option<Asking>>,
    no_look_max: Duration,
    no_work_max: Duration,
}

/// A question to the database about its tables, until it is dropped.
struct Asking {
    answer: AbortOnDropHandle<postrider_store::Result<SchemaState>>,
    since: Instant,
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
            asking: Mutex::default(),
            no_look_max: NO_LOOK_MAX + 3 * worker.poll_interval.get(),
            no_work_max: NO_WORK_MAX + 2 * worker.request_timeout.get(),
        }
    }

    /// All metrics as text, after updating those that are sampled on request.
    fn encode(&self) -> String {
        self.metrics.show_pools(&self.store.pools());
        if let Some(progress) = &self.progress {
            self.metrics.show_standstill(progress.standstill());
            self.metrics.show_calls(progress);
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
        problems.extend(self.database().await);
        if let Some(progress) = &self.observed.progress {
            problems.extend(self.standstill(progress.standstill()));
            problems.extend(self.hanging(progress.longest_call()));
        }
        problems
    }

    fn lifeless(&self) -> Option<String> {
        let since = self.observed.progress.as_ref()?.lifeless()?;
        Some(format!(
            "the worker's loop has given no sign of life for {} s",
            since.as_secs()
        ))
    }
}

impl ReadinessCheck {
    /// The problem with the database, if there is one.
    async fn database(&self) -> Option<String> {
        let mut asking = self.asking.lock().await;
        let Asking { answer, since } = asking.get_or_insert_with(|| {
            let store = self.observed.store.clone();
            let answer = tokio::spawn(async move { store.schema().await });
            Asking {
                answer: AbortOnDropHandle::new(answer),
                since: monotonic_now(),
            }
        });
        match tokio::time::timeout(READY_TIMEOUT, &mut *answer).await {
            Err(_) => {
                let waited = (monotonic_now() - *since).as_secs();
                let waited = waited.max(READY_TIMEOUT.as_secs());
                Some(format!("the database did not answer within {waited} s"))
            }
            Ok(answered) => {
                *asking = None;
                match answered {
                    Ok(Ok(state)) => state.problem(),
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(ended) => Some(format!("the database could not be asked: {ended}")),
                }
            }
        }
    }

    /// The problem of a call that waits too long for the database.
    fn hanging(&self, longest: Option<(&'static str, Duration)>) -> Option<String> {
        let (operation, waited) = longest?;
        (waited > self.no_look_max).then(|| {
            format!(
                "the worker has been waiting for the database for {} s ({operation})",
                waited.as_secs()
            )
        })
    }

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
        let waits = |seconds| ready.hanging(Some(("lease", Duration::from_secs(seconds))));
        assert_eq!(waits(9), None);
        let hangs = "the worker has been waiting for the database for 11 s (lease)";
        assert_eq!(waits(11).as_deref(), Some(hangs));
        assert_eq!(ready.lifeless(), None);
    }
}
