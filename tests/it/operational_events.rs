//! Operational events, as received by the hooks that subscribe to them.

use postrider_core::{EventPattern, RetrySchedule, Span, verify};
use postrider_store::{Backend, HookChange, HookReport};
use postrider_tests::{
    Answer, Postrider, Received, Receiver, TestApp, TestDatabase, hook_to, on_both,
};
use postrider_worker::HookDefaults;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Mutex;

on_both!(
    a_hook_that_is_disabled_is_announced_to_those_who_ask_for_it,
    a_delivery_that_failed_is_announced_once,
    two_hooks_that_watch_each_other_and_fail_come_to_rest,
    events_of_others_about_our_own_things_are_refused,
    the_command_line_announces_what_a_person_changes,
);

async fn a_hook_that_is_disabled_is_announced_to_those_who_ask_for_it(backend: Backend) {
    let app = TestApp::with_hooks(backend, patient(9, 4, 60)).await;
    let failing = Receiver::answering([500]).await;
    let [all, watching, elsewhere] = [
        Receiver::accepting().await,
        Receiver::accepting().await,
        Receiver::accepting().await,
    ];
    let mut hook = hook_to(&format!("{}?token=secret", failing.url()));
    hook.events = patterns(&["invoice.*"]);
    let hook = app.register(hook).await.id;
    app.hook(&all).await;
    let watcher = watch(&app, &watching, "default", &["postrider.*"]).await;
    watch(&app, &elsewhere, "another", &["postrider.*"]).await;
    let secret = app.store.hook_with_credentials(watcher.id).await;
    let secret = secret.expect("a hook").credentials.secrets.remove(0).secret;

    app.enqueue("invoice.paid").await;
    for _ in 0..4 {
        app.tick().await;
        app.advance(21);
    }
    app.tick().await;
    assert_eq!(app.shown(hook).await.status, "disabled");
    let told = watching.requests();
    assert_eq!(
        types(&told),
        ["postrider.hook.warning", "postrider.hook.disabled"]
    );
    let disabled = &told[1];
    let body = disabled.json();
    let data = &body["data"];
    assert_eq!(data["hook_id"], hook.to_string());
    assert_eq!(data["url"], failing.url(), "without the query");
    assert_eq!(
        (&data["reason"], &data["by"]),
        (&"failures".into(), &"postrider".into())
    );
    assert_eq!(data["fail_count"], 4);
    assert_eq!(data["last_error"], "answered 500");
    for time in ["first_failure_at", "at"] {
        let text = data[time].as_str().unwrap_or_default();
        assert!(text.parse::<postrider_core::Timestamp>().is_ok(), "{body}");
    }
    let signed = verify(
        &secret.reveal(),
        disabled.id(),
        disabled.header("webhook-timestamp"),
        &disabled.body,
        disabled.header("webhook-signature"),
    );
    assert!(signed.is_ok(), "{signed:?}");
    // `*` is for the application's events, and accounts see their own things alone.
    assert_eq!(types(&all.requests()), ["invoice.paid"]);
    assert_eq!(elsewhere.count(), 0);

    let enable = app
        .store
        .change_hook(hook, HookChange::Enable, "test", app.now());
    enable.await.expect("enable");
    app.tick().await;
    assert_eq!(types(&watching.requests()[2..]), ["postrider.hook.enabled"]);
}

async fn a_delivery_that_failed_is_announced_once(backend: Backend) {
    let app = TestApp::with_hooks(backend, patient(3, 100, 3_600)).await;
    let failing = Receiver::answering([500]).await;
    let watching = Receiver::answering([500]).await;
    let hook = watch(&app, &failing, "default", &["invoice.*"]).await.id;
    watch(&app, &watching, "default", &["postrider.delivery.failed"]).await;
    let event = app.enqueue("invoice.paid").await;
    for _ in 0..12 {
        app.tick().await;
        app.advance(60);
    }
    // The announcement has used up its own attempts, of which nothing is told.
    assert_eq!(failing.count(), 4);
    assert_eq!(watching.count(), 4);
    assert_eq!(app.left().await, 0);
    let first = watching.requests()[0].json();
    assert_eq!(first["type"], "postrider.delivery.failed");
    let data = &first["data"];
    assert_eq!(
        (&data["event_id"], &data["hook_id"]),
        (&event.to_string().into(), &hook.to_string().into())
    );
    assert_eq!(
        (&data["reason"], &data["attempts"]),
        (&"exhausted".into(), &4.into())
    );
    assert_eq!(
        (&data["event_type"], &data["last_error"]),
        (&"invoice.paid".into(), &"answered 500".into())
    );
    let ids: BTreeSet<_> = watching.arrivals().into_keys().collect();
    assert_eq!(ids.len(), 1);
}

async fn two_hooks_that_watch_each_other_and_fail_come_to_rest(backend: Backend) {
    // Each failure is warned of, and every event is refused once and then taken, so that rows
    // of failures begin anew as long as events come.
    let app = TestApp::with_hooks(backend, patient(3, 2, 0)).await;
    let one = refusing_once().await;
    watch(&app, &one, "default", &["invoice.*", "postrider.*"]).await;
    let two = refusing_once().await;
    watch(&app, &two, "default", &["postrider.*"]).await;
    app.enqueue("invoice.paid").await;
    for _ in 0..20 {
        app.tick().await;
        app.advance(60);
    }
    assert_eq!(app.left().await, 0, "it comes to rest");
    assert_eq!(types(&one.requests()), ["invoice.paid"; 2]);
    assert_eq!(types(&two.requests()), ["postrider.hook.warning"; 2]);
    assert_eq!(app.metric("postrider_hooks_warned_total"), 2.0);
}

async fn events_of_others_about_our_own_things_are_refused(backend: Backend) {
    let app = TestApp::on(backend).await;
    let watching = Receiver::accepting().await;
    watch(&app, &watching, "default", &["postrider.*"]).await;
    app.sql()
        .await
        .run(
            "INSERT INTO postrider_outbox (event_type, payload) \
             VALUES ('postrider.hook.disabled', '{}')",
        )
        .await;
    app.tick().await;
    assert_eq!(watching.count(), 0);
    let rejected = app.store.rejected(10).await.expect("rejected rows");
    assert_eq!(rejected.len(), 1);
    assert!(
        rejected[0]
            .reason
            .contains("reserved for operational events"),
        "{rejected:?}"
    );
}

async fn the_command_line_announces_what_a_person_changes(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let watching = Receiver::accepting().await;
    let add = async |url: &str, pattern: &str| -> String {
        let add = ["hook", "add", "--url", url, "--event", pattern];
        let hook: Value = postrider.json(&add).await;
        hook["id"].as_str().expect("an id").to_owned()
    };
    let hook = add("https://example.com/hook", "invoice.*").await;
    add(&watching.url(), "postrider.hook.*").await;
    let _worker = postrider.serve().await;
    postrider.json(&["hook", "disable", &hook]).await;
    watching.wait_for(1).await;
    postrider.json(&["hook", "enable", &hook]).await;
    watching.wait_for(2).await;
    let told = watching.requests();
    assert_eq!(
        types(&told),
        ["postrider.hook.disabled", "postrider.hook.enabled"]
    );
    for received in &told {
        let data = &received.json()["data"];
        assert_eq!(
            (&data["hook_id"], &data["by"]),
            (&hook.as_str().into(), &"cli".into())
        );
    }
}

/// So many retries after a second each; disabled after so many failures in so many seconds.
fn patient(retries: usize, failures: u32, seconds: u64) -> HookDefaults {
    HookDefaults {
        retry_schedule: RetrySchedule::new(vec![Span::secs(1); retries]),
        disable_after_failures: failures,
        disable_after: Span::secs(seconds),
        ..HookDefaults::default()
    }
}

/// Refuses each event at its first arrival, and takes it at the next.
async fn refusing_once() -> Receiver {
    let seen = Mutex::new(BTreeSet::new());
    Receiver::deciding(move |_, received| {
        let id = received.id().to_owned();
        let is_new = seen.lock().is_ok_and(|mut seen| seen.insert(id));
        Answer::from(if is_new { 500 } else { 200 })
    })
    .await
}

fn patterns(patterns: &[&str]) -> Vec<EventPattern> {
    let patterns = patterns.iter();
    patterns
        .map(|pattern| pattern.parse().expect("a pattern"))
        .collect()
}

async fn watch(app: &TestApp, receiver: &Receiver, account: &str, events: &[&str]) -> HookReport {
    let mut hook = hook_to(&receiver.url());
    hook.account = account.into();
    hook.events = patterns(events);
    app.register(hook).await
}

/// The types of the events that were received, each once, in their order.
fn types(received: &[Received]) -> Vec<String> {
    let types = received.iter().map(|received| {
        let body = received.json();
        body["type"].as_str().unwrap_or_default().to_owned()
    });
    types.collect()
}
