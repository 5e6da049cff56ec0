//! The ordinary life of an event: from the outbox to the receivers that subscribe to it.

use postrider_core::{BasicAuth, BodyForm, NewEvent, SigningSecret, verify};
use postrider_store::{Backend, DeliveryState, HookChange};
use postrider_tests::{Answer, Received, Receiver, TestApp, event, hook_to, on_both};
use std::collections::BTreeSet;
use std::time::Duration;

on_both!(
    an_event_reaches_every_hook_that_asks_for_it,
    a_request_is_a_standard_webhook_with_what_hook_and_event_add,
    a_second_event_with_the_same_dedup_key_is_dropped,
    an_event_waits_for_its_deliver_after,
    a_rotated_hook_signs_with_both_secrets_until_the_old_one_ends,
    a_paused_hook_holds_its_deliveries_until_it_is_enabled,
    a_delivery_can_be_sent_again_under_the_same_id,
    a_removed_hook_gets_nothing_more_and_its_deliveries_are_cancelled,
    a_redirect_is_not_followed,
    a_hook_with_a_long_queue_gets_all_of_it,
);

async fn an_event_reaches_every_hook_that_asks_for_it(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    for (path, account, patterns) in [
        ("/everything", "default", &["*"][..]),
        ("/below", "default", &["invoice.*"]),
        ("/exactly", "default", &["invoice.paid", "order.made"]),
        ("/elsewhere", "acme", &["*"]),
    ] {
        let mut hook = hook_to(&format!("http://{}{path}", receiver.address()));
        hook.account = account.into();
        hook.events = patterns.iter().map(|p| p.parse().unwrap()).collect();
        app.register(hook).await;
    }
    let ids = app
        .enqueue_all(&[
            event("invoice.paid"),
            event("invoice.line.added"),
            event("order.made"),
            event("invoice.paid").account("acme"),
        ])
        .await;
    app.tick().await;

    let came: BTreeSet<_> = receiver
        .requests()
        .into_iter()
        .map(|request| (request.path.clone(), request.id().to_owned()))
        .collect();
    let expected = [
        ("/everything", 0),
        ("/everything", 1),
        ("/everything", 2),
        ("/below", 0),
        ("/below", 1),
        ("/exactly", 0),
        ("/exactly", 2),
        ("/elsewhere", 3),
    ];
    let expected = expected.map(|(path, event)| (path.to_owned(), ids[event].to_string()));
    assert_eq!(came, BTreeSet::from(expected));
    assert_eq!(receiver.count(), 8, "nothing comes twice");
}

async fn a_request_is_a_standard_webhook_with_what_hook_and_event_add(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let mut hook = hook_to(&receiver.url());
    let secret = hook.credentials.secrets[0].secret.reveal();
    hook.credentials.basic = Some(BasicAuth {
        user: "ada".into(),
        password: "open sesame".into(),
    });
    hook.credentials.headers = vec![("x-environment".into(), "production".into())];
    app.register(hook).await;
    let mut event = NewEvent::from_json("invoice.paid", r#"{"b": 1.0,  "a":"\u00e4"}"#.into())
        .unwrap()
        .occurred_at(app.now());
    event.headers = Some(r#"{"x-trace":"abc","x-environment":"not this one"}"#.into());
    let id = app.enqueue_all(&[event]).await[0];
    app.tick().await;

    let request = &receiver.requests()[0];
    assert_eq!(request.id(), id.to_string());
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(
        request.header("authorization"),
        "Basic YWRhOm9wZW4gc2VzYW1l"
    );
    assert_eq!(request.header("x-environment"), "production");
    assert_eq!(request.header("x-trace"), "abc");
    assert!(request.header("user-agent").starts_with("Postrider/"));
    let timestamp = app.now().timestamp().to_string();
    assert_eq!(request.header("webhook-timestamp"), timestamp);
    assert!(is_signed_with(request, &secret));
    assert_eq!(
        std::str::from_utf8(&request.body).unwrap(),
        r#"{"type":"invoice.paid","timestamp":"2026-03-02T10:00:00Z","data":{"b": 1.0,  "a":"\u00e4"}}"#
    );
}

async fn a_second_event_with_the_same_dedup_key_is_dropped(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    app.hook(&receiver).await;
    let mut other = hook_to(&receiver.url());
    other.account = "acme".into();
    app.register(other).await;
    let keyed = || event("order.made").dedup_key("order-7");
    let first = app.enqueue_all(&[keyed(), keyed()]).await;
    app.tick().await;
    app.advance(3_600);
    let elsewhere = app.enqueue_all(&[keyed(), keyed().account("acme")]).await;
    app.tick().await;

    let came: Vec<_> = receiver.arrivals().into_iter().collect();
    assert_eq!(
        came,
        [(first[0].to_string(), 1), (elsewhere[1].to_string(), 1)]
    );
    assert_eq!(app.metric("postrider_events_duplicate_total"), 2.0);
}

async fn an_event_waits_for_its_deliver_after(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    let later = event("reminder").deliver_after(app.now() + Duration::from_secs(3_600));
    let id = app.enqueue_all(&[later]).await[0];
    app.tick().await;
    app.advance(3_599);
    app.tick().await;
    assert_eq!(receiver.count(), 0);
    assert_eq!(app.delivery(id, hook).await.state, DeliveryState::Pending);
    app.advance(1);
    app.tick().await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(app.delivery(id, hook).await.state, DeliveryState::Delivered);
}

async fn a_rotated_hook_signs_with_both_secrets_until_the_old_one_ends(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = hook_to(&receiver.url());
    let old = hook.credentials.secrets[0].secret.reveal();
    let id = app.register(hook).await.id;
    let new = SigningSecret::generate();
    let change = HookChange::Rotate {
        secret: new.clone(),
        overlap_until: app.now() + Duration::from_secs(3_600),
    };
    let rotated = app.store.change_hook(id, change, "test", app.now()).await;
    assert_eq!(rotated.unwrap().secret, Some(new.reveal()));

    for (old_signs, advance) in [(true, 3_599), (true, 1), (false, 0)] {
        app.enqueue("invoice.paid").await;
        app.tick().await;
        let request = receiver.requests().pop().unwrap();
        assert!(is_signed_with(&request, &new.reveal()));
        assert_eq!(is_signed_with(&request, &old), old_signs);
        app.advance(advance);
    }
}

async fn a_paused_hook_holds_its_deliveries_until_it_is_enabled(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    let change = |change| app.store.change_hook(hook, change, "test", app.now());
    assert_eq!(change(HookChange::Pause).await.unwrap().status, "paused");
    let ids = app.enqueue_all(&vec![event("invoice.paid"); 3]).await;
    app.tick().await;
    assert_eq!(receiver.count(), 0);
    assert_eq!(app.shown(hook).await.held, 3);
    assert_eq!(app.delivery(ids[0], hook).await.state, DeliveryState::Held);

    assert_eq!(change(HookChange::Enable).await.unwrap().status, "active");
    app.tick().await;
    assert_eq!(receiver.arrivals().len(), 3);
    assert_eq!(app.shown(hook).await.held, 0);
}

async fn a_delivery_can_be_sent_again_under_the_same_id(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let mut hook = hook_to(&receiver.url());
    hook.settings.body = BodyForm::Payload;
    let hook = app.register(hook).await.id;
    let event = app.enqueue("invoice.paid").await;
    app.tick().await;
    let delivery = app.delivery(event, hook).await;
    assert_eq!(delivery.state, DeliveryState::Delivered);
    app.advance(60);
    let again = app.store.redeliver(delivery.id, app.now()).await.unwrap();
    assert_eq!(again.state, DeliveryState::Pending);
    app.tick().await;

    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].id(), requests[1].id());
    assert_eq!(requests[0].body, requests[1].body);
    let attempts = app.attempts(event, hook).await;
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2]);
}

async fn a_removed_hook_gets_nothing_more_and_its_deliveries_are_cancelled(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([503]).await;
    let hook = app.hook(&receiver).await;
    let before = app.enqueue("invoice.paid").await;
    app.tick().await;
    app.store
        .remove_hook(hook, "test", app.now())
        .await
        .unwrap();
    app.enqueue("invoice.paid").await;
    app.tick().await;
    app.advance(24 * 3_600);
    app.tick().await;

    assert_eq!(receiver.count(), 1);
    let delivery = app.delivery(before, hook).await;
    assert_eq!(delivery.state, DeliveryState::Cancelled);
    assert_eq!(delivery.reason.as_deref(), Some("hook_deleted"));
}

async fn a_redirect_is_not_followed(backend: Backend) {
    let app = TestApp::on(backend).await;
    let elsewhere = Receiver::accepting().await;
    let redirect = Answer::from(307).header("location", elsewhere.url());
    let receiver = Receiver::answering([redirect]).await;
    let hook = app.hook(&receiver).await;
    let event = app.enqueue("invoice.paid").await;
    app.tick().await;

    assert_eq!((receiver.count(), elsewhere.connections()), (1, 0));
    let attempt = app.attempts(event, hook).await.remove(0);
    assert_eq!(
        (attempt.outcome.as_str(), attempt.status),
        ("refused", Some(307))
    );
}

async fn a_hook_with_a_long_queue_gets_all_of_it(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    let ids = app.enqueue_all(&vec![event("invoice.paid"); 1_500]).await;
    app.tick().await;

    let came: Vec<_> = receiver.arrivals().into_iter().collect();
    let mut expected: Vec<_> = ids.iter().map(|id| (id.to_string(), 1)).collect();
    expected.sort();
    assert_eq!(came, expected);
    assert_eq!(app.count(hook, DeliveryState::Pending).await, 0);
}

fn is_signed_with(request: &Received, secret: &str) -> bool {
    let timestamp = request.header("webhook-timestamp");
    let signature = request.header("webhook-signature");
    verify(secret, request.id(), timestamp, &request.body, signature).is_ok()
}
