//! The catalogue of metrics: every name, unit and label stands here.
//!
//! Labels are few and bounded: never a hook, an account or a URL. All series exist at 0 from
//! the start, but for answers of the API that nobody is meant to get.

use crate::own_fault::OwnFault;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};
use std::time::Duration;

const OUTCOMES: [&str; 6] = [
    "accepted",
    "refused",
    "timed_out",
    "unreachable",
    "blocked",
    "worker_lost",
];
const OPERATIONS: [&str; 7] = [
    "peek", "fan_out", "gates", "lease", "settle", "recover", "upkeep",
];
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
const STORE_BUCKETS: [f64; 10] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5,
];

/// Every metric of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) events_fanned_out: IntCounter,
    pub(crate) events_duplicate: IntCounter,
    pub(crate) events_rejected: IntCounter,
    pub(crate) filter_problems: IntCounter,
    pub(crate) deliveries: IntCounterVec,
    pub(crate) attempts: IntCounterVec,
    pub(crate) attempt_seconds: Histogram,
    pub(crate) delivery_latency_seconds: Histogram,
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
    pub(crate) clock_drift_milliseconds: IntGauge,
    pub(crate) store_seconds: HistogramVec,
    pub(crate) store_errors: IntCounterVec,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A catalogue with every series at 0.
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let metrics = Self {
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
                "Payloads that a hook's filter could not be held against; they did not match.",
            ),
            deliveries: counters(
                r,
                "postrider_deliveries_total",
                "Deliveries by what an attempt made of them.",
                "result",
                &["delivered", "retried", "failed"],
            ),
            attempts: counters(
                r,
                "postrider_attempts_total",
                "Attempts by outcome.",
                "outcome",
                &OUTCOMES,
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
            leases_expired: counter(
                r,
                "postrider_leases_expired_total",
                "Leases that ran out without a settlement: a worker was lost or too slow.",
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
                "Hooks that came half of the way to being disabled.",
            ),
            hooks_backed_off: counter(
                r,
                "postrider_hooks_backed_off_total",
                "Hooks backed off as a whole by attempts of this process.",
            ),
            hooks_owned: gauge(
                r,
                "postrider_owned_hooks",
                "Hooks with limits or an order, or held back, of which this process alone starts deliveries.",
            ),
            own_faults: counters(
                r,
                "postrider_own_faults_total",
                "Requests that could not be tried, for a reason that is no receiver's.",
                "kind",
                &OwnFault::ALL.map(OwnFault::name),
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
            clock_drift_milliseconds: gauge(
                r,
                "postrider_clock_drift_milliseconds",
                "How far the latest reading of the database's clock lay from what was expected.",
            ),
            store_seconds: {
                let metric = HistogramVec::new(
                    HistogramOpts::new("postrider_store_seconds", "Time of one call of the store.")
                        .buckets(STORE_BUCKETS.to_vec()),
                    &["operation"],
                );
                let metric = register(r, metric);
                for operation in OPERATIONS {
                    metric.with_label_values(&[operation]);
                }
                metric
            },
            store_errors: counters(
                r,
                "postrider_store_errors_total",
                "Calls of the store that failed.",
                "operation",
                &OPERATIONS,
            ),
            http_requests: register(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "postrider_http_requests_total",
                        "Requests that the API has answered.",
                    ),
                    &["route", "method", "status"],
                ),
            ),
            http_seconds: {
                let options = HistogramOpts::new(
                    "postrider_http_request_duration_seconds",
                    "Time from a request's head to the answer of the API.",
                );
                let options = options.buckets(HTTP_BUCKETS.to_vec());
                register(r, HistogramVec::new(options, &["route", "method"]))
            },
            registry: registry.clone(),
        };
        for (route, method, statuses) in HTTP_ANSWERS {
            metrics.http_seconds.with_label_values(&[route, method]);
            for status in statuses {
                let labels = [route, method, status];
                metrics.http_requests.with_label_values(&labels);
            }
        }
        let build = counters(
            r,
            "postrider_build_info",
            "The version that runs.",
            "version",
            &[env!("CARGO_PKG_VERSION")],
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).inc();
        let process = prometheus::process_collector::ProcessCollector::for_self();
        // The process metrics are a bonus: a system without them loses nothing else.
        let _ = registry.register(Box::new(process));
        metrics
    }

    /// Counts a request that the API has answered. Every label must be one of few: the API's
    /// routes as they are written, and the methods and statuses there are.
    pub fn http_answered(&self, route: &str, method: &str, status: &str, took: Duration) {
        self.http_requests
            .with_label_values(&[route, method, status])
            .inc();
        self.http_seconds
            .with_label_values(&[route, method])
            .observe(took.as_secs_f64());
    }

    /// All metrics in the text format of Prometheus.
    pub fn encode(&self) -> String {
        let mut buffer = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut buffer) {
            Ok(()) => String::from_utf8(buffer).unwrap_or_default(),
            Err(_) => String::new(),
        }
    }
}

/// Registers a metric of this catalogue. Names and labels are constants and each is used once,
/// which the test of the catalogue shows; so this cannot fail at run time.
fn register<M: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("the catalogue's names and labels are valid");
    registry
        .register(Box::new(metric.clone()))
        .expect("the catalogue's names are unique");
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(registry, Histogram::with_opts(options))
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    values: &[&str],
) -> IntCounterVec {
    let metric = register(
        registry,
        IntCounterVec::new(Opts::new(name, help), &[label]),
    );
    for value in values {
        metric.with_label_values(&[value]);
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_exists_at_zero_from_the_start() {
        let text = Metrics::new().encode();
        for line in [
            "postrider_attempts_total{outcome=\"timed_out\"} 0",
            "postrider_deliveries_total{result=\"delivered\"} 0",
            "postrider_hooks_disabled_total{reason=\"gone\"} 0",
            "postrider_own_faults_total{kind=\"descriptors\"} 0",
            "postrider_store_seconds_count{operation=\"settle\"} 0",
            "postrider_leases_expired_total 0",
            "postrider_http_requests_total{method=\"POST\",route=\"/v1/events\",status=\"202\"} 0",
            concat!(
                "postrider_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in\n{text}"
            );
        }
    }
}
