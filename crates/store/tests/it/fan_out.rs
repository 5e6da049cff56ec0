//! Outbox rows become events and deliveries.

use crate::support::ids_of;
use postrider_core::{DeliveryId, EventId, HookId, LeaseToken, NewEvent, NewHook, SettingsChange};
use postrider_store::{Capacity, DeliveryState, EventState, FanOutRequest, HookChange};
use postrider_tests::{TestStore, conformance, event, new_hook};
use std::collections::BTreeSet;
use std::time::Duration;

#[conformance]
async fn each_matching_hook_of_the_account_gets_a_delivery(t: &TestStore) {
    let exact = t.hook("invoice.paid").await;
    let below = t.hook("invoice.*").await;
    let any = t.hook("*").await;
    let several = t
        .register(new_hook(
            "default",
            &["order.*", "invoice.paid", "invoice.*"],
        ))
        .await
        .id;
    t.hook("invoice.voided").await;
    t.hook_of("acme", "*").await;
    let id = t.insert(&[event("invoice.paid")]).await[0];

    let done = t.fan_out().await;
    assert_eq!((done.events, done.deliveries), (1, 4));
    let hooks: BTreeSet<_> = done.started.iter().map(|leased| leased.hook.id).collect();
    assert_eq!(hooks, BTreeSet::from([exact, below, any, several]));
    for leased in &done.started {
        assert_eq!(leased.id, DeliveryId::of(id, leased.hook.id));
        assert_eq!(leased.event.id, id);
        assert_eq!((leased.attempts, leased.earlier_attempts), (0, 0));
    }
}

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
        of_hook.map(|leased| leased.event.id).collect()
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
    let nested = done.started.iter().filter(|d| d.event.id == ids[1]);
    let hooks: Vec<_> = nested.map(|leased| leased.hook.id).collect();
    assert_eq!(hooks, [all]);
}

fn filtered(filter: &str) -> NewHook {
    let mut hook = new_hook("default", &["*"]);
    hook.settings.filter = Some(filter.parse().unwrap());
    hook
}

fn with_payload(event_type: &str, payload: &str) -> NewEvent {
    NewEvent::from_json(event_type, payload.into()).unwrap()
}

#[conformance]
async fn rows_leave_the_outbox_with_their_deliveries(t: &TestStore) {
    let hook = t.hook("*").await;
    let ids = t.insert_many("a", 3).await;
    let request = t.request();
    let (token, until) = (request.token, request.until);
    let done = t.store.fan_out(request).await.unwrap();
    assert_eq!((done.events, done.deliveries), (3, 3));
    assert_eq!((done.rejected, done.duplicates), (0, 0));
    for leased in &done.started {
        assert_eq!((leased.token, leased.expires_at), (token, until));
        assert_eq!((leased.slot, leased.day), (t.slot, t.now().date_naive()));
    }
    let mut sql = t.sql().await;
    assert_eq!(sql.number("SELECT count(*) FROM postrider_outbox").await, 0);
    for id in ids {
        let report = t.delivery(DeliveryId::of(id, hook)).await;
        assert_eq!(report.state, DeliveryState::InFlight);
    }
    let again = t.fan_out().await;
    assert_eq!((again.events, again.more), (0, false));
}

#[conformance]
async fn what_was_rolled_back_is_never_delivered(t: &TestStore) {
    t.hook("*").await;
    let mut sql = t.sql().await;
    let insert = t.insertion(&[t.next_id()], &[event("a")]);
    sql.run(format!("BEGIN; {insert}; ROLLBACK")).await;
    assert_eq!(t.fan_out().await.events, 0);
    sql.run(format!("BEGIN; {insert}; COMMIT")).await;
    assert_eq!(t.fan_out().await.events, 1);
}

#[conformance(postgres)]
async fn a_transaction_still_open_delays_only_its_own_rows(t: &TestStore) {
    t.hook("*").await;
    let early = t.next_id();
    let mut sql = t.sql().await;
    sql.run(format!("BEGIN; {}", t.insertion(&[early], &[event("a")])))
        .await;
    let late = t.insert(&[event("b")]).await;
    assert_eq!(ids_of(&t.fan_out().await.started), late);
    sql.run("COMMIT").await;
    assert_eq!(ids_of(&t.fan_out().await.started), [early]);
}

#[conformance]
async fn a_hook_made_just_before_the_event_gets_it(t: &TestStore) {
    t.hook("*").await;
    t.insert_many("a", 1).await;
    t.fan_out().await;
    let elsewhere = t.another().await;
    let hook = elsewhere
        .create_hook(new_hook("default", &["a"]), "test", t.now())
        .await
        .unwrap();
    t.insert_many("a", 1).await;
    let done = t.fan_out().await;
    assert_eq!(done.deliveries, 2);
    assert!(done.started.iter().any(|leased| leased.hook.id == hook.id));
    assert!(t.store.hook_cache().get(hook.id).is_some());
}

#[conformance]
async fn a_hook_removed_elsewhere_gets_nothing_more(t: &TestStore) {
    let hook = t.hook("*").await;
    t.insert_many("a", 1).await;
    assert_eq!(t.fan_out().await.deliveries, 1);
    t.another()
        .await
        .remove_hook(hook, "test", t.now())
        .await
        .unwrap();
    t.insert_many("a", 1).await;
    let done = t.fan_out().await;
    assert_eq!((done.events, done.deliveries), (1, 0));
}

#[conformance]
async fn an_event_for_no_hook_is_kept(t: &TestStore) {
    let id = t.insert(&[event("a")]).await[0];
    let done = t.fan_out().await;
    assert_eq!((done.events, done.deliveries), (1, 0));
    let report = t.store.event(id).await.unwrap();
    assert_eq!(report.state, EventState::FannedOut);
    assert_eq!(report.fanned_out_at, Some(t.now()));
}

#[conformance]
async fn only_what_fits_into_the_room_starts(t: &TestStore) {
    let (first, second) = (t.hook("*").await, t.hook("*").await);
    t.insert_many("a", 5).await;
    let mut capacity = Capacity::new(4, 3);
    capacity.set(second, 2);
    let request = FanOutRequest {
        capacity,
        ..t.request()
    };
    let done = t.store.fan_out(request).await.unwrap();
    assert_eq!(done.deliveries, 10);
    assert_eq!(done.started.len(), 4);
    let started = |hook: HookId| {
        let of_hook = done.started.iter().filter(|leased| leased.hook.id == hook);
        of_hook.count()
    };
    assert!(started(first) <= 3 && started(second) <= 2);
    let waiting: BTreeSet<_> = done.waiting.iter().copied().collect();
    assert_eq!(waiting, BTreeSet::from([first, second]));

    let rest = t.lease(&[first, second]).await;
    assert_eq!(rest.len(), 6, "what did not fit is due for anyone");
    let all: BTreeSet<_> = done.started.iter().chain(&rest).map(|l| l.id).collect();
    assert_eq!(all.len(), 10);
}

#[conformance]
async fn the_room_of_each_hook_is_its_own(t: &TestStore) {
    let (full, free) = (t.hook("*").await, t.hook("*").await);
    t.insert_many("a", 3).await;
    let mut capacity = Capacity::new(100, 100);
    capacity.set(full, 0);
    let request = FanOutRequest {
        capacity,
        ..t.request()
    };
    let done = t.store.fan_out(request).await.unwrap();
    assert_eq!(done.started.len(), 3);
    assert!(done.started.iter().all(|leased| leased.hook.id == free));
    assert_eq!(done.waiting, [full]);
}

#[conformance]
async fn deliver_after_is_waited_for(t: &TestStore) {
    let hook = t.hook("*").await;
    let at = t.now() + Duration::from_secs(90);
    let id = t.insert(&[event("a").deliver_after(at)]).await[0];
    let done = t.fan_out().await;
    assert_eq!((done.deliveries, done.started.len()), (1, 0));
    assert!(done.waiting.is_empty(), "nothing of it is due");
    let report = t.delivery(DeliveryId::of(id, hook)).await;
    assert_eq!(report.next_attempt_at, Some(at));
    t.advance(89);
    assert!(t.lease(&[hook]).await.is_empty());
    t.advance(1);
    assert_eq!(t.lease(&[hook]).await.len(), 1);
}

#[conformance]
async fn deliver_after_beyond_the_retention_is_rejected(t: &TestStore) {
    t.hook("*").await;
    let request = t.request();
    let too_late = request.deliver_before + Duration::from_secs(1);
    let ids = t
        .insert(&[event("a").deliver_after(too_late), event("b")])
        .await;
    let done = t.store.fan_out(request).await.unwrap();
    assert_eq!((done.events, done.rejected), (1, 1));
    assert_eq!(t.store.rejected(10).await.unwrap()[0].id, ids[0]);
}

#[conformance]
async fn a_paused_hook_gets_deliveries_that_are_held(t: &TestStore) {
    let hook = t.hook("*").await;
    t.store
        .change_hook(hook, HookChange::Pause, "test", t.now())
        .await
        .unwrap();
    let id = t.insert(&[event("a")]).await[0];
    let done = t.fan_out().await;
    assert_eq!((done.deliveries, done.started.len()), (1, 0));
    let report = t.delivery(DeliveryId::of(id, hook)).await;
    assert_eq!(report.state, DeliveryState::Held);
    assert!(t.lease(&[hook]).await.is_empty());

    t.store
        .change_hook(hook, HookChange::Enable, "test", t.now())
        .await
        .unwrap();
    assert_eq!(t.lease(&[hook]).await.len(), 1);
}

#[conformance]
async fn events_are_taken_in_the_order_of_insertion(t: &TestStore) {
    let hook = t.hook("*").await;
    let mut ids: Vec<EventId> = (0..30).map(|_| t.next_id()).collect();
    ids.reverse();
    t.insert_as(&ids, &vec![event("a"); 30]).await;
    let mut seen = Vec::new();
    for expected in [20, 10] {
        let request = FanOutRequest {
            max_events: 20,
            ..t.request()
        };
        let done = t.store.fan_out(request).await.unwrap();
        assert_eq!(done.events, expected);
        assert!(done.started.iter().all(|leased| leased.hook.id == hook));
        seen.extend(ids_of(&done.started));
    }
    assert_eq!(seen, ids, "by seq, not by id");
}

#[conformance]
async fn a_full_batch_says_that_there_may_be_more(t: &TestStore) {
    t.insert_many("a", 5).await;
    let request = || FanOutRequest {
        max_events: 3,
        ..t.request()
    };
    let first = t.store.fan_out(request()).await.unwrap();
    assert_eq!((first.events, first.more), (3, true));
    let second = t.store.fan_out(request()).await.unwrap();
    assert_eq!((second.events, second.more), (2, false));
}

#[conformance]
async fn a_batch_is_bounded_by_its_deliveries(t: &TestStore) {
    for _ in 0..4 {
        t.hook("*").await;
    }
    let ids = t.insert_many("a", 5).await;
    let request = || FanOutRequest {
        max_deliveries: 10,
        ..t.request()
    };
    let first = t.store.fan_out(request()).await.unwrap();
    assert_eq!((first.events, first.deliveries), (2, 8));
    assert!(first.more);
    let states = [EventState::FannedOut, EventState::Queued];
    assert_eq!(t.store.event(ids[1]).await.unwrap().state, states[0]);
    assert_eq!(t.store.event(ids[2]).await.unwrap().state, states[1]);
    let tiny = FanOutRequest {
        max_deliveries: 1,
        ..t.request()
    };
    let single = t.store.fan_out(tiny).await.unwrap();
    assert_eq!(
        (single.events, single.deliveries),
        (1, 4),
        "one always fits"
    );
}

#[conformance]
async fn a_batch_is_bounded_by_the_bytes_of_its_payloads(t: &TestStore) {
    const MAX_BYTES: usize = 250_000;
    t.hook("*").await;
    // Among small ones: large ones that compress to almost nothing, and ones that do not.
    let events: Vec<_> = (0..40)
        .map(|number| match number % 4 {
            0 => NewEvent::new("work", &"x".repeat(90_000)),
            1 => NewEvent::new("work", &noise(60_000)),
            2 => NewEvent::new("work", &"y".repeat(2_500)),
            _ => NewEvent::new("work", &number),
        })
        .collect::<Result<_, _>>()
        .unwrap();
    let ids = t.insert(&events).await;
    let mut batches = Vec::new();
    loop {
        let request = FanOutRequest {
            max_bytes: MAX_BYTES as u64,
            ..t.request()
        };
        let done = t.store.fan_out(request).await.unwrap();
        assert_eq!(done.events as usize, done.started.len());
        let bytes = done.started.iter().map(|d| d.event.payload.as_str().len());
        assert!(bytes.sum::<usize>() <= MAX_BYTES);
        batches.push(done.started);
        if !done.more {
            break;
        }
    }
    assert!((7..=20).contains(&batches.len()), "{}", batches.len());
    let taken = batches.concat();
    assert_eq!(ids_of(&taken), ids, "each once, in order");
    for (leased, event) in taken.iter().zip(&events) {
        assert_eq!(leased.event.payload.as_str(), event.payload.get());
    }
}

#[conformance]
async fn a_payload_larger_than_the_bound_is_taken_alone(t: &TestStore) {
    t.hook("*").await;
    let large = NewEvent::new("work", &noise(300_000)).unwrap();
    let ids = t.insert(&[large.clone(), event("work"), large]).await;
    for (id, more) in ids.iter().zip([true, true, false]) {
        let request = FanOutRequest {
            max_bytes: 10,
            ..t.request()
        };
        let done = t.store.fan_out(request).await.unwrap();
        assert_eq!(ids_of(&done.started), [*id]);
        assert_eq!(done.more, more);
    }
}

#[conformance]
async fn no_row_is_taken_by_two_callers(t: &TestStore) {
    t.hook("*").await;
    let ids: BTreeSet<_> = t.insert_many("a", 400).await.into_iter().collect();
    let second = t.another().await;
    let mut seen = Vec::new();
    let mut callers = Vec::new();
    for number in 0..8 {
        let store = if number % 2 == 0 { &t.store } else { &second };
        let (store, request) = (store.clone(), t.request());
        callers.push(tokio::spawn(async move {
            let mut started = Vec::new();
            loop {
                let request = FanOutRequest {
                    max_events: 17,
                    token: LeaseToken::draw(request.now),
                    ..request.clone()
                };
                let done = store.fan_out(request).await.unwrap();
                started.extend(done.started);
                if !done.more {
                    return started;
                }
            }
        }));
    }
    for caller in callers {
        seen.extend(ids_of(&caller.await.unwrap()));
    }
    // Whoever found the head of the outbox locked may have stopped early.
    seen.extend(ids_of(&t.fan_out().await.started));
    assert_eq!(seen.len(), 400);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), ids);
}

#[conformance]
async fn only_the_named_slot_is_worked_on(t: &TestStore) {
    t.hook("*").await;
    t.insert_many("a", 2).await;
    let request = FanOutRequest {
        slot: t.slot + 1,
        ..t.request()
    };
    let done = t.store.fan_out(request).await.unwrap();
    assert_eq!((done.events, done.more), (0, false));
    assert_eq!(t.fan_out().await.events, 2);
}

#[conformance]
async fn thousands_of_deliveries_come_of_one_batch(t: &TestStore) {
    let mut last = t.hook("*").await;
    for _ in 1..10 {
        last = t.hook("*").await;
    }
    t.insert_many("a", 1_000).await;
    let done = t.fan_out().await;
    assert_eq!((done.events, done.deliveries), (1_000, 10_000));
    assert_eq!(done.started.len(), 10_000);
    let of_last = done.started.iter().filter(|l| l.hook.id == last);
    assert_eq!(of_last.count(), 1_000);
}

#[conformance]
async fn a_delivery_finds_its_event_on_a_later_day(t: &TestStore) {
    let hook = t.hook("*").await;
    let id = t.insert(&[event("a")]).await[0];
    t.fan_out_without_room().await;
    t.advance(2 * 24 * 3600);
    let leased = t.lease(&[hook]).await;
    assert_eq!(ids_of(&leased), [id], "an event of another day");
    assert_eq!(
        leased[0].day,
        (t.now() - Duration::from_secs(2 * 24 * 3600)).date_naive()
    );
}

/// Text that hardly compresses.
fn noise(length: usize) -> String {
    let mut state = 1_u32;
    let letters = std::iter::from_fn(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(char::from(b'0' + (state >> 24) as u8 % 64))
    });
    letters
        .filter(char::is_ascii_alphanumeric)
        .take(length)
        .collect()
}
