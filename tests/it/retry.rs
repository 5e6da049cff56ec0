//! Retries: what happens to a delivery that is not accepted at once.

use postrider_core::{RetrySchedule, Span};
use postrider_store::{Backend, DeliveryState};
use postrider_tests::{Answer, Receiver, TestApp, longest_wait, on_both};
use postrider_worker::HookDefaults;

on_both!(
    a_receiver_that_fails_twice_gets_the_same_request_three_times,
    a_delivery_whose_schedule_is_used_up_has_failed_and_can_be_sent_again,
    a_receiver_is_left_alone_for_as_long_as_it_asks,
    a_receiver_that_is_gone_fails_its_delivery_and_the_next_are_held,
    a_receiver_that_does_not_listen_is_tried_again,
);

async fn a_receiver_that_fails_twice_gets_the_same_request_three_times(backend: Backend) {
    let app = TestApp::on(backend).await;
    let long = "the queue is full. ".repeat(2_000);
    let receiver = Receiver::answering([
        Answer::from(503).body("try later"),
        Answer::from(503).body(long.clone()),
        Answer::from(200).body("thank you"),
    ])
    .await;
    let hook = app.hook(&receiver).await;
    let event = app.enqueue("invoice.paid").await;

    app.tick().await;
    assert_eq!(app.shown(hook).await.fail_count, 1);
    let delivery = app.delivery(event, hook).await;
    assert_eq!(delivery.state, DeliveryState::Pending);
    let wait = RetrySchedule::default().delay_after(delivery.id, 1);
    let next = delivery.next_attempt_at.unwrap() - app.now();
    assert_eq!(next.to_std().ok(), wait);

    app.advance(longest_wait(1));
    app.tick().await;
    let shown = app.shown(hook).await;
    assert_eq!(shown.fail_count, 2);
    assert_eq!(shown.last_error.as_deref(), Some("answered 503"));
    assert!(shown.first_failure_at.is_some());

    app.advance(longest_wait(2));
    app.tick().await;
    let shown = app.shown(hook).await;
    assert_eq!((shown.fail_count, shown.first_failure_at), (0, None));
    assert_eq!(
        app.delivery(event, hook).await.state,
        DeliveryState::Delivered
    );

    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert_eq!(request.id(), event.to_string());
        assert_eq!(request.body, requests[0].body);
    }
    let attempts = app.attempts(event, hook).await;
    let listed: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.outcome.as_str(), attempt.status))
        .collect();
    assert_eq!(
        listed,
        [
            (1, "refused", Some(503)),
            (2, "refused", Some(503)),
            (3, "accepted", Some(200)),
        ]
    );
    let responses: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt.response.clone().unwrap_or_default())
        .collect();
    assert_eq!(responses[0], "try later");
    assert_eq!(responses[1], long[..16 * 1024]);
    assert_eq!(responses[2], "thank you");
    assert!(attempts.iter().all(|attempt| attempt.duration_ms < 60_000));
    assert!(attempts.is_sorted_by(|one, next| one.at < next.at));
    assert!(attempts.iter().all(|attempt| !attempt.late));
}

async fn a_delivery_whose_schedule_is_used_up_has_failed_and_can_be_sent_again(backend: Backend) {
    let hooks = HookDefaults {
        retry_schedule: RetrySchedule::new(vec![Span::secs(1)]),
        ..HookDefaults::default()
    };
    let app = TestApp::with_hooks(backend, hooks).await;
    let receiver = Receiver::answering([500]).await;
    let hook = app.hook(&receiver).await;
    let event = app.enqueue("invoice.paid").await;
    for _ in 0..4 {
        app.tick().await;
        app.advance(3_600);
    }
    assert_eq!(receiver.count(), 2, "one wait makes two attempts");
    let delivery = app.delivery(event, hook).await;
    assert_eq!(delivery.state, DeliveryState::Failed);
    assert_eq!(delivery.reason.as_deref(), Some("exhausted"));
    assert_eq!(app.count(hook, DeliveryState::Failed).await, 1);

    // Its schedule begins anew, and its attempts go on being counted.
    app.store.redeliver(delivery.id, app.now()).await.unwrap();
    app.tick().await;
    assert_eq!(
        app.delivery(event, hook).await.state,
        DeliveryState::Pending
    );
    receiver.answer([200]);
    app.advance(2);
    app.tick().await;
    let delivery = app.delivery(event, hook).await;
    assert_eq!(delivery.state, DeliveryState::Delivered);
    let attempts = app.attempts(event, hook).await;
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

async fn a_receiver_is_left_alone_for_as_long_as_it_asks(backend: Backend) {
    let app = TestApp::on(backend).await;
    let busy = Answer::from(429).header("retry-after", "1000");
    let receiver = Receiver::answering([busy, Answer::from(200)]).await;
    let hook = app.hook(&receiver).await;
    let event = app.enqueue("invoice.paid").await;
    app.tick().await;
    app.advance(999);
    app.tick().await;
    assert_eq!(receiver.count(), 1);
    app.advance(1);
    app.tick().await;
    assert_eq!(receiver.count(), 2);
    assert_eq!(
        app.delivery(event, hook).await.state,
        DeliveryState::Delivered
    );
}

async fn a_receiver_that_is_gone_fails_its_delivery_and_the_next_are_held(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([410]).await;
    let hook = app.hook(&receiver).await;
    let event = app.enqueue("invoice.paid").await;
    app.tick().await;
    let delivery = app.delivery(event, hook).await;
    assert_eq!(delivery.state, DeliveryState::Failed);
    assert_eq!(delivery.reason.as_deref(), Some("gone"));
    let shown = app.shown(hook).await;
    assert_eq!(shown.status, "disabled");
    assert_eq!(shown.disabled_reason.as_deref(), Some("gone"));

    app.enqueue("invoice.paid").await;
    app.tick().await;
    assert_eq!((receiver.count(), app.shown(hook).await.held), (1, 1));
}

async fn a_receiver_that_does_not_listen_is_tried_again(backend: Backend) {
    let app = TestApp::on(backend).await;
    let url = Receiver::accepting().await.url();
    let hook = app.register(postrider_tests::hook_to(&url)).await.id;
    let event = app.enqueue("invoice.paid").await;
    app.tick().await;
    let attempt = app.attempts(event, hook).await.remove(0);
    assert_eq!(
        (attempt.outcome.as_str(), attempt.status),
        ("unreachable", None)
    );
    let error = attempt.error.unwrap();
    assert!(error.contains("could not connect"), "{error}");
    assert!(!error.contains(&url), "a URL may hold a token: {error}");
    assert_eq!(
        app.delivery(event, hook).await.state,
        DeliveryState::Pending
    );
}
