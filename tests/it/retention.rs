//! History that is past goes, and what people ask for is erased.

use postrider_store::{Backend, DeliveryState, HookChange, Retention};
use postrider_tests::{Postrider, Receiver, TestApp, event, on_both};
use postrider_worker::{Metrics, Pruner};
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

on_both!(
    what_expires_is_counted,
    an_event_is_erased_by_its_id,
    an_account_is_erased_in_batches,
);

async fn what_expires_is_counted(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    pause(&app, hook).await;
    let held = app.enqueue("invoice.paid").await;
    app.tick().await;
    app.advance(40 * DAY.as_secs());
    let metrics = Arc::new(Metrics::new());
    let keeper = Pruner {
        store: app.store.clone(),
        clock: app.clock.clone(),
        keep: Retention {
            events: 30 * DAY,
            attempts: 30 * DAY,
        },
        metrics: metrics.clone(),
    };
    keeper.turn().await.expect("a turn");
    let counted =
        postrider_tests::value_of(&metrics.encode(), "postrider_deliveries_expired_total");
    assert!((counted - 1.0).abs() < f64::EPSILON, "{counted}");
    assert_eq!(app.delivery(held, hook).await.state, DeliveryState::Expired);
}

async fn an_event_is_erased_by_its_id(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    let postrider = Postrider::on(&app.database);
    let event = app.enqueue("invoice.paid").await;
    app.tick().await;
    let id = event.to_string();
    let refused = postrider.run(&["event", "erase", &id]).await.refused();
    assert!(refused.contains("add --yes"), "{refused}");
    let erased = postrider.json(&["event", "erase", &id, "--yes"]).await;
    assert_eq!(erased["events"], 1, "{erased}");
    let shown = postrider.json(&["event", "show", &id]).await;
    assert!(
        shown["payload"].is_null() && shown["erased_at"].is_string(),
        "{shown}"
    );
    let attempts = app.attempts(event, hook).await;
    assert!(attempts.iter().all(|attempt| attempt.response.is_none()));
    let unknown = hook.to_string();
    let refused = postrider
        .run(&["event", "erase", &unknown, "--yes"])
        .await
        .refused();
    assert!(refused.contains("there is no event"), "{refused}");
}

async fn an_account_is_erased_in_batches(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    pause(&app, hook).await;
    let mut other = event("invoice.paid");
    other.account = "other".into();
    let kept = app.enqueue_all(&[other]).await[0];
    app.enqueue_all(&vec![event("invoice.paid"); 250]).await;
    app.tick().await;
    app.enqueue("invoice.sent").await;
    let postrider = Postrider::on(&app.database);
    let erased = postrider
        .json(&["account", "erase", "default", "--yes"])
        .await;
    assert_eq!(erased["events"], 250, "{erased}");
    assert_eq!(
        (&erased["queued"], &erased["cancelled"]),
        (&1.into(), &250.into())
    );
    assert_eq!(app.count(hook, DeliveryState::Cancelled).await, 250);
    let kept = app.store.event(kept).await.expect("the event of another");
    assert!(kept.erased_at.is_none());
    let again = postrider
        .json(&["account", "erase", "default", "--yes"])
        .await;
    assert_eq!(again["events"], 0, "{again}");
}

async fn pause(app: &TestApp, hook: postrider_core::HookId) {
    let paused = app
        .store
        .change_hook(hook, HookChange::Pause, "test", app.now());
    paused.await.expect("pause the hook");
}
