//! Held deliveries of hooks that are not active: their age, and discarding them.

use postrider_store::{Backend, DeliveryState, HookChange};
use postrider_tests::{
    Postrider, Receiver, TestApp, TestDatabase, event, eventually, hook_to, on_both,
};
use serde_json::Value;

on_both!(
    held_deliveries_are_counted_aged_and_discarded,
    enabling_may_discard_what_is_too_old,
    nothing_is_lost_by_one_accidental_410,
    a_hundred_thousand_are_discarded,
);

async fn held_deliveries_are_counted_aged_and_discarded(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let hook = registered(&postrider, &receiver).await;
    postrider.json(&["hook", "pause", &hook]).await;
    let worker = postrider.serve().await;
    for _ in 0..3 {
        send(&postrider).await;
    }
    shows(&postrider, &hook, "held", 3).await;
    let shown = postrider.json(&["hook", "show", &hook]).await;
    let oldest = shown["oldest_held_at"].as_str().expect("a time");
    assert!(
        oldest.parse::<postrider_core::Timestamp>().is_ok(),
        "{shown}"
    );

    // It cannot be undone, so it must be said.
    let discard = ["hook", "discard", &hook];
    let refused = postrider.run(&discard).await;
    assert_eq!(refused.status.code(), Some(2), "{refused}");
    assert!(refused.stderr.contains("--yes"), "{refused}");
    let young = [&discard[..], &["--older-than", "1h", "--yes"]].concat();
    assert_eq!(postrider.json(&young).await["discarded"], 0);
    let done = postrider.json(&[&discard[..], &["--yes"]].concat()).await;
    assert_eq!(
        (&done["hook_id"], &done["discarded"]),
        (&hook.as_str().into(), &3.into())
    );
    let list = ["delivery", "list", "--hook", &hook, "--state", "cancelled"];
    let listed = postrider.listing(&list).await;
    assert_eq!(listed.len(), 3);
    assert!(
        listed
            .iter()
            .all(|delivery| delivery["reason"] == "discarded")
    );
    let shown = postrider.json(&["hook", "show", &hook]).await;
    assert_eq!(
        (&shown["held"], &shown["oldest_held_at"]),
        (&0.into(), &Value::Null)
    );
    let history = shown["history"].as_array().expect("a history");
    let last = history.last().expect("an entry");
    assert_eq!(
        (&last["action"], &last["deliveries"]),
        (&"discarded".into(), &3.into())
    );

    // Nothing of an active hook is discarded, and what comes from now on is delivered.
    postrider.json(&["hook", "enable", &hook]).await;
    let refused = postrider
        .run(&[&discard[..], &["--yes"]].concat())
        .await
        .refused();
    assert!(refused.contains("is active"), "{refused}");
    send(&postrider).await;
    receiver.wait_for(1).await;
    drop(worker);
}

async fn enabling_may_discard_what_is_too_old(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.register(hook_to(&receiver.url())).await.id;
    let pause = app
        .store
        .change_hook(hook, HookChange::Pause, "test", app.now());
    pause.await.expect("pause");
    let events = app.enqueue_all(&vec![event("invoice.paid"); 5]).await;
    app.tick().await;
    let postrider = Postrider::on(&app.database);
    let hook_id = hook.to_string();
    let enable = ["hook", "enable", &hook_id, "--discard-held"];
    let refused = postrider.run(&enable).await;
    assert_eq!(refused.status.code(), Some(2), "{refused}");
    assert_eq!(app.shown(hook).await.status, "paused");

    let old = [&enable[..], &["--older-than", "1h", "--yes"]].concat();
    let enabled = postrider.json(&old).await;
    assert_eq!(
        (&enabled["status"], &enabled["discarded"]),
        (&"active".into(), &0.into())
    );
    postrider.json(&["hook", "disable", &hook_id]).await;
    let enabled = postrider.json(&[&enable[..], &["--yes"]].concat()).await;
    assert_eq!(
        (&enabled["status"], &enabled["discarded"]),
        (&"active".into(), &5.into())
    );
    for event in events {
        let delivery = app.delivery(event, hook).await;
        assert_eq!(delivery.state, DeliveryState::Cancelled);
        assert_eq!(delivery.reason.as_deref(), Some("discarded"));
    }
    assert_eq!(receiver.count(), 0);
}

async fn nothing_is_lost_by_one_accidental_410(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::answering([410, 200]).await;
    let hook = registered(&postrider, &receiver).await;
    let worker = postrider.serve().await;
    send(&postrider).await;
    shows(&postrider, &hook, "disabled_reason", "gone").await;
    for _ in 0..10 {
        send(&postrider).await;
    }
    shows(&postrider, &hook, "held", 10).await;
    assert_eq!(receiver.count(), 1);

    postrider.json(&["hook", "enable", &hook]).await;
    receiver.wait_for(11).await;
    // The one that was answered with 410 has failed.
    let again = ["delivery", "redeliver", "--hook", &hook, "--since", "1h"];
    assert_eq!(postrider.json(&again).await["redelivered"], 1);
    receiver.wait_for(12).await;
    drop(worker);
}

async fn a_hundred_thousand_are_discarded(backend: Backend) {
    const COPIES: i64 = 100_000;
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.register(hook_to(&receiver.url())).await.id;
    let pause = app
        .store
        .change_hook(hook, HookChange::Pause, "test", app.now());
    pause.await.expect("pause");
    app.enqueue("invoice.paid").await;
    app.tick().await;
    let copy = match backend {
        Backend::Postgres => format!(
            "INSERT INTO postrider_deliveries \
             (slot, id, day, event_id, hook_id, event_seq, next_attempt_at) \
             SELECT slot, gen_random_uuid(), day, event_id, hook_id, event_seq, next_attempt_at \
             FROM postrider_deliveries, generate_series(1, {COPIES})"
        ),
        Backend::Sqlite => format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {COPIES}) \
             INSERT INTO postrider_deliveries \
             (slot, id, day, event_id, hook_id, event_seq, next_attempt_at) \
             SELECT slot, randomblob(16), day, event_id, hook_id, event_seq, next_attempt_at \
             FROM postrider_deliveries, n"
        ),
    };
    app.sql().await.run(copy).await;
    assert_eq!(
        app.shown(hook).await.held,
        10_000,
        "counted so far and no further"
    );
    let postrider = Postrider::on(&app.database);
    let done = postrider
        .json(&["hook", "discard", &hook.to_string(), "--yes"])
        .await;
    assert_eq!(done["discarded"], COPIES + 1);
    assert_eq!(app.left().await, 0);
}

/// Waits until the hook shows this.
async fn shows(postrider: &Postrider, hook: &str, field: &str, expected: impl Into<Value>) {
    let expected = expected.into();
    eventually(
        async || match postrider.json(&["hook", "show", hook]).await {
            shown if shown[field] == expected => Ok(()),
            shown => Err(shown.to_string()),
        },
    )
    .await;
}

async fn registered(postrider: &Postrider, receiver: &Receiver) -> String {
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "invoice.*"];
    let hook: Value = postrider.json(&add).await;
    hook["id"].as_str().expect("an id").to_owned()
}

async fn send(postrider: &Postrider) {
    let send = ["event", "send", "--type", "invoice.paid", "--payload", "{}"];
    postrider.json(&send).await;
}
