//! Events published over HTTP: accepted events are delivered unchanged.

use postrider_core::PAYLOAD_MAX_BYTES;
use postrider_store::Backend;
use postrider_tests::{
    Caller, Connection, Postrider, Receiver, TestDatabase, eventually, on_both, value_of,
};
use serde_json::json;
use std::collections::BTreeSet;
use tokio::task::JoinSet;

on_both!(
    what_is_published_is_delivered_byte_for_byte,
    every_field_is_kept,
    a_payload_may_be_as_large_as_one_in_the_outbox,
    an_event_published_in_one_process_is_delivered_by_another,
);

const QUEUED: &str = "SELECT count(*) FROM postrider_outbox";
const SMALL: &str = r#"{"event_type":"invoice.paid","payload":{}}"#;

/// JSON that anything which parses it would write differently.
const AWKWARD: &str = "{\"b\": 1.0,  \"a\":\"\\u0000\",\n\"b\":2,\"big\":1e999,\"half\":\"\\ud800\",\
                       \"ü\":\"€\\ud83d\\ude00'\\\"\"}";

async fn what_is_published_is_delivered_byte_for_byte(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "invoice.*"];
    postrider
        .json(&[&add[..], &["--body", "payload"]].concat())
        .await;
    let serving = postrider.serve().await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let payloads = [AWKWARD, "null", "7", "\"x\"", "[ ]"];
    let mut published = Vec::new();
    for (n, payload) in payloads.into_iter().enumerate() {
        let body = format!("{{\"payload\" : {payload} ,\n\"event_type\":\"invoice.p\\u0061id\"}}");
        let reply = match n {
            0 => caller.publish_in_chunks(&body).await.expect("an answer"),
            _ => caller.publish(&body).await,
        };
        published.push((reply.accepted(), payload));
        assert_eq!(reply.header("content-type"), "application/json");
    }
    receiver.wait_for(payloads.len()).await;
    for (id, payload) in published {
        let requests = receiver.requests();
        let request = requests.iter().find(|request| request.id() == id);
        let request = request.unwrap_or_else(|| panic!("{id} never came"));
        assert_eq!(request.body, payload);
    }
    let (_, metrics) = serving.get("/metrics").await;
    let labels = r#"{method="POST",route="/v1/events",status="202"}"#;
    let counted = value_of(&metrics, &format!("postrider_http_requests_total{labels}"));
    assert_eq!(counted, payloads.len() as f64);
}

async fn every_field_is_kept(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let body = json!({
        "event_type": "invoice.paid",
        "payload": {"id": 1},
        "account": "acme 'ü'",
        "ordering_key": "order \"7\"",
        "dedup_key": "dedup \\ 7",
        "occurred_at": "2026-01-31T13:00:00.0000019+01:00",
        "deliver_after": null,
    });
    let id = caller.publish(&body.to_string()).await.accepted();
    let shown = postrider.json(&["event", "show", &id]).await;
    for field in [
        "event_type",
        "payload",
        "account",
        "ordering_key",
        "dedup_key",
    ] {
        assert_eq!(shown[field], body[field], "{field}");
    }
    assert_eq!(shown["occurred_at"], "2026-01-31T12:00:00.000001Z");
    assert_eq!(shown["state"], "queued");

    let id = caller.publish(SMALL).await.accepted();
    let shown = postrider.json(&["event", "show", &id]).await;
    assert_eq!(shown["account"], "default");
}

async fn a_payload_may_be_as_large_as_one_in_the_outbox(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "*"];
    postrider
        .json(&[&add[..], &["--body", "payload"]].concat())
        .await;
    let serving = postrider.serve().await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let largest = format!("\"{}\"", "x".repeat(PAYLOAD_MAX_BYTES - 2));
    let mut publishing = JoinSet::new();
    for _ in 0..30 {
        let body = format!(r#"{{"event_type":"large","payload":{largest}}}"#);
        let caller = caller.clone();
        publishing.spawn(async move { caller.publish(&body).await.accepted() });
    }
    let published = publishing.join_all().await.into_iter().collect();
    receiver.wait_for_events(&published).await;
    assert!(receiver.requests().iter().all(|r| r.body == largest));
}

async fn an_event_published_in_one_process_is_delivered_by_another(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    postrider
        .json(&["hook", "add", "--url", &url, "--event", "*"])
        .await;
    let api = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &api).await;
    let first = caller.publish(SMALL).await.accepted();
    let worker = postrider.serve_as("worker").await;
    receiver.wait_for_events(&[first].into()).await;
    let second = caller.publish(SMALL).await.accepted();
    receiver.wait_for_events(&[second].into()).await;
    assert!(!worker.stdout()[0].contains("\"api\""), "{worker}");
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn on_postgres_many_at_once_share_their_commits() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let mut sql = database.connect().await;
    sql.run("BEGIN; LOCK TABLE postrider_outbox IN SHARE MODE")
        .await;
    let mut publishing = JoinSet::new();
    for _ in 0..200 {
        let caller = caller.clone();
        publishing.spawn(async move { caller.publish(SMALL).await.accepted() });
    }
    inserts_wait(&mut sql, 2).await;
    sql.run("COMMIT").await;
    let ids: BTreeSet<_> = publishing.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 200);
    let kept = sql.number(QUEUED).await;
    let transactions = "SELECT count(DISTINCT xmin::text) FROM postrider_outbox";
    let transactions = sql.number(transactions).await;
    assert_eq!(kept, 200);
    assert!(transactions < 100, "{transactions} transactions");
}

#[tokio::test]
async fn on_postgres_what_was_accepted_is_answered_before_the_process_ends() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let postrider = Postrider::on(&database);
    let mut serving = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let mut sql = database.connect().await;
    sql.run("BEGIN; LOCK TABLE postrider_outbox IN SHARE MODE")
        .await;
    let publishing = tokio::spawn(async move { caller.publish(SMALL).await });
    inserts_wait(&mut sql, 1).await;
    serving.terminate().await;
    serving.wait_for_log("Draining").await;
    sql.run("COMMIT").await;
    publishing.await.expect("a task").accepted();
    assert!(serving.ended().await.success(), "{serving}");
    assert_eq!(sql.number(QUEUED).await, 1);
}

/// Waits until so many inserts wait for a lock.
async fn inserts_wait(sql: &mut Connection, expected: i64) {
    // Databases that are copies of one another have tables with the same numbers.
    let waiting = "SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database \
                   WHERE NOT granted AND relation = 'postrider_outbox'::regclass \
                   AND d.datname = current_database()";
    eventually(async || match sql.number(waiting).await {
        waiting if waiting == expected => Ok(()),
        waiting => Err(format!("{waiting} inserts wait instead of {expected}")),
    })
    .await;
}
