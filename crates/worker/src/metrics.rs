//! The metrics of a process, each with its name, unit and labels.
//!
//! Labels are few and bounded: never a hook, an account or a URL. Counters and histograms exist
//! at 0 from the start, except for statuses that the API does not normally return. Gauges of the
//! database (`sampled.rs`) exist from the first sample on.

mod catalogue;
mod observe;
mod sampled;

use crate::local_fault::LocalFault;
pub use catalogue::{MetricEntry, MetricKind, MetricScope};
use catalogue::{
    Registrar, counter, counters, counters_of, describe, float_gauge, gauge, gauges_of, histogram,
    histograms_of,
};
use postrider_core::{Timestamp, monotonic_now};
use postrider_store::GaugeSample;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Registry, TextEncoder,
};
use sampled::SampledGauges;
use std::sync::{Mutex, PoisonError};

/// Outcomes of attempts, each with the classes of the statuses it may have.
const OUTCOMES: [(&str, &[&str]); 6] = [
    ("accepted", &["2xx"]),
    ("refused", &["3xx", "4xx", "5xx"]),
    ("timed_out", &[NO_STATUS]),
    ("unreachable", &[NO_STATUS]),
    ("blocked", &[NO_STATUS]),
    ("worker_lost", &[NO_STATUS]),
];
const NO_STATUS: &str = "none";
const OPERATIONS: [&str; 8] = [
    "peek", "fan_out", "gates", "lease", "settle", "recover", "upkeep", "gauges",
];
/// Those of them that a worker makes, which are shown while they are in progress.
const WORKER_OPERATIONS: [&str; 7] = [
    "peek", "fan_out", "gates", "lease", "settle", "recover", "upkeep",
];
/// Calls of the store that work on many rows at once.
const BATCHES: [&str; 3] = ["fan_out", "lease", "settle"];
/// The answers of each route of the API.
const HTTP_ANSWERS: [(&str, &str, &[&str]); 1] = [(
    "/v1/events",
    "POST",
    &[
        "202", "400", "401", "403", "408", "413", "415", "422", "500", "503",
    ],
)];
const HTTP_BUCKETS: [f64; 12] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0,
];
const ATTEMPT_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0,
];
const LATENCY_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0,
];
const COMPLETION_BUCKETS: [f64; 17] = [
    0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0,
    86_400.0, 172_800.0, 259_200.0,
];
const BATCH_BUCKETS: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 10_000.0,
];
const STORE_BUCKETS: [f64; 10] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5,
];

/// Every metric of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    catalogue: Vec<MetricEntry>,
    pub(crate) events_fanned_out: IntCounter,
    pub(crate) events_duplicate: IntCounter,
    pub(crate) events_rejected: IntCounter,
    pub(crate) filter_problems: IntCounter,
    pub(crate) deliveries: IntCounterVec,
    attempts: IntCounterVec,
    pub(crate) attempt_seconds: Histogram,
    pub(crate) delivery_latency_seconds: Histogram,
    pub(crate) delivery_completion_seconds: Histogram,
    pub(crate) leases_expired: IntCounter,
    pub(crate) deliveries_expired: IntCounter,
    pub(crate) settlements_late: IntCounter,
    pub(crate) settlements_scrubbed: IntCounter,
    pub(crate) leases_released: IntCounter,
    pub(crate) hooks_disabled: IntCounterVec,
    pub(crate) hooks_warned: IntCounter,
    pub(crate) own_faults: IntCounterVec,
    pub(crate) hooks_backed_off: IntCounter,
    pub(crate) hooks_owned: IntGauge,
    pub(crate) inflight_requests: IntGauge,
    pub(crate) queued_deliveries: IntGauge,
    pub(crate) worker_slots: IntGauge,
    pub(crate) stalled_seconds: Gauge,
    pub(crate) no_look_seconds: Gauge,
    pub(crate) clock_drift_seconds: Gauge,
    pub(crate) batch_rows: HistogramVec,
    pub(crate) store_seconds: HistogramVec,
    pub(crate) store_errors: IntCounterVec,
    store_call_age_seconds: GaugeVec,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
    pool_connections: GaugeVec,
    pool_call_age_seconds: GaugeVec,
    retention_seconds: GaugeVec,
    sampled: Mutex<SampledGauges>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A catalogue with every series at 0.
    pub fn new() -> Self {
        let mut registrar = Registrar::default();
        let r = &mut registrar;
        let mut metrics = Self {
            registry: r.registry.clone(),
            catalogue: Vec::new(),
            events_fanned_out: counter(
                r,
                "postrider_events_fanned_out_total",
                "Outbox rows that became events.",
            ),
            events_duplicate: counter(
                r,
                "postrider_events_duplicate_total",
                "Outbox rows dropped because their dedup_key had been seen.",
            ),
            events_rejected: counter(
                r,
                "postrider_events_rejected_total",
                "Outbox rows moved to postrider_rejected.",
            ),
            filter_problems: counter(
                r,
                "postrider_filter_problems_total",
                "Payloads that a hook's filter could not evaluate; treated as no match.",
            ),
            deliveries: counters(
                r,
                "postrider_deliveries_total",
                "Deliveries by the result of their latest attempt.",
                "result",
                &["delivered", "retried", "failed"],
            ),
            attempts: counters_of(
                r,
                "postrider_attempts_total",
                "Attempts by outcome and by the class of the response's status.",
                &[
                    ("outcome", &OUTCOMES.map(|(outcome, _)| outcome)),
                    ("status_class", &["2xx", "3xx", "4xx", "5xx", NO_STATUS]),
                ],
            ),
            attempt_seconds: histogram(
                r,
                "postrider_attempt_duration_seconds",
                "Time of a whole exchange, from connecting to the last byte of the body.",
                &ATTEMPT_BUCKETS,
            ),
            delivery_latency_seconds: histogram(
                r,
                "postrider_delivery_latency_seconds",
                "Time from the event to the start of its first attempt.",
                &LATENCY_BUCKETS,
            ),
            delivery_completion_seconds: histogram(
                r,
                "postrider_delivery_completion_seconds",
                "Time from the event to the end of the attempt that was accepted.",
                &COMPLETION_BUCKETS,
            ),
            leases_expired: counter(
                r,
                "postrider_leases_expired_total",
                "Leases that expired without a settlement: a worker was lost or too slow.",
            ),
            deliveries_expired: counter(
                r,
                "postrider_deliveries_expired_total",
                "Deliveries ended undelivered because their events were past retention.events.",
            ),
            settlements_late: counter(
                r,
                "postrider_settlements_late_total",
                "Attempts recorded as late, because their lease was lost by then.",
            ),
            settlements_scrubbed: counter(
                r,
                "postrider_settlements_scrubbed_total",
                "Attempts recorded without their response, because the database refused it.",
            ),
            leases_released: counter(
                r,
                "postrider_leases_released_total",
                "Leases given back unused.",
            ),
            hooks_disabled: counters(
                r,
                "postrider_hooks_disabled_total",
                "Hooks disabled by Postrider.",
                "reason",
                &["failures", "gone"],
            ),
            hooks_warned: counter(
                r,
                "postrider_hooks_warned_total",
                "Hooks that reached half of their failure limit.",
            ),
            hooks_backed_off: counter(
                r,
                "postrider_hooks_backed_off_total",
                "Hooks backed off as a whole by attempts of this process.",
            ),
            hooks_owned: gauge(
                r,
                "postrider_owned_hooks",
                "Gated hooks (limited, ordered or held back) whose deliveries this process alone starts.",
            ),
            own_faults: counters(
                r,
                "postrider_own_faults_total",
                "Requests that could not be tried because of a local fault.",
                "kind",
                &LocalFault::ALL.map(LocalFault::name),
            ),
            inflight_requests: gauge(
                r,
                "postrider_inflight_requests",
                "Requests in flight in this process.",
            ),
            queued_deliveries: gauge(
                r,
                "postrider_queued_deliveries",
                "Leased deliveries of this process that are not being sent yet.",
            ),
            worker_slots: gauge(
                r,
                "postrider_worker_slots",
                "Requests that this process may have in flight; 0 if it runs no worker.",
            ),
            stalled_seconds: float_gauge(
                r,
                "postrider_stalled_seconds",
                "For how long this process could not look for work, or did nothing although there was work that it may do; 0 while it makes progress.",
            ),
            no_look_seconds: float_gauge(
                r,
                "postrider_no_look_seconds",
                "For how long this process could not look for work, because the database refused or did not answer; 0 while it can.",
            ),
            clock_drift_seconds: float_gauge(
                r,
                "postrider_clock_drift_seconds",
                "Difference of the latest reading of the database's clock from the expected time.",
            ),
            batch_rows: histograms_of(
                r,
                "postrider_batch_rows",
                "Rows processed by one call of the store: events of a fan-out, deliveries of a lease, attempts of a settlement.",
                &[("operation", &BATCHES)],
                &BATCH_BUCKETS,
            ),
            store_seconds: histograms_of(
                r,
                "postrider_store_seconds",
                "Time of one call of the store.",
                &[("operation", &OPERATIONS)],
                &STORE_BUCKETS,
            ),
            store_errors: counters(
                r,
                "postrider_store_errors_total",
                "Calls of the store that failed.",
                "operation",
                &OPERATIONS,
            ),
            store_call_age_seconds: gauges_of(
                r,
                MetricScope::Process,
                "postrider_store_call_age_seconds",
                "For how long the longest call of the store in progress has been waiting, of those that the worker makes; 0 without one.",
                &[("operation", &WORKER_OPERATIONS)],
            ),
            http_requests: counters_of(
                r,
                "postrider_http_requests_total",
                "Requests answered by the API.",
                &[("route", &[]), ("method", &[]), ("status", &[])],
            ),
            http_seconds: histograms_of(
                r,
                "postrider_http_request_duration_seconds",
                "Time from a request's head to the response of the API.",
                &[("route", &[]), ("method", &[])],
                &HTTP_BUCKETS,
            ),
            pool_connections: gauges_of(
                r,
                MetricScope::Process,
                "postrider_db_pool_connections",
                "Connections of this process to the database, by pool; `max` is the size of the pool.",
                &[
                    ("pool", &["hot", "intake", "calm", "readers"]),
                    ("state", &["used", "idle", "max"]),
                ],
            ),
            pool_call_age_seconds: gauges_of(
                r,
                MetricScope::Process,
                "postrider_db_call_age_seconds",
                "For how long the longest statement in progress has been waiting for PostgreSQL's answer, by pool; 0 without one.",
                &[("pool", &["hot", "intake", "calm"])],
            ),
            retention_seconds: gauges_of(
                r,
                MetricScope::Process,
                "postrider_retention_seconds",
                "How long history is kept, as configured.",
                &[("of", &["events", "attempts"])],
            ),
            sampled: Mutex::new(SampledGauges::new(r)),
        };
        for (outcome, classes) in OUTCOMES {
            for class in classes {
                metrics.attempts.with_label_values(&[outcome, class]);
            }
        }
        for operation in OPERATIONS {
            metrics.store_seconds.with_label_values(&[operation]);
        }
        for operation in BATCHES {
            metrics.batch_rows.with_label_values(&[operation]);
        }
        for (route, method, statuses) in HTTP_ANSWERS {
            metrics.http_seconds.with_label_values(&[route, method]);
            for status in statuses {
                let labels = [route, method, status];
                metrics.http_requests.with_label_values(&labels);
            }
        }
        let build = gauges_of(
            r,
            MetricScope::Process,
            "postrider_build_info",
            "1, labelled with the running version.",
            &[("version", &[])],
        );
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        r.collector(prometheus::process_collector::ProcessCollector::for_self());
        metrics.catalogue = registrar.entries;
        metrics
    }

    /// The description of every metric.
    pub fn catalogue(&self) -> &[MetricEntry] {
        &self.catalogue
    }

    /// The catalogue as a document in Markdown: `docs/metrics.md`.
    pub fn describe(&self) -> String {
        describe(&self.catalogue)
    }

    /// Shows a sample of the database.
    pub fn show_sample(&self, sampled: &GaugeSample, now: Timestamp) {
        self.sampled().show(sampled, now, monotonic_now());
    }

    fn sampled(&self) -> std::sync::MutexGuard<'_, SampledGauges> {
        self.sampled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All metrics in the text format of Prometheus.
    pub fn encode(&self) -> String {
        // Locked until the end: a sample is shown whole or not at all.
        let mut sampled = self.sampled();
        sampled.refresh(monotonic_now());
        let mut buffer = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut buffer) {
            Ok(()) => String::from_utf8(buffer).unwrap_or_default(),
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
