//! The catalogue is complete, and describes what is served.

use super::*;
use crate::watchdog::Progress;
use postrider_core::TestMonotonicClock;
use postrider_store::PoolGauge;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn every_series_exists_at_zero_from_the_start() {
    let text = Metrics::new().encode();
    for line in [
        "postrider_attempts_total{outcome=\"timed_out\",status_class=\"none\"} 0",
        "postrider_batch_rows_count{operation=\"lease\"} 0",
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

/// Writes the document anew with `postrider metrics > docs/metrics.md`.
#[test]
fn the_document_is_the_catalogue() {
    let document = include_str!("../../../../docs/metrics.md");
    let expected = Metrics::new().describe();
    for (told, line) in document.lines().zip(expected.lines()) {
        assert_eq!(told, line);
    }
    assert_eq!(document, expected);
}

#[test]
fn the_catalogue_names_all_that_is_served_and_nothing_else() {
    let metrics = Metrics::new();
    metrics.show_sample(&sample(), moment(0));
    metrics.show_pools(&[PoolGauge {
        pool: "hot",
        used: 1,
        idle: 2,
        max: 8,
        longest: Duration::ZERO,
    }]);
    let clock = Arc::new(TestMonotonicClock::default());
    metrics.show_calls(&Progress::new(clock));
    metrics.show_retention(Duration::from_secs(60), Duration::from_secs(60));
    let text = metrics.encode();
    let mut served: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let mut told: Vec<_> = metrics
        .catalogue()
        .iter()
        .map(|e| e.name.as_str())
        .collect();
    served.sort_unstable();
    told.sort_unstable();
    assert_eq!(served, told);
    for entry in metrics.catalogue() {
        assert!(entry.help.ends_with('.'), "{}", entry.name);
        let counts = entry.name.ends_with("_total");
        assert_eq!(counts, entry.kind == MetricKind::Counter, "{}", entry.name);
    }
}

#[test]
fn a_sample_is_shown_until_it_is_too_old() {
    let metrics = Metrics::new();
    let due = "postrider_due_deliveries 3";
    assert!(!metrics.encode().contains("postrider_due_deliveries"));
    metrics.show_sample(&sample(), moment(7));
    let text = metrics.encode();
    assert!(text.lines().any(|line| line == due), "{text}");
    assert!(text.contains("postrider_sample_age_seconds 7"), "{text}");
    assert!(text.contains("postrider_db_dead_rows{table=\"postrider_outbox\"} 9"));
    metrics.show_sample(&sample(), moment(301));
    let text = metrics.encode();
    assert!(!text.contains("postrider_due_deliveries"), "{text}");
    assert!(!text.contains("postrider_db_dead_rows"), "{text}");
}

fn sample() -> GaugeSample {
    let text = r#"{"due": {"count": 3, "oldest_seconds": 1.5}, "snapshot": {},
        "tables": [{"table": "postrider_outbox", "bytes": 1, "dead_rows": 9}],
        "partitions": [{"table": "postrider_events", "count": 4, "days_ahead": 3}]}"#;
    GaugeSample {
        at: moment(0),
        gauges: serde_json::from_str(text).expect("a sample"),
    }
}

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + seconds, 0).expect("a moment")
}
