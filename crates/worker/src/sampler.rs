//! Keeps the metrics of the database up to date: every process shows the latest sample, and one
//! of them takes the next.

use crate::metrics::Metrics;
use postrider_core::{Clock, monotonic_now};
use postrider_store::{Result, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::warn;

/// How often the latest sample is read.
const EVERY: Duration = Duration::from_secs(5);

/// How often a failure of it is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Shows samples of the database among the metrics of a process.
pub struct Sampler {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Sampler {
    /// A sampler that [`run`](Self::run) starts.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            clock,
            metrics,
        }
    }

    /// Shows samples until dropped.
    pub async fn run(self) {
        let mut logged: Option<Instant> = None;
        loop {
            if let Err(problem) = self.look().await {
                self.metrics.sample_failed();
                if logged.is_none_or(|at| monotonic_now() - at >= LOG_EVERY) {
                    logged = Some(monotonic_now());
                    warn!("Could not sample the metrics of the database: {problem}");
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Shows the latest sample, and takes a new one if it is due.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn look(&self) -> Result<()> {
        let begun = monotonic_now();
        let sampled = self.store.gauges(self.clock.now()).await?;
        self.metrics.sample_took(monotonic_now() - begun);
        if let Some(sampled) = sampled {
            self.metrics.show_sample(&sampled, self.clock.now());
        }
        Ok(())
    }
}
