//! Counts what happens in a process, and logs what the dispatcher finds.

use super::{Metrics, NO_STATUS, WORKER_OPERATIONS};
use crate::watchdog::{Progress, Standstill};
use postrider_core::Outcome;
use postrider_store::{FanOutResult, HookRequest, PoolGauge, RecoverResult};
use std::time::Duration;
use tracing::{info, warn};

impl Metrics {
    /// Counts an attempt.
    pub(crate) fn attempted(&self, outcome: &Outcome) {
        let class = outcome.status().map_or(NO_STATUS, status_class);
        let labels = [outcome.name(), class];
        self.attempts.with_label_values(&labels).inc();
    }

    /// Counts attempts that were recorded because their worker was lost.
    pub(crate) fn workers_lost(&self, count: u32) {
        let labels = [Outcome::WorkerLost.name(), NO_STATUS];
        let counter = self.attempts.with_label_values(&labels);
        counter.inc_by(u64::from(count));
    }

    /// Shows how long history is to be kept.
    pub fn show_retention(&self, events: Duration, attempts: Duration) {
        for (of, kept) in [("events", events), ("attempts", attempts)] {
            let gauge = self.retention_seconds.with_label_values(&[of]);
            gauge.set(kept.as_secs_f64());
        }
    }

    /// Shows for how long the worker of this process has been standing still.
    pub fn show_standstill(&self, still: Standstill) {
        self.stalled_seconds.set(still.longest().as_secs_f64());
        self.no_look_seconds.set(still.longest_look().as_secs_f64());
    }

    /// Shows for how long the worker's calls of the store have been waiting.
    pub fn show_calls(&self, progress: &Progress) {
        for operation in WORKER_OPERATIONS {
            let gauge = self.store_call_age_seconds.with_label_values(&[operation]);
            gauge.set(progress.waiting_for(operation).as_secs_f64());
        }
    }

    /// Shows how many connections are in use, and the longest statements in progress.
    pub fn show_pools(&self, pools: &[PoolGauge]) {
        for pool in pools {
            let gauge = self.pool_call_age_seconds.with_label_values(&[pool.pool]);
            gauge.set(pool.longest.as_secs_f64());
            for (state, count) in [("used", pool.used), ("idle", pool.idle), ("max", pool.max)] {
                let gauge = self.pool_connections.with_label_values(&[pool.pool, state]);
                gauge.set(f64::from(count));
            }
        }
    }

    /// Observes how long a call of the store for a sample took.
    pub(crate) fn sample_took(&self, took: Duration) {
        let histogram = self.store_seconds.with_label_values(&["gauges"]);
        histogram.observe(took.as_secs_f64());
    }

    /// Counts a failed call of the store for a sample.
    pub(crate) fn sample_failed(&self) {
        self.store_errors.with_label_values(&["gauges"]).inc();
    }

    /// Counts a request that the API has answered. The values of each label must be few: the
    /// API's routes as they are written, and known methods and statuses.
    pub fn http_answered(&self, route: &str, method: &str, status: &str, took: Duration) {
        self.http_requests
            .with_label_values(&[route, method, status])
            .inc();
        self.http_seconds
            .with_label_values(&[route, method])
            .observe(took.as_secs_f64());
    }

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

    pub(crate) fn observe_lease(&self, leased: &[HookRequest]) {
        let rows = self.batch_rows.with_label_values(&["lease"]);
        rows.observe(leased.iter().flat_map(HookRequest::ids).count() as f64);
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

fn status_class(status: u16) -> &'static str {
    match status / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    }
}
