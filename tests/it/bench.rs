//! The benchmark works on a small scale: every scenario ends, and every delivery arrives once. The
//! figures themselves are not tested: they need a machine that does nothing else.

use postrider_store::Backend;
use postrider_tests::{Postrider, TestDatabase};
use serde_json::Value;

/// Every scenario, whether it needs PostgreSQL, and the name of one of its figures.
const SCENARIOS: [(&str, bool, &str); 10] = [
    ("throughput", false, "backlog drained to 10 hooks"),
    (
        "steady",
        false,
        "2 producers, as fast as it is delivered: p99",
    ),
    ("publish", false, "published and delivered"),
    ("latency", false, "request to receiver at 50 events/s, p99"),
    ("backlog", false, "the last 30"),
    (
        "isolation",
        false,
        "beside one that never answers, 300 due behind it: p99",
    ),
    ("held-xmin", true, "last tenth: settle, mean"),
    ("retention", true, "pruning after the reader: longest gap"),
    ("workers", true, "4 worker processes"),
    ("idle", false, "share of one core, the worker"),
];

#[tokio::test]
async fn every_scenario_is_measured_on_postgres() {
    let database = TestDatabase::empty(Backend::Postgres).await;
    let postrider = Postrider::bare();
    for (scenario, _, figure) in SCENARIOS {
        let bench = ["bench", scenario, "--quick", "--database", database.url()];
        let rows = postrider.listing(&bench).await;
        check(&rows, scenario, figure, "PostgreSQL ");
    }
}

#[tokio::test]
async fn everything_is_measured_in_one_go_on_sqlite() {
    let document = Postrider::bare().json(&["bench", "all", "--quick"]).await;
    assert_eq!(document["failed"], Value::Array(Vec::new()), "{document}");
    assert!(document["machine"].is_string() && document["version"].is_string());
    assert_eq!(document["payload"], 1_024);
    let all = document["rows"].as_array().expect("rows");
    for (scenario, on_postgres, figure) in SCENARIOS {
        let own = all.iter().filter(|row| row["scenario"] == scenario);
        let own: Vec<_> = own.cloned().collect();
        match on_postgres {
            true => assert!(own.is_empty(), "{own:?}"),
            false => check(&own, scenario, figure, "SQLite "),
        }
    }
}

#[tokio::test]
async fn hooks_fan_out_and_concurrency_can_be_set() {
    let postrider = Postrider::bare();
    let options = "--quick --hooks 6 --fan-out 3 --concurrency 5 --payload 64";
    for scenario in ["throughput", "steady", "latency", "backlog"] {
        let arguments: Vec<_> = ["bench", scenario]
            .into_iter()
            .chain(options.split(' '))
            .collect();
        let rows = postrider.listing(&arguments).await;
        assert!(!rows.is_empty(), "{scenario}");
        let drained = |row: &&Value| row["name"] == "backlog drained to 6 hooks, each event to 3";
        let expected = usize::from(scenario == "throughput");
        assert_eq!(rows.iter().filter(drained).count(), expected, "{rows:?}");
    }
}

#[tokio::test]
async fn an_impossible_measurement_is_refused_with_the_reason() {
    let postrider = Postrider::bare();
    for (arguments, reason) in [
        (&["workers"][..], "SQLite takes one worker process"),
        (&["held-xmin"], "SQLite has no dead rows"),
        (&["retention"], "SQLite has no partitions"),
        (
            &["steady", "--hooks", "5", "--fan-out", "2"],
            "a multiple of --fan-out",
        ),
        (&["isolation", "--hooks", "30"], "a multiple of 20"),
    ] {
        let refused = postrider.run(&[&["bench"], arguments].concat()).await;
        assert!(refused.stderr.contains(reason), "{refused}");
        assert_eq!(refused.status.code(), Some(2), "{refused}");
    }
}

/// Checks that `figure` is among the rows, that every row has the documented fields, and that
/// nothing was delivered twice.
fn check(rows: &[Value], scenario: &str, figure: &str, database: &str) {
    assert!(rows.iter().any(|row| row["name"] == figure), "{rows:?}");
    for row in rows {
        assert_eq!(row["scenario"], scenario);
        let text = |field: &str| {
            row[field]
                .as_str()
                .unwrap_or_else(|| panic!("{field}: {row}"))
        };
        assert!(text("database").starts_with(database), "{row}");
        assert!(
            ["/s", "ms", "%", "rows", "MiB"].contains(&text("unit")),
            "{row}"
        );
        for field in ["median", "min", "max"] {
            assert!(row[field].as_f64().is_some_and(f64::is_finite), "{row}");
        }
        assert!(row["quiet_runs"].as_u64().is_some_and(|n| n <= 1), "{row}");
        let ratio = &row["ratio"];
        assert!(ratio.is_null() || ratio["median"].is_number(), "{row}");
        let runs = row["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 1, "{row}");
        assert_eq!(runs[0]["value"], row["median"], "{row}");
        let bare = row["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("bare"));
        for costs in [row, &runs[0]] {
            assert_eq!(costs["repeats"], 0, "{row}");
            assert!(costs["steal"].is_number(), "{row}");
            assert_eq!(costs["cpu_per_10k"].is_null(), scenario == "idle", "{row}");
            assert_eq!(costs["peak_memory"].is_null(), bare, "{row}");
            assert_eq!(
                costs["worker_cpu_per_10k"].is_null(),
                bare || scenario == "idle",
                "{row}"
            );
        }
    }
}
