//! The history of a hook: who changed it, when it got a warning, and why it was disabled.

use postrider_core::{HookId, Span};
use postrider_store::{Backend, HistoryFilter};
use postrider_tests::{
    Answer, Postrider, Receiver, TestApp, TestDatabase, event, hook_to, on_both,
};
use serde_json::Value;

on_both!(
    a_day_of_failures_disables_a_hook_and_half_of_it_warns,
    a_success_in_between_restarts_the_day,
    fifty_failures_in_the_same_second_are_not_even_warned_of,
    a_hooks_own_limits_decide_when_it_is_warned_of_and_disabled,
    the_command_line_shows_what_happened_to_a_hook,
);

/// A little more than an hour: failures count from the end of their requests, which take time.
const HOUR: u64 = 3_601;

async fn a_day_of_failures_disables_a_hook_and_half_of_it_warns(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([500]).await;
    let hook = app.hook(&receiver).await;
    for hour in 0..=24 {
        app.enqueue("invoice.paid").await;
        app.tick().await;
        let told = actions(&app, hook).await;
        match hour {
            0..12 => assert_eq!(told, ["created"], "after {hour} hours"),
            12..24 => assert_eq!(told, ["created", "warned"], "after {hour} hours"),
            _ => assert_eq!(told, ["created", "warned", "disabled"]),
        }
        if hour < 24 {
            assert_eq!(app.shown(hook).await.status, "active", "after {hour} hours");
            app.advance(HOUR);
        }
    }
    let shown = app.shown(hook).await;
    assert_eq!(shown.status, "disabled");
    assert_eq!(app.metric("postrider_hooks_warned_total"), 1.0);
    assert_eq!(
        app.metric("postrider_hooks_disabled_total{reason=\"failures\"}"),
        1.0
    );
}

async fn a_success_in_between_restarts_the_day(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([500]).await;
    let hook = app.hook(&receiver).await;
    for hour in 0..=24 {
        match hour {
            11 => receiver.answer([Answer::from(200)]),
            12 => receiver.answer([Answer::from(500)]),
            _ => {}
        }
        app.enqueue("invoice.paid").await;
        app.tick().await;
        app.advance(HOUR);
    }
    assert_eq!(app.shown(hook).await.status, "active");
    assert_eq!(actions(&app, hook).await, ["created", "warned"]);
    let since = app.shown(hook).await.first_failure_at.expect("failures");
    assert!((app.now() - since).num_hours() <= 13, "{since}");
}

async fn fifty_failures_in_the_same_second_are_not_even_warned_of(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    app.enqueue("invoice.paid").await;
    app.tick().await;
    receiver.answer([500]);
    receiver.hold();
    app.enqueue_all(&vec![event("invoice.paid"); 50]).await;
    let all_in_flight = async {
        receiver.wait_for(51).await;
        receiver.release();
    };
    tokio::join!(app.tick(), all_in_flight);
    let shown = app.shown(hook).await;
    assert_eq!((shown.status.as_str(), shown.fail_count), ("active", 50));
    assert_eq!(actions(&app, hook).await, ["created"]);
}

async fn a_hooks_own_limits_decide_when_it_is_warned_of_and_disabled(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([500]).await;
    let common = app.hook(&receiver).await;
    let mut own = hook_to(&receiver.url());
    own.settings.disable_after_failures = Some(2);
    own.settings.disable_after = Some(Span::secs(60));
    let own = app.register(own).await.id;
    for _ in 0..3 {
        app.enqueue("invoice.paid").await;
        app.tick().await;
        app.advance(31);
    }
    let told = actions(&app, own).await;
    assert_eq!(told, ["created", "warned", "disabled"]);
    assert_eq!(actions(&app, common).await, ["created"]);
}

async fn the_command_line_shows_what_happened_to_a_hook(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let add = [
        "hook",
        "add",
        "--url",
        "https://example.com",
        "--event",
        "*",
    ];
    let hook = postrider.json(&add).await;
    let hook = hook["id"].as_str().expect("an id");
    for change in [
        &["pause", hook][..],
        &["enable", hook],
        &["change", hook, "--rate", "20/s"],
        &["rotate-secret", hook],
        &["disable", hook],
    ] {
        postrider.json(&[&["hook"], change].concat()).await;
    }
    let shown = postrider.json(&["hook", "show", hook]).await;
    assert_eq!(
        (&shown["status"], &shown["held"]),
        (&"disabled".into(), &0.into())
    );
    assert_eq!(shown["oldest_held_at"], Value::Null);
    let expected = [
        "created",
        "paused",
        "enabled",
        "changed",
        "secret_rotated",
        "disabled",
    ];
    let history = shown["history"].as_array().expect("a history");
    assert_eq!(named(history), expected, "the newest last");
    assert!(
        history.iter().all(|entry| entry["actor"] == "cli"),
        "{shown}"
    );
    assert_eq!(history[3]["reason"], "rate");
    assert_eq!(history[5]["reason"], "manual");

    postrider.json(&["hook", "remove", hook]).await;
    let listed = postrider.listing(&["hook", "history", hook]).await;
    assert_eq!(listed.len(), 7);
    assert_eq!(listed[0]["action"], "removed", "the newest first");
    let newest = ["hook", "history", hook, "--limit", "2"];
    assert_eq!(postrider.listing(&newest).await, listed[..2]);
    let people = postrider.run(&["hook", "history", hook]).await.succeeded();
    assert!(people.stdout.contains("secret_rotated"), "{people}");

    let unknown = "01a1ff74-ca0c-7f35-8a51-5f0c6f6c1f9e";
    let refused = postrider.run(&["hook", "history", unknown]).await.refused();
    assert!(refused.contains("no hook"), "{refused}");
}

/// What happened to the hook, oldest first.
async fn actions(app: &TestApp, hook: HookId) -> Vec<String> {
    let filter = HistoryFilter {
        before: None,
        limit: 100,
    };
    let history = app.store.hook_history(hook, filter).await;
    let newest_first = history.expect("a history").into_iter();
    newest_first.rev().map(|entry| entry.action).collect()
}

fn named(history: &[Value]) -> Vec<&str> {
    let named = history.iter();
    named.filter_map(|entry| entry["action"].as_str()).collect()
}
