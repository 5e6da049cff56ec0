//! Outbox rows become events and deliveries.

use crate::support::ids_of;
use postrider_core::{DeliveryId, EventId, HookId, LeaseToken};
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
        assert_eq!(leased.first().id, DeliveryId::of(id, leased.hook.id));
        assert_eq!(leased.first().event.id, id);
        assert_eq!((leased.attempts, leased.earlier_attempts), (0, 0));
    }
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
        assert_eq!(
            (leased.lease.token, leased.lease.expires_at),
            (token, until)
        );
        assert_eq!(
            (leased.lease.slot, leased.first().day),
            (t.slot, t.now().date_naive())
        );
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
    capacity.set_quick(second, 2);
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
    let all: BTreeSet<_> = done
        .started
        .iter()
        .chain(&rest)
        .map(|l| l.first().id)
        .collect();
    assert_eq!(all.len(), 10);
}

#[conformance]
async fn the_room_of_each_hook_is_its_own(t: &TestStore) {
    let (full, free) = (t.hook("*").await, t.hook("*").await);
    t.insert_many("a", 3).await;
    let mut capacity = Capacity::new(100, 100);
    capacity.set_quick(full, 0);
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
        leased[0].first().day,
        (t.now() - Duration::from_secs(2 * 24 * 3600)).date_naive()
    );
}
