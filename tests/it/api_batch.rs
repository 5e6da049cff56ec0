//! Batches of events and repeated calls: all events or none, and each once.

use postrider_core::PAYLOAD_MAX_BYTES;
use postrider_store::Backend;
use postrider_tests::{Caller, Postrider, Receiver, Reply, TestDatabase, on_both};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::task::JoinSet;

on_both!(
    a_batch_is_published_at_once_and_in_order,
    a_bad_batch_is_refused_with_the_place_of_each_fault_and_none_is_published,
    a_repeated_call_publishes_nothing_and_gets_the_same_ids,
    twins_publish_once,
    headers_of_an_event_go_with_its_requests,
    a_batch_that_was_accepted_survives_a_server_killed_in_the_next_instant,
);

const QUEUED: &str = "SELECT count(*) FROM postrider_outbox";
const BATCH: &str = "/v1/events/batch";
const SMALL: &str = r#"{"event_type":"invoice.paid","payload":{}}"#;

async fn a_batch_is_published_at_once_and_in_order(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let events: Vec<_> = (0..1_000)
        .map(|n| json!({"event_type": format!("n.{n}"), "payload": n, "account": "acme"}))
        .collect();
    let ids = accepted(
        &caller
            .call_with("POST", BATCH, &json!({"events": events}))
            .await,
    );
    assert_eq!(ids.len(), 1_000);
    for n in [0, 499, 999] {
        let shown = postrider.json(&["event", "show", &ids[n]]).await;
        assert_eq!(shown["event_type"], format!("n.{n}"));
        assert_eq!(shown["account"], "acme");
    }
    let mut sql = database.connect().await;
    assert_eq!(sql.number(QUEUED).await, 1_000);
    if backend == Backend::Postgres {
        let transactions = "SELECT count(DISTINCT xmin::text) FROM postrider_outbox";
        assert_eq!(sql.number(transactions).await, 1);
    }
    let large = "x".repeat(PAYLOAD_MAX_BYTES - 2);
    let event = json!({"event_type": "large", "payload": large});
    let body = json!({"events": vec![event.clone(); 15]});
    accepted(&caller.call_with("POST", BATCH, &body).await);
    let body = json!({"events": vec![event; 17]});
    let reply = caller.call_with("POST", BATCH, &body).await;
    reply.refused(413, "too-large", "8388608 bytes");
}

async fn a_bad_batch_is_refused_with_the_place_of_each_fault_and_none_is_published(
    backend: Backend,
) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "publish", Some("acme")).await;
    let good = json!({"event_type": "a", "payload": 1});
    let many = vec![good.clone(); 1_001];
    for (events, pointers) in [
        (json!([]), &["/events"][..]),
        (json!(many), &["/events"]),
        (json!(7), &["/events"]),
        (
            json!([good, {"event_type": "b c", "payload": 1}, {"payload": 1, "x": 2}, 7, good]),
            &[
                "/events/1/event_type",
                "/events/2/event_type",
                "/events/2/x",
                "/events/3",
            ],
        ),
        (
            json!([{"event_type": "a", "payload": 1, "account": "other"}, good]),
            &["/events/0/account"],
        ),
        (
            json!([good, {"event_type": "a", "payload": 1, "deliver_after": "9999-01-01T00:00:00Z"}]),
            &["/events/1/deliver_after"],
        ),
        (
            json!([good, {"event_type": "a", "payload": 1, "headers": {"host": "x"}}]),
            &["/events/1/headers"],
        ),
    ] {
        let reply = caller
            .call_with("POST", BATCH, &json!({"events": events}))
            .await;
        assert_eq!(reply.status, 422, "{reply:?}");
        let problem = reply.json();
        let errors = problem["errors"].as_array().expect("errors").clone();
        let told: Vec<_> = errors
            .iter()
            .map(|e| e["pointer"].as_str().expect("one"))
            .collect();
        assert_eq!(told, pointers, "{reply:?}");
    }
    database
        .refuse("postrider_outbox", "NEW.event_type = 'cursed'")
        .await;
    let cursed = json!({"events": [good, {"event_type": "cursed", "payload": 1}]});
    let reply = caller.call_with("POST", BATCH, &cursed).await;
    reply.refused(422, "invalid", "refused");
    let mut sql = database.connect().await;
    assert_eq!(sql.number(QUEUED).await, 0);
}

async fn a_repeated_call_publishes_nothing_and_gets_the_same_ids(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let mut serving = postrider.serve_as("api").await;
    let mut caller = Caller::publishing(&postrider, &serving).await;
    let token = caller.token().to_owned();
    let batch =
        json!({"events": [{"event_type": "a", "payload": 1}, {"event_type": "b", "payload": 2}]});
    let batch = batch.to_string();
    let mut told = Vec::new();
    for round in 0..3 {
        if round == 2 {
            serving.terminate().await;
            serving.ended().await;
            serving = postrider.serve_as("api").await;
            caller = Caller::of(&serving, token.as_str()).await;
        }
        let one = once(&caller, "/v1/events", "k-1", SMALL).await.accepted();
        let many = accepted(&once(&caller, BATCH, "k-2", &batch).await);
        told.push((one, many));
    }
    assert!(told.iter().all(|ids| *ids == told[0]), "{told:?}");
    let mut sql = database.connect().await;
    assert_eq!(sql.number(QUEUED).await, 3);

    // Another body, another route, another caller.
    let other = r#"{"event_type":"invoice.paid","payload":{} }"#;
    let reply = once(&caller, "/v1/events", "k-1", other).await;
    reply.refused(422, "idempotency-mismatch", "another body");
    let reply = once(&caller, BATCH, "k-1", &batch).await;
    reply.refused(422, "idempotency-mismatch", "another body");
    let another = Caller::publishing(&postrider, &serving).await;
    once(&another, "/v1/events", "k-1", SMALL).await.accepted();
    assert_eq!(sql.number(QUEUED).await, 4);

    // A refusal is not remembered: the same key is good for the mended call.
    let reply = once(&caller, "/v1/events", "k-3", r#"{"payload":1}"#).await;
    reply.refused(422, "invalid", "/event_type");
    once(&caller, "/v1/events", "k-3", SMALL).await.accepted();
    for bad in ["a b", &"x".repeat(256)] {
        let reply = once(&caller, "/v1/events", bad, SMALL).await;
        reply.refused(400, "invalid-parameter", "Idempotency-Key");
    }
}

async fn twins_publish_once(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let processes = [
        postrider.serve_as("api").await,
        postrider.serve_as("api").await,
    ];
    let key = postrider
        .json(&["key", "create", "--scope", "publish"])
        .await;
    let token = key["token"].as_str().expect("a token");
    let mut publishing = JoinSet::new();
    for n in 0..20 {
        let caller = Caller::of(&processes[n % 2], token).await;
        publishing
            .spawn(async move { once(&caller, "/v1/events", "twin", SMALL).await.accepted() });
    }
    let ids: BTreeSet<_> = publishing.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let mut sql = database.connect().await;
    assert_eq!(sql.number(QUEUED).await, 1);
}

async fn headers_of_an_event_go_with_its_requests(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    postrider
        .json(&["hook", "add", "--url", &url, "--event", "*"])
        .await;
    let serving = postrider.serve().await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let body = json!({"event_type": "a", "payload": 1, "headers": {"X-Trace": "ü-7"}});
    caller.publish(&body.to_string()).await.accepted();
    receiver.wait_for(1).await;
    let value = receiver.requests()[0].headers.get("x-trace").cloned();
    assert_eq!(value.expect("the header").as_bytes(), "ü-7".as_bytes());
}

async fn a_batch_that_was_accepted_survives_a_server_killed_in_the_next_instant(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database)
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "1s")
        .with("POSTRIDER_WORKER__LEASE", "6s");
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    postrider
        .json(&["hook", "add", "--url", &url, "--event", "*"])
        .await;
    let key = postrider
        .json(&["key", "create", "--scope", "publish"])
        .await;
    let token = key["token"].as_str().expect("a token").to_owned();
    let batch = json!({"events": vec![json!({"event_type": "a", "payload": 1}); 10]}).to_string();
    // What a caller was told, and whom it must ask again, by the key of the call.
    let (mut told, mut untold) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let serving = postrider.serve().await;
        let caller = Caller::of(&serving, token.as_str()).await;
        let mut publishing = JoinSet::new();
        for n in 0..20 {
            let (caller, key, batch) = (caller.clone(), format!("{round}-{n}"), batch.clone());
            publishing.spawn(async move {
                let reply = caller
                    .try_exchange("POST", BATCH, &[("idempotency-key", &key)], Some(&batch))
                    .await;
                (key, reply)
            });
        }
        for _ in 0..5 {
            let (key, reply) = publishing
                .join_next()
                .await
                .expect("a call")
                .expect("a task");
            told.push((key, accepted(&reply.expect("an answer"))));
        }
        serving.kill().await;
        for (key, reply) in publishing.join_all().await {
            match reply {
                Ok(reply) => told.push((key, accepted(&reply))),
                Err(_) => untold.push(key),
            }
        }
    }
    let last = postrider.serve().await;
    let caller = Caller::of(&last, token.as_str()).await;
    // A repeat is told what the first was told, and one that was told nothing publishes once.
    for (key, ids) in &told {
        assert_eq!(accepted(&once(&caller, BATCH, key, &batch).await), *ids);
    }
    for key in untold {
        let ids = accepted(&once(&caller, BATCH, &key, &batch).await);
        told.push((key, ids));
    }
    let events: BTreeSet<_> = told.into_iter().flat_map(|(_, ids)| ids).collect();
    assert_eq!(events.len(), 600, "each of 60 batches once");
    receiver.wait_for_events(&events).await;
    let seen: BTreeSet<_> = receiver
        .requests()
        .iter()
        .map(|r| r.id().to_owned())
        .collect();
    assert_eq!(seen, events, "nothing else was published");
}

/// The ids of a batch that was accepted.
fn accepted(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 202, "{reply:?}");
    let body: Value = reply.json();
    let ids = body["ids"].as_array().expect("ids");
    ids.iter()
        .map(|id| id.as_str().expect("an id").to_owned())
        .collect()
}

async fn once(caller: &Caller, path: &str, key: &str, body: &str) -> Reply {
    let headers = [("idempotency-key", key)];
    caller.exchange("POST", path, &headers, Some(body)).await
}
