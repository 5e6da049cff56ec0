//! The benchmark works, in small: every scenario ends, and every delivery it made arrived. How
//! fast is its own to say, on a machine that does nothing else.

use postrider_store::Backend;
use postrider_tests::{Postrider, TestDatabase, on_both};

on_both!(every_scenario_measures_something);

async fn every_scenario_measures_something(backend: Backend) {
    let database = TestDatabase::empty(backend).await;
    let postrider = Postrider::bare();
    for arguments in [
        &["throughput", "--events", "300"][..],
        &["publish", "--events", "300"],
        &["latency", "--seconds", "1"],
        &["backlog", "--events", "300"],
        &["isolation", "--seconds", "1"],
        &["idle", "--seconds", "1"],
    ] {
        let bench = ["bench", "--runs", "1", "--database", database.url()];
        let rows = postrider.listing(&[&bench[..], arguments].concat()).await;
        assert!(!rows.is_empty(), "{arguments:?}");
        for row in rows {
            let figure = row["rate"].as_f64().or(row["median"].as_f64());
            assert!(figure.is_some_and(f64::is_finite), "{arguments:?}: {row}");
        }
    }
}

#[tokio::test]
async fn several_workers_are_measured_on_postgres_only() {
    let database = TestDatabase::empty(Backend::Postgres).await;
    let postrider = Postrider::bare();
    let bench = ["bench", "workers", "--runs", "1", "--events", "300"];
    let on_postgres = [&bench[..], &["--database", database.url()]].concat();
    assert_eq!(postrider.listing(&on_postgres).await.len(), 3);
    let refused = postrider.run(&bench).await;
    assert!(
        refused.stderr.contains("SQLite takes one worker"),
        "{}",
        refused.stderr
    );
    assert_eq!(refused.status.code(), Some(2));
}
