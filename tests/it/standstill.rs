//! A stalled worker is distinguished from one that has nothing to do.

use postrider_store::Backend;
use postrider_tests::{Answer, Postrider, Process, Receiver, TestDatabase, eventually, value_of};
use std::time::Duration;

const EVENT: &str = "INSERT INTO postrider_outbox (event_type, payload) VALUES ('a', '{}')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_looks_fail_is_not_ready_until_they_succeed() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let worker = Postrider::on(&database).serve_as("worker").await;
    ready(&worker).await;
    let mut migration = database.connect().await;
    let lock = "BEGIN; LOCK TABLE postrider_outbox IN ACCESS EXCLUSIVE MODE";
    migration.run(lock).await;
    eventually(async || match worker.get("/readyz").await {
        (503, why) if why.contains("has not looked for work for") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(worker.get("/livez").await.0, 200, "nobody is to restart it");
    migration.run("ROLLBACK").await;
    ready(&worker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_nobody_takes_is_a_standstill_and_is_over_when_it_is_taken() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let receiver = Receiver::accepting().await;
    let postrider = Postrider::on(&database);
    let add = ["hook", "add", "--url", &receiver.url(), "--event", "*"];
    postrider.json(&add).await;
    let mut holder = database.connect().await;
    holder.run(EVENT).await;
    holder
        .run("BEGIN; SELECT 1 FROM postrider_outbox FOR UPDATE")
        .await;
    let worker = postrider.serve_as("worker").await;
    stalled(&worker, |seconds| seconds > 1.0).await;
    holder.run("ROLLBACK").await;
    receiver.wait_for(1).await;
    stalled(&worker, |seconds| seconds == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_waits_for_good_reasons_is_no_standstill() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let refusing = Receiver::answering([500]).await;
    let slow = Receiver::answering([Answer::from(200).after(Duration::from_secs(4))]).await;
    let postrider = Postrider::on(&database);
    for receiver in [&refusing, &slow] {
        let add = ["hook", "add", "--url", &receiver.url(), "--event", "*"];
        let hook = postrider.json(&add).await;
        let id = hook["id"].as_str().expect("an id");
        postrider
            .json(&["hook", "change", id, "--in-flight", "1"])
            .await;
    }
    let paused = [
        "hook",
        "add",
        "--url",
        "https://receiver.example",
        "--event",
        "*",
    ];
    let paused = postrider.json(&paused).await;
    let id = paused["id"].as_str().expect("an id");
    postrider.json(&["hook", "pause", id]).await;
    let worker = postrider.serve_as("worker").await;
    let mut sql = database.connect().await;
    for _ in 0..8 {
        sql.run(EVENT).await;
    }
    refusing.wait_for(1).await;
    slow.wait_for(2).await;
    // Four seconds have passed in which hardly anything could be done.
    let (_, metrics) = worker.get("/metrics").await;
    assert_eq!(value_of(&metrics, "postrider_stalled_seconds"), 0.0);
    ready(&worker).await;
}

async fn ready(worker: &Process) {
    eventually(async || match worker.get("/readyz").await {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn stalled(worker: &Process, expected: impl Fn(f64) -> bool) {
    eventually(async || {
        let (_, metrics) = worker.get("/metrics").await;
        match value_of(&metrics, "postrider_stalled_seconds") {
            seconds if expected(seconds) => Ok(()),
            seconds => Err(format!("{seconds} s")),
        }
    })
    .await;
}
