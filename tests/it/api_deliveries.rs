//! Events, deliveries and attempts over HTTP: listed, shown, sent again and discarded.

use postrider_store::Backend;
use postrider_tests::{Answer, Caller, Postrider, Receiver, TestDatabase, eventually, on_both};
use serde_json::{Value, json};
use std::collections::BTreeSet;

on_both!(
    an_event_is_followed_to_its_attempts_and_sent_again,
    listings_are_narrowed_by_what_is_asked_for,
    a_page_is_the_same_while_events_come_in,
    what_cannot_be_sent_again_says_why,
    what_waits_is_given_up_and_what_is_in_flight_is_not,
);

async fn an_event_is_followed_to_its_attempts_and_sent_again(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::answering([
        Answer::from(410).body("gone \u{fffd} for good"),
        Answer::from(200).body("thanks"),
    ])
    .await;
    let serving = postrider.serve().await;
    let caller = Caller::with_scope(&postrider, &serving, "account", Some("acme")).await;
    let hook = hook(&caller, &receiver, "*").await;
    let event = publish(&caller, "order.paid", 7).await;
    let delivery = delivery_of(&caller, &event, "failed").await;
    assert_eq!(delivery["hook_id"], hook);
    assert_eq!(delivery["account"], "acme");
    assert_eq!(delivery["event_type"], "order.paid");
    assert_eq!(delivery["reason"], "gone");
    let path = format!("/v1/deliveries/{}", delivery["id"].as_str().expect("an id"));
    assert_eq!(caller.get(&path).await, delivery);

    let shown = caller.get(&format!("/v1/events/{event}")).await;
    assert_eq!(shown["payload"], json!({"n": 7}));
    assert_eq!(shown["state"], "fanned_out");

    caller
        .call("POST", &format!("/v1/hooks/{hook}/enable"))
        .await;
    let again = caller.call("POST", &format!("{path}/redeliver")).await;
    assert_eq!(again.status, 200, "{again:?}");
    receiver.wait_for(2).await;
    assert_eq!(
        delivery_of(&caller, &event, "delivered").await["attempts"],
        2
    );
    let attempts = caller.get(&format!("{path}/attempts")).await;
    let attempts = attempts["data"].as_array().expect("attempts").clone();
    let told: Vec<_> = attempts
        .iter()
        .map(|a| (&a["number"], &a["outcome"], &a["status"], &a["response"]))
        .collect();
    assert_eq!(
        told,
        [
            (
                &json!(1),
                &json!("refused"),
                &json!(410),
                &json!("gone \u{fffd} for good")
            ),
            (&json!(2), &json!("accepted"), &json!(200), &json!("thanks")),
        ]
    );
}

async fn listings_are_narrowed_by_what_is_asked_for(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let (one, other) = (
        Receiver::accepting().await,
        Receiver::answering([500]).await,
    );
    let serving = postrider.serve().await;
    let admin = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let acme = Caller::with_scope(&postrider, &serving, "account", Some("acme")).await;
    let first = hook(&acme, &one, "a.*").await;
    let second = hook(&admin, &other, "*").await;
    let mut events = Vec::new();
    for n in 0..3 {
        events.push(publish(&acme, "a.b", n).await);
        events.push(publish(&admin, "b", n).await);
    }
    for event in &events {
        eventually(
            async || match count(&admin, &format!("event={event}")).await {
                1 => Ok(()),
                found => Err(format!("{found} deliveries of {event}")),
            },
        )
        .await;
    }
    one.wait_for(3).await;
    other.wait_for(1).await;
    eventually(async || match count(&admin, "state=delivered").await {
        3 => Ok(()),
        found => Err(format!("{found} delivered")),
    })
    .await;
    for (query, expected) in [
        (String::new(), 6),
        (format!("hook={first}"), 3),
        (format!("hook={second}"), 3),
        (format!("hook={first}&event={}", events[0]), 1),
        (format!("hook={second}&event={}", events[0]), 0),
        ("account=acme".into(), 3),
        ("account=nobody".into(), 0),
        ("state=delivered".into(), 3),
        ("state=cancelled".into(), 0),
        (
            "since=2000-01-01T00:00:00Z&until=9999-01-01T00:00:00Z".into(),
            6,
        ),
        ("until=2000-01-01T00:00:00%2B02:00".into(), 0),
        ("since=9999-01-01T00:00:00Z".into(), 0),
    ] {
        assert_eq!(count(&admin, &query).await, expected, "{query}");
    }
    assert_eq!(count(&acme, "").await, 3);
    assert_eq!(count(&acme, &format!("hook={second}")).await, 0);
    for (query, expected) in [("", 6), ("?event_type=b", 3), ("?account=acme", 3)] {
        let page = admin.get(&format!("/v1/events{query}")).await;
        let found = page["data"].as_array().expect("events");
        assert_eq!(found.len(), expected, "{query}");
        assert!(found.iter().all(|event| event.get("payload").is_none()));
    }
    let refused = acme.call("GET", "/v1/events?account=other").await;
    refused.refused(403, "forbidden", "acme");
    for (query, parameter) in [
        ("state=lost", "state"),
        ("hook=7", "hook"),
        ("since=yesterday", "since"),
        ("colour=red", "colour"),
    ] {
        let reply = admin.call("GET", &format!("/v1/deliveries?{query}")).await;
        reply.refused(400, "invalid-parameter", parameter);
    }
}

async fn a_page_is_the_same_while_events_come_in(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let mut published = BTreeSet::new();
    for n in 0..25 {
        published.insert(publish(&caller, "a", n).await);
    }
    let (mut seen, mut query) = (Vec::new(), String::new());
    loop {
        let page = caller.get(&format!("/v1/events?limit=10{query}")).await;
        let found = page["data"].as_array().expect("events");
        let ids = found
            .iter()
            .map(|event| event["id"].as_str().expect("an id"));
        seen.extend(ids.map(str::to_owned));
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        query = format!("&cursor={cursor}");
        publish(&caller, "later", 0).await;
    }
    assert_eq!(seen.len(), 25, "each once, and none that came later");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), published);
}

async fn what_cannot_be_sent_again_says_why(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let serving = postrider.serve().await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let hook = hook(&caller, &receiver, "*").await;
    let event = publish(&caller, "a", 1).await;
    let delivery = delivery_of(&caller, &event, "delivered").await;
    let path = format!("/v1/deliveries/{}", delivery["id"].as_str().expect("an id"));
    caller.call("DELETE", &format!("/v1/hooks/{hook}")).await;
    let reply = caller.call("POST", &format!("{path}/redeliver")).await;
    reply.refused(409, "conflict", "was deleted");
    for (path, what) in [
        ("/v1/deliveries/7", "delivery 7"),
        (
            "/v1/events/01a1ff74-ca0c-7f35-8a51-5f0c6f6c1f9e",
            "event 01a1",
        ),
        (
            "/v1/deliveries/01a1ff74-ca0c-7f35-8a51-5f0c6f6c1f9e/attempts",
            "delivery 01a1",
        ),
    ] {
        let reply = caller.call("GET", path).await;
        reply.refused(404, "not-found", &format!("There is no {what}"));
    }
}

async fn what_waits_is_given_up_and_what_is_in_flight_is_not(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::answering([500, 200]).await;
    receiver.hold();
    let serving = postrider.serve().await;
    let caller = Caller::with_scope(&postrider, &serving, "account", Some("acme")).await;
    let hook = hook(&caller, &receiver, "*").await;
    let retried = publish(&caller, "a", 1).await;
    receiver.wait_for(1).await;
    let discard = async |event: &str, state: &str| {
        let delivery = delivery_of(&caller, event, state).await;
        let id = delivery["id"].as_str().expect("an id").to_owned();
        let path = format!("/v1/deliveries/{id}/discard");
        caller.call("POST", &path).await
    };
    let in_flight = discard(&retried, "in_flight").await;
    in_flight.refused(409, "conflict", "in flight");
    receiver.release();
    receiver.wait_for_answers(1).await;
    let given_up = discard(&retried, "pending").await;
    assert_eq!(given_up.status, 200, "{given_up:?}");
    let given_up = given_up.json();
    let shown = ["state", "reason", "attempts", "next_attempt_at"].map(|name| &given_up[name]);
    let expected = json!(["cancelled", "discarded", 1, null]);
    assert_eq!(json!(shown), expected);
    let again = discard(&retried, "cancelled").await;
    again.refused(409, "conflict", "has ended");

    caller
        .call("POST", &format!("/v1/hooks/{hook}/pause"))
        .await;
    let held = publish(&caller, "a", 2).await;
    let given_up = discard(&held, "held").await.json();
    assert_eq!(given_up["state"], "cancelled", "{given_up}");
    caller
        .call("POST", &format!("/v1/hooks/{hook}/enable"))
        .await;
    let last = publish(&caller, "a", 3).await;
    delivery_of(&caller, &last, "delivered").await;
    assert_eq!(
        receiver.arrivals().keys().collect::<Vec<_>>(),
        [&retried, &last]
    );
}

/// Registers a hook and returns its id.
async fn hook(caller: &Caller, receiver: &Receiver, pattern: &str) -> String {
    let body = json!({"url": receiver.url(), "events": [pattern]});
    let reply = caller.call_with("POST", "/v1/hooks", &body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()["id"].as_str().expect("an id").to_owned()
}

async fn publish(caller: &Caller, event_type: &str, n: u32) -> String {
    let body = json!({"event_type": event_type, "payload": {"n": n}});
    caller.publish(&body.to_string()).await.accepted()
}

/// The only delivery of an event, as soon as it is in this state.
async fn delivery_of(caller: &Caller, event: &str, state: &str) -> Value {
    let path = format!("/v1/deliveries?event={event}&state={state}");
    let mut found = Value::Null;
    eventually(async || {
        found = caller.get(&path).await["data"].clone();
        match found.as_array().map(Vec::len) {
            Some(1) => Ok(()),
            _ => Err(format!("{path} has {found}")),
        }
    })
    .await;
    found[0].take()
}

async fn count(caller: &Caller, query: &str) -> usize {
    let page = caller.get(&format!("/v1/deliveries?{query}")).await;
    page["data"].as_array().expect("deliveries").len()
}
