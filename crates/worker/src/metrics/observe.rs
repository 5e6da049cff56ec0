//! Counts and logs the results of the dispatcher's calls to the store.

use super::Metrics;
use postrider_store::{FanOutResult, Leased, RecoverResult};
use std::time::Duration;
use tracing::{info, warn};

impl Metrics {
    /// The dispatcher has made a step; `counts` are the deliveries queued and in flight.
    pub(crate) fn show_dispatch(&self, drift_seconds: f64, owned: usize, counts: (u32, u32)) {
        let (queued, in_flight) = counts;
        self.clock_drift_seconds.set(drift_seconds);
        self.hooks_owned
            .set(i64::try_from(owned).unwrap_or(i64::MAX));
        self.queued_deliveries.set(i64::from(queued));
        self.inflight_requests.set(i64::from(in_flight));
    }

    /// A call of the store has returned.
    pub(crate) fn store_called(&self, operation: &str, took: Duration, succeeded: bool) {
        let labels = [operation];
        let seconds = self.store_seconds.with_label_values(&labels);
        seconds.observe(took.as_secs_f64());
        if !succeeded {
            self.store_errors.with_label_values(&labels).inc();
        }
    }

    pub(crate) fn observe_fan_out(&self, result: &FanOutResult) {
        let rows = self.batch_rows.with_label_values(&["fan_out"]);
        rows.observe(f64::from(result.events));
        self.events_fanned_out.inc_by(u64::from(result.events));
        self.events_duplicate.inc_by(u64::from(result.duplicates));
        self.events_rejected.inc_by(u64::from(result.rejected));
        self.filter_problems
            .inc_by(u64::from(result.filter_problems));
        if result.rejected > 0 {
            warn!(
                rows = result.rejected,
                "Rejected {} outbox rows that cannot be delivered; `postrider check` lists them with their reasons",
                result.rejected
            );
        }
    }

    pub(crate) fn observe_lease(&self, leased: &[Leased]) {
        let rows = self.batch_rows.with_label_values(&["lease"]);
        rows.observe(leased.iter().flat_map(Leased::ids).count() as f64);
    }

    pub(crate) fn observe_recovery(&self, result: &RecoverResult) {
        let total = result.recovered + result.worker_lost;
        self.leases_expired.inc_by(u64::from(total));
        self.workers_lost(result.worker_lost);
        if total > 0 {
            info!(
                deliveries = total,
                "Recovered {total} deliveries whose lease expired without a settlement"
            );
        }
    }
}
