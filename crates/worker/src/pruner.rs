//! Takes away what is past its retention, beside the work and never in its way.
//!
//! Every worker process asks now and then; the store lets one of them do it at a time. What has
//! to wait is asked for again soon.

use crate::clock::WorkerClock;
use crate::metrics::Metrics;
use postrider_store::{Pruned, Result, Retention, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long after its start a process looks first: it has more urgent things to do.
const FIRST: Duration = Duration::from_secs(60);
/// How often is looked for what is past.
const EVERY: Duration = Duration::from_secs(600);
/// How soon is looked again when something had to wait, or the database did not answer.
const SOON: Duration = Duration::from_secs(30);
/// Rows taken away in one transaction at most.
const BATCH: u32 = 5_000;

/// Takes away what is past its retention.
pub struct Pruner {
    /// Where history is.
    pub store: Arc<dyn Store>,
    /// What it goes by.
    pub clock: Arc<dyn WorkerClock>,
    /// How long what is kept.
    pub keep: Retention,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

/// What was told last, numbers apart, so that a trouble that lasts is told once.
#[derive(Debug, Default)]
struct Told(Option<String>);

impl Pruner {
    /// Keeps at it until the worker drains. What was begun by then is finished by another.
    pub async fn run(&self, drain: CancellationToken) {
        let mut told = Told::default();
        drain
            .run_until_cancelled(async {
                tokio::time::sleep(FIRST).await;
                loop {
                    // A clock that jumps is not believed: what went does not come back.
                    let wait = match self.clock.is_steady() {
                        true => told.of(self.turn().await),
                        false => SOON,
                    };
                    tokio::time::sleep(wait).await;
                }
            })
            .await;
    }

    /// One turn: everything that can go now goes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn turn(&self) -> Result<Pruned> {
        let now = self.clock.now();
        let pruned = self.store.prune(&self.keep, now, BATCH).await?;
        self.metrics.deliveries_expired.inc_by(pruned.expired);
        if pruned.expired > 0 {
            warn!(
                deliveries = pruned.expired,
                "Ended {} deliveries as expired: their events are older than retention.events, \
                 and they had not been delivered (`postrider delivery list --state expired`)",
                pruned.expired
            );
        }
        if let (Some(first), Some(last)) = (pruned.days.first(), pruned.days.last()) {
            info!(
                days = pruned.days.len(),
                "Removed the events and attempts of {first} to {last}, which are past their \
                 retention"
            );
        }
        if let (Some(first), Some(last)) = (pruned.attempts.first(), pruned.attempts.last()) {
            info!(
                days = pruned.attempts.len(),
                "Removed the attempts of {first} to {last}, which are past their retention"
            );
        }
        Ok(pruned)
    }
}

impl Told {
    /// Tells of a trouble when it begins; returns how long to wait.
    fn of(&mut self, turn: Result<Pruned>) -> Duration {
        let trouble = match turn {
            Ok(pruned) => pruned.waiting,
            Err(error) => Some(format!("what is past its retention stays: {error}")),
        };
        match trouble {
            Some(trouble) => {
                let kind = trouble.replace(|c: char| c.is_ascii_digit(), "");
                if self.0.as_ref() != Some(&kind) {
                    warn!("Retention waits: {trouble}");
                }
                self.0 = Some(kind);
                SOON
            }
            None => {
                self.0 = None;
                EVERY
            }
        }
    }
}
