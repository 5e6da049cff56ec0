//! A receiver that keeps failing: its hook is disabled, and none of its deliveries is lost.

use postrider_core::{RetrySchedule, Span};
use postrider_store::{Backend, DeliveryState, HookChange};
use postrider_tests::{Receiver, TestApp, event, on_both};
use postrider_worker::HookDefaults;

on_both!(
    a_hook_that_goes_on_failing_is_disabled_and_gets_everything_once_enabled,
    failures_in_the_same_instant_do_not_disable_a_hook,
    a_success_in_between_keeps_a_hook_active,
);

async fn a_hook_that_goes_on_failing_is_disabled_and_gets_everything_once_enabled(
    backend: Backend,
) {
    let app = TestApp::with_hooks(backend, disabling(3, Span::secs(2))).await;
    let receiver = Receiver::answering([500]).await;
    let hook = app.hook(&receiver).await;
    let mut events = vec![app.enqueue("invoice.paid").await];
    for fail_count in 1..=2 {
        app.tick().await;
        let shown = app.shown(hook).await;
        assert_eq!(
            (shown.status.as_str(), shown.fail_count),
            ("active", fail_count)
        );
        app.advance(2);
    }
    app.tick().await;
    let shown = app.shown(hook).await;
    assert_eq!((shown.status.as_str(), shown.fail_count), ("disabled", 3));
    assert_eq!(shown.disabled_reason.as_deref(), Some("failures"));
    assert_eq!(shown.disabled_by.as_deref(), Some("postrider"));
    assert_eq!(shown.disabled_at, Some(app.now()));
    assert_eq!(shown.last_error.as_deref(), Some("answered 500"));
    let disabled = "postrider_hooks_disabled_total{reason=\"failures\"}";
    assert_eq!(app.metric(disabled), 1.0);

    // What comes meanwhile is held as well, however long it takes.
    events.extend(app.enqueue_all(&vec![event("invoice.paid"); 300]).await);
    app.tick().await;
    app.advance(7 * 24 * 3_600);
    app.tick().await;
    assert_eq!(receiver.count(), 3);
    assert_eq!(app.shown(hook).await.held, 301);
    assert_eq!(app.count(hook, DeliveryState::Held).await, 301);

    receiver.answer([200]);
    let enabled = app
        .store
        .change_hook(hook, HookChange::Enable, "test", app.now());
    let shown = enabled.await.unwrap();
    assert_eq!((shown.status.as_str(), shown.fail_count), ("active", 0));
    assert_eq!((shown.disabled_reason, shown.disabled_at), (None, None));
    app.tick().await;
    assert_eq!(app.shown(hook).await.held, 0);
    for event in events {
        let delivery = app.delivery(event, hook).await;
        assert_eq!(delivery.state, DeliveryState::Delivered);
    }
    assert_eq!(receiver.count(), 3 + 301);
}

async fn failures_in_the_same_instant_do_not_disable_a_hook(backend: Backend) {
    let app = TestApp::with_hooks(backend, disabling(20, Span::secs(3_600))).await;
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
    assert_eq!(shown.held, 0);
    assert_eq!(app.count(hook, DeliveryState::Pending).await, 50);

    // The time decides with the number: an hour later one more failure is enough. A failure
    // counts from the end of its request, and these took real time.
    app.advance(3_600 + 60);
    app.tick().await;
    assert_eq!(app.shown(hook).await.status, "disabled");
    assert_eq!(app.shown(hook).await.held, 50);
}

async fn a_success_in_between_keeps_a_hook_active(backend: Backend) {
    let app = TestApp::with_hooks(backend, disabling(3, Span::secs(2))).await;
    let receiver = Receiver::answering([500, 500, 200, 500, 500, 200]).await;
    let hook = app.hook(&receiver).await;
    let mut counts = Vec::new();
    for _ in 0..2 {
        app.enqueue("invoice.paid").await;
        for _ in 0..3 {
            app.tick().await;
            counts.push(app.shown(hook).await.fail_count);
            app.advance(10);
        }
    }
    assert_eq!(counts, [1, 2, 0, 1, 2, 0]);
    assert_eq!(app.shown(hook).await.status, "active");
}

/// Retries after a second, with these limits.
fn disabling(failures: u32, time: Span) -> HookDefaults {
    HookDefaults {
        retry_schedule: RetrySchedule::new(vec![Span::secs(1); 9]),
        disable_after_failures: failures,
        disable_after: time,
        ..HookDefaults::default()
    }
}
