//! Pruning: deletes history that is past its retention, without delaying deliveries.
//!
//! Every worker process asks from time to time; the store lets one of them prune at a time. What
//! cannot be deleted yet is tried again soon.

use crate::clock::WorkerClock;
use crate::metrics::Metrics;
use postrider_store::{Pruned, Result, Retention, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long after its start a process prunes first: it has more urgent things to do.
const FIRST: Duration = Duration::from_secs(60);
/// How often a process prunes.
const EVERY: Duration = Duration::from_secs(600);
/// How soon it tries again when something could not be deleted, or the call failed.
const SOON: Duration = Duration::from_secs(30);
/// Rows deleted in one transaction at most.
const BATCH: u32 = 5_000;

/// Deletes history that is past its retention.
pub struct Pruner {
    /// The database that holds the history.
    pub store: Arc<dyn Store>,
    /// Source of the current time.
    pub clock: Arc<dyn WorkerClock>,
    /// How long events and attempts are kept.
    pub keep: Retention,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
}

/// The problem that was logged last, without its numbers, so that one that lasts is logged once.
#[derive(Debug, Default)]
struct LoggedProblem(Option<String>);

impl Pruner {
    /// Prunes regularly until the worker drains. Another process finishes what was begun by then.
    pub async fn run(&self, drain: CancellationToken) {
        let mut logged = LoggedProblem::default();
        drain
            .run_until_cancelled(async {
                tokio::time::sleep(FIRST).await;
                loop {
                    // A clock that jumps is not trusted: what is deleted does not come back.
                    let wait = match self.clock.is_steady() {
                        true => logged.wait_after(self.turn().await),
                        false => SOON,
                    };
                    tokio::time::sleep(wait).await;
                }
            })
            .await;
    }

    /// Deletes everything that can be deleted now.
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

impl LoggedProblem {
    /// Logs a problem when it begins; returns how long to wait before the next turn.
    fn wait_after(&mut self, turn: Result<Pruned>) -> Duration {
        let problem = match turn {
            Ok(pruned) => pruned.waiting,
            Err(error) => Some(format!("what is past its retention stays: {error}")),
        };
        match problem {
            Some(problem) => {
                let kind = problem.replace(|c: char| c.is_ascii_digit(), "");
                if self.0.as_ref() != Some(&kind) {
                    warn!("Retention waits: {problem}");
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
