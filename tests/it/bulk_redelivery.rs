//! Sending many deliveries of a hook again.

use postrider_core::{EventId, RetrySchedule, Span};
use postrider_store::{Backend, DeliveryState, HookChange};
use postrider_tests::{Postrider, Receiver, TestApp, event, on_both};
use postrider_worker::HookDefaults;
use std::collections::BTreeSet;

on_both!(
    what_failed_is_sent_again_under_the_same_ids,
    a_stretch_of_time_and_one_type_are_sent_again,
    what_is_waiting_or_of_a_deleted_hook_is_refused,
);

async fn what_failed_is_sent_again_under_the_same_ids(backend: Backend) {
    let app = TestApp::with_hooks(backend, hasty()).await;
    let receiver = Receiver::answering([500]).await;
    let hook = app.hook(&receiver).await;
    let events = app.enqueue_all(&vec![event("invoice.paid"); 1_200]).await;
    app.tick().await;
    app.advance(2);
    app.tick().await;
    assert_eq!(app.left().await, 0, "all have used up their attempts");
    let failed = receiver.count();

    receiver.answer([200]);
    let hook_id = hook.to_string();
    let postrider = Postrider::on(&app.database);
    let again = ["delivery", "redeliver", "--hook", &hook_id, "--since", "1h"];
    let done = postrider.json(&again).await;
    assert_eq!(
        (&done["state"], &done["redelivered"]),
        (&"failed".into(), &1_200.into())
    );
    catch_up(&app).await;
    app.tick().await;
    let again: BTreeSet<String> = receiver.requests()[failed..]
        .iter()
        .map(|received| received.id().to_owned())
        .collect();
    assert_eq!(again, events.iter().map(EventId::to_string).collect());
    assert_eq!(receiver.count(), failed + 1_200, "each once");
    let list = ["delivery", "list", "--hook", &hook_id, "--state", "failed"];
    assert!(postrider.listing(&list).await.is_empty());
}

async fn a_stretch_of_time_and_one_type_are_sent_again(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    let paid = app.enqueue("invoice.paid").await;
    app.enqueue_all(&[event("invoice.void"), event("order.paid")])
        .await;
    app.tick().await;
    assert_eq!(receiver.count(), 3);
    let hook_id = hook.to_string();
    let postrider = Postrider::on(&app.database);
    let again = async |arguments: &[&str]| {
        let begin = [
            "delivery",
            "redeliver",
            "--hook",
            &hook_id,
            "--state",
            "delivered",
        ];
        let done = postrider.json(&[&begin[..], arguments].concat()).await;
        done["redelivered"].as_u64().expect("a number")
    };
    assert_eq!(again(&["--since", "2h", "--until", "1h"]).await, 0);
    let one = ["--since", "1h", "--event-type", "invoice.paid"];
    assert_eq!(again(&one).await, 1);
    assert_eq!(again(&one).await, 0, "it waits already");
    catch_up(&app).await;
    app.tick().await;
    assert_eq!(receiver.arrivals()[&paid.to_string()], 2);
    assert_eq!(
        again(&["--since", "1h", "--event-type", "invoice.*"]).await,
        2
    );
}

async fn what_is_waiting_or_of_a_deleted_hook_is_refused(backend: Backend) {
    let app = TestApp::with_hooks(backend, hasty()).await;
    let receiver = Receiver::answering([500]).await;
    let hook = app.hook(&receiver).await;
    app.enqueue("invoice.paid").await;
    app.tick().await;
    let hook_id = hook.to_string();
    let postrider = Postrider::on(&app.database);
    let again = ["delivery", "redeliver", "--hook", &hook_id];
    for unfit in [
        &["--state", "pending", "--since", "1h"][..],
        &["--state", "failed"],
        &["--since", "yesterday"],
    ] {
        let refused = postrider.run(&[&again[..], unfit].concat()).await;
        assert_eq!(refused.status.code(), Some(2), "{refused}");
    }
    let since = [&again[..], &["--since", "1h"]].concat();
    assert_eq!(postrider.json(&since).await["redelivered"], 0);
    assert_eq!(app.count(hook, DeliveryState::Pending).await, 1);

    // Of a paused hook it is held, and goes out when the hook is active.
    app.advance(2);
    app.tick().await;
    let pause = app
        .store
        .change_hook(hook, HookChange::Pause, "test", app.now());
    pause.await.expect("pause");
    assert_eq!(postrider.json(&since).await["redelivered"], 1);
    assert_eq!(app.count(hook, DeliveryState::Held).await, 1);
    app.store
        .remove_hook(hook, "test", app.now())
        .await
        .expect("remove");
    let refused = postrider.run(&since).await.refused();
    assert!(refused.contains("was deleted"), "{refused}");
}

/// Two attempts and no more, and a hook that is left alone and disabled late.
fn hasty() -> HookDefaults {
    HookDefaults {
        retry_schedule: RetrySchedule::new(vec![Span::secs(1)]),
        back_off_after: 100_000,
        ..HookDefaults::default()
    }
}

/// The program goes by the database's clock: what it makes due is due by then.
async fn catch_up(app: &TestApp) {
    let now = app.store.now().await.expect("the time");
    let behind = (now - app.now()).to_std().unwrap_or_default();
    app.clock.advance(behind);
}
