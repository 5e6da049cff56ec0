//! Which hooks an event gets to by its content: filters, and the largest payload a hook takes.

use crate::support::ids_of;
use postrider_core::{DeliveryId, HookId, NewEvent, NewHook, SettingsChange};
use postrider_store::{DeliveryState, HookChange};
use postrider_tests::{TestStore, conformance, new_hook};

#[conformance]
async fn a_hook_with_a_filter_gets_only_what_fits(t: &TestStore) {
    let all = t.hook("*").await;
    let large = t.register(filtered("amount >= 100")).await.id;
    let euros = r#"currency == "EUR" && !exists(test)"#;
    let euros = t.register(filtered(euros)).await.id;
    let mut of_type = filtered("exists(amount)");
    of_type.events = vec!["order.*".parse().unwrap()];
    let of_type = t.register(of_type).await.id;
    let mut elsewhere = filtered("exists(amount)");
    elsewhere.account = "acme".into();
    t.register(elsewhere).await;
    let ids = t
        .insert(&[
            with_payload("invoice.paid", r#"{"amount": 99, "currency": "EUR"}"#),
            with_payload("invoice.paid", r#"{"amount": 1e2, "currency": "USD"}"#),
            with_payload("order.made", r#"{"amount": 250, "currency": "EUR"}"#),
            with_payload("invoice.paid", r#"{"currency": "EUR", "test": null}"#),
            with_payload("invoice.paid", r#""amount""#),
        ])
        .await;

    let done = t.fan_out().await;
    assert_eq!((done.events, done.deliveries), (5, 10));
    assert_eq!(done.filter_problems, 0);
    let made = |hook: HookId| -> Vec<_> {
        let of_hook = done.started.iter().filter(|leased| leased.hook.id == hook);
        of_hook.map(|leased| leased.first().event.id).collect()
    };
    assert_eq!(made(all), ids);
    assert_eq!(made(large), [ids[1], ids[2]]);
    assert_eq!(made(euros), [ids[0], ids[2]]);
    assert_eq!(made(of_type), [ids[2]], "the pattern decides too");
}

#[conformance]
async fn a_changed_filter_decides_about_events_read_later(t: &TestStore) {
    let hook = t.register(filtered("n == 1")).await.id;
    let change = async |filter: Option<&str>| {
        let change = HookChange::Set(SettingsChange {
            filter: Some(filter.map(|filter| filter.parse().unwrap())),
            ..SettingsChange::default()
        });
        // By another process.
        let other = t.another().await;
        other
            .change_hook(hook, change, "test", t.now())
            .await
            .unwrap();
    };
    let insert = async || {
        t.insert(&[
            with_payload("a", r#"{"n": 1}"#),
            with_payload("a", r#"{"n": 2}"#),
        ])
        .await
    };
    let first = insert().await;
    assert_eq!(ids_of(&t.fan_out().await.started), first[..1]);

    let second = insert().await;
    change(Some("n == 2")).await;
    assert_eq!(ids_of(&t.fan_out().await.started), second[1..]);

    change(None).await;
    let third = insert().await;
    assert_eq!(ids_of(&t.fan_out().await.started), third);
    // What was made under another filter stays.
    let kept = t.delivery(DeliveryId::of(first[0], hook)).await;
    assert_eq!(kept.state, DeliveryState::InFlight);
}

#[conformance]
async fn a_payload_that_no_filter_can_read_fits_none_and_is_counted(t: &TestStore) {
    let all = t.hook("*").await;
    t.register(filtered("!exists(a)")).await;
    t.register(filtered("a == 1")).await;
    let nested = "[".repeat(200) + &"]".repeat(200);
    let ids = t
        .insert(&[
            with_payload("b", "{}"),
            with_payload("b", &nested),
            with_payload("b", "{}"),
        ])
        .await;
    let done = t.fan_out().await;
    assert_eq!((done.events, done.rejected), (3, 0));
    assert_eq!((done.deliveries, done.filter_problems), (5, 2));
    let nested = done.started.iter().filter(|d| d.first().event.id == ids[1]);
    let hooks: Vec<_> = nested.map(|leased| leased.hook.id).collect();
    assert_eq!(hooks, [all]);
}

#[conformance]
async fn a_payload_larger_than_the_hook_takes_makes_no_delivery(t: &TestStore) {
    let all = t.hook("*").await;
    let mut small = filtered("!exists(a)");
    small.settings.max_payload_bytes = Some(10);
    let small = t.register(small).await.id;
    let ids = t
        .insert(&[
            with_payload("b", r#"{"b":1234}"#),
            with_payload("b", r#"{"b":12345}"#),
            // Unreadable for filters, but not counted: the size alone decides.
            with_payload("b", &("[".repeat(200) + &"]".repeat(200))),
            with_payload("b", r#"{"b":"é"}"#),
            with_payload("b", r#"{"b":"éé"}"#),
        ])
        .await;
    let done = t.fan_out().await;
    assert_eq!((done.events, done.rejected), (5, 0));
    assert_eq!((done.deliveries, done.filter_problems), (7, 0));
    let made = |hook: HookId| -> Vec<_> {
        let of_hook = done.started.iter().filter(|leased| leased.hook.id == hook);
        of_hook.map(|leased| leased.first().event.id).collect()
    };
    assert_eq!(made(all), ids);
    assert_eq!(made(small), [ids[0], ids[3]], "bytes, not characters");
}

fn filtered(filter: &str) -> NewHook {
    let mut hook = new_hook("default", &["*"]);
    hook.settings.filter = Some(filter.parse().unwrap());
    hook
}

fn with_payload(event_type: &str, payload: &str) -> NewEvent {
    NewEvent::from_json(event_type, payload.into()).unwrap()
}
