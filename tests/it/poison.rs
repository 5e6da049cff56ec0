//! One bad row or one bad answer among many good ones stops nothing else.

use postrider_core::NewEvent;
use postrider_store::{Backend, DeliveryState, EventState};
use postrider_tests::{Answer, Connection, Receiver, TestApp, event, hook_to, on_both};
use std::time::Duration;

on_both!(
    a_row_that_breaks_a_rule_is_rejected_and_the_others_arrive,
    a_row_that_the_database_will_not_keep_is_rejected_and_the_others_arrive,
    a_response_that_the_database_will_not_keep_is_dropped_and_the_others_stay,
    a_response_of_any_bytes_is_kept,
);

async fn a_row_that_breaks_a_rule_is_rejected_and_the_others_arrive(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    app.hook(&receiver).await;
    let mut sql = app.sql().await;
    let mut good = app.enqueue_all(&vec![event("invoice.paid"); 500]).await;
    let headers: std::collections::BTreeMap<_, _> =
        (0..40_000).map(|n| (format!("x-{n}"), "y")).collect();
    let headers = serde_json::to_string(&headers).expect("JSON");
    let after_retention = (app.now() + Duration::from_secs(40 * 24 * 3_600)).to_rfc3339();
    for (columns, values) in [
        ("event_type, payload", "'postrider.hook.disabled', '{}'"),
        ("event_type, payload", "'', '{}'"),
        ("event_type, payload, account", "'a', '{}', ''"),
        (
            "event_type, payload, headers",
            "'a', '{}', '{\"x y\":\"z\"}'",
        ),
        (
            "event_type, payload, deliver_after",
            &format!("'a', '{{}}', '{after_retention}'"),
        ),
        (
            "event_type, payload, headers",
            &format!("'a', '{{}}', '{headers}'"),
        ),
    ] {
        sql.run(format!(
            "INSERT INTO postrider_outbox ({columns}) VALUES ({values})"
        ))
        .await;
    }
    good.extend(app.enqueue_all(&vec![event("invoice.paid"); 499]).await);
    app.tick().await;

    let mut expected: Vec<_> = good.iter().map(|id| (id.to_string(), 1)).collect();
    expected.sort();
    assert_eq!(
        receiver.arrivals().into_iter().collect::<Vec<_>>(),
        expected
    );
    let rejected = app.store.rejected(10).await.unwrap();
    let mut reasons: Vec<_> = rejected.iter().map(|row| row.reason.as_str()).collect();
    reasons.sort_unstable();
    for (reason, expected) in reasons.iter().zip([
        "deliver_after",
        "the account must be",
        "the event type \"postrider.hook.disabled\" begins with",
        "the event type is empty",
        "the headers must be",
        "there are more than 100 headers",
    ]) {
        assert!(reason.starts_with(expected), "{reason}");
    }
    assert_eq!(reasons.len(), 6);
    assert_eq!(app.metric("postrider_events_rejected_total"), 6.0);
    assert_eq!(outbox(&mut sql).await, 0);
}

async fn a_row_that_the_database_will_not_keep_is_rejected_and_the_others_arrive(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.hook(&receiver).await;
    app.database
        .refuse("postrider_events", "NEW.event_type = 'poison'")
        .await;
    let poison = NewEvent::from_json("poison", r#"{"a":1}"#.into()).unwrap();
    let mut events = vec![event("invoice.paid"); 1_000];
    events[421] = poison;
    let ids = app.enqueue_all(&events).await;
    app.tick().await;

    let arrivals = receiver.arrivals();
    assert_eq!((arrivals.len(), receiver.count()), (999, 999));
    assert!(!arrivals.contains_key(&ids[421].to_string()));
    let rejected = app.store.rejected(10).await.unwrap();
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].id, ids[421]);
    assert_eq!(rejected[0].event_type.as_deref(), Some("poison"));
    assert!(rejected[0].reason.contains("refused"), "{rejected:?}");
    let shown = app.store.event(ids[421]).await.unwrap();
    assert_eq!(shown.state, EventState::Rejected);
    assert_eq!(shown.payload.unwrap().get(), r#"{"a":1}"#);
    assert_eq!(app.count(hook, DeliveryState::Pending).await, 0);
    assert_eq!(outbox(&mut app.sql().await).await, 0);
}

async fn a_response_that_the_database_will_not_keep_is_dropped_and_the_others_stay(
    backend: Backend,
) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::deciding(|number, _| match number {
        7 => Answer::from(200).body("poison"),
        _ => Answer::from(200).body("fine"),
    })
    .await;
    let hook = app.hook(&receiver).await;
    let poison = match backend {
        Backend::Postgres => "NEW.response = '\\x706f69736f6e'",
        Backend::Sqlite => "NEW.response = x'706f69736f6e'",
    };
    app.database.refuse("postrider_attempts", poison).await;
    let ids = app.enqueue_all(&vec![event("invoice.paid"); 60]).await;
    app.tick().await;

    let mut responses = Vec::new();
    for id in ids {
        let delivery = app.delivery(id, hook).await;
        assert_eq!(delivery.state, DeliveryState::Delivered);
        let attempt = app.attempts(id, hook).await.remove(0);
        assert_eq!(attempt.status, Some(200));
        responses.push(attempt.response.unwrap_or_default());
    }
    responses.sort();
    let mut expected = vec!["fine".to_owned(); 60];
    expected[0] = String::new();
    assert_eq!(responses, expected);
    assert_eq!(receiver.count(), 60, "nothing is repeated");
    assert_eq!(app.metric("postrider_settlements_scrubbed_total"), 1.0);
}

async fn a_response_of_any_bytes_is_kept(backend: Backend) {
    let app = TestApp::on(backend).await;
    let bytes: Vec<u8> = b"nul \0, not UTF-8 \xff\xfe, end".to_vec();
    let receiver = Receiver::answering([Answer::from(200).body(bytes)]).await;
    let hook = app.register(hook_to(&receiver.url())).await.id;
    let event = app.enqueue("invoice.paid").await;
    app.tick().await;
    let attempt = app.attempts(event, hook).await.remove(0);
    assert_eq!(
        attempt.response.as_deref(),
        Some("nul \0, not UTF-8 \u{fffd}\u{fffd}, end")
    );
    assert_eq!(app.metric("postrider_settlements_scrubbed_total"), 0.0);
}

async fn outbox(sql: &mut Connection) -> i64 {
    sql.number("SELECT count(*) FROM postrider_outbox").await
}
