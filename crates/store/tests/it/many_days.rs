//! History of more days than one statement names.

use crate::support::{drained, settle_failed};
use postrider_core::{DeliveryId, EventId, HookId};
use postrider_store::{
    BulkPage, DeliveryFilter, DeliveryState, Discard, EventFilter, EventState, HookChange,
    Redelivery,
};
use postrider_tests::{TestStore, conformance, event};

const DAY: u64 = 24 * 3600;
const DAYS: usize = 30;

#[conformance]
async fn listings_and_look_ups_find_what_is_scattered_over_many_days(t: &TestStore) {
    let hook = t.hook("work").await;
    // One waits in the outbox meanwhile, and is fanned out weeks after its id was drawn.
    let late = EventId::draw(t.now());
    t.advance(1);
    let events = failed_each_day(t, hook, 3).await;
    t.insert_as(&[late], &[event("work")]).await;
    let started = drained(t).await.started;
    t.settle(&[t.accepted(&started[0])]).await;

    let mut expected: Vec<_> = events
        .iter()
        .map(|event| DeliveryId::of(*event, hook))
        .collect();
    expected.sort_unstable();
    expected.reverse();
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let filter = DeliveryFilter {
            state: Some(DeliveryState::Failed),
            before,
            limit: 4,
            ..DeliveryFilter::default()
        };
        let page = t.store.deliveries(filter).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        assert!(page.iter().all(|delivery| delivery.event_type == "work"));
        found.extend(page.into_iter().map(|delivery| delivery.id));
    }
    assert_eq!(found, expected);
    let filter = EventFilter {
        limit: 100,
        ..EventFilter::default()
    };
    let listed = t.store.events(filter).await.unwrap();
    assert_eq!(listed.len(), events.len() + 1);
    assert_eq!(
        listed.last().unwrap().id,
        late,
        "by its id it is the oldest"
    );

    for event in events.iter().chain([&late]) {
        let shown = t.store.event(*event).await.unwrap();
        assert_eq!(shown.state, EventState::FannedOut);
        let id = DeliveryId::of(*event, hook);
        assert_eq!(t.delivery(id).await.event_id, *event);
        assert_eq!(t.attempts(id).await.len(), 1);
        let of_event = DeliveryFilter {
            event: Some(*event),
            limit: 10,
            ..DeliveryFilter::default()
        };
        assert_eq!(t.store.deliveries(of_event).await.unwrap().len(), 1);
    }
    let again = t
        .store
        .redeliver(DeliveryId::of(late, hook), t.now())
        .await
        .unwrap();
    assert_eq!(again.state, DeliveryState::Pending);

    let all: Vec<_> = events.iter().copied().chain([late]).collect();
    let erased = t.store.erase(&all, t.now()).await.unwrap();
    assert_eq!((erased.events as usize, erased.cancelled), (all.len(), 1));
    assert_eq!(erased.responses as usize, all.len());
}

#[conformance]
async fn bulk_operations_go_over_many_days(t: &TestStore) {
    let hook = t.hook("work").await;
    let events = failed_each_day(t, hook, 1).await;
    let mut which = Redelivery {
        hook,
        state: DeliveryState::Failed,
        since: None,
        until: None,
        event_type: None,
    };
    // None is left out, and none comes twice.
    for limit in [100, 5] {
        let count = redelivered(t, &which, limit).await;
        assert_eq!(count as usize, events.len());
        let leased = t.lease(&[hook]).await;
        assert_eq!(leased.len(), events.len());
        settle_failed(t, &leased).await;
        t.advance(1);
    }
    which.since = Some(DeliveryId::of(events[DAYS - 3], hook).event_made_at());
    assert_eq!(redelivered(t, &which, 100).await, 3);

    // All of it is held.
    which.since = None;
    assert_eq!(redelivered(t, &which, 100).await as usize, DAYS - 3);
    let pause = t
        .store
        .change_hook(hook, HookChange::Pause, "test", t.now())
        .await;
    pause.unwrap();
    t.advance(1);
    which.state = DeliveryState::Held;
    assert_eq!(redelivered(t, &which, 100).await as usize, DAYS);
    let (mut count, mut page) = (0, BulkPage::first(100));
    let discard = Discard {
        hook,
        made_before: None,
        by: "test".into(),
    };
    loop {
        let done = t.store.discard_held(&discard, page, t.now()).await.unwrap();
        count += done.count;
        page.after = done.next;
        if done.next.is_none() {
            break;
        }
    }
    assert_eq!(count as usize, DAYS);
}

/// One delivery that has failed each `every` days, by their events, the oldest first.
async fn failed_each_day(t: &TestStore, hook: HookId, every: usize) -> Vec<EventId> {
    let mut events = Vec::new();
    for day in 0..DAYS {
        t.store.upkeep(t.now(), 100).await.unwrap();
        if day % every == 0 {
            let id = EventId::draw(t.now());
            t.insert_as(&[id], &[event("work")]).await;
            let started = drained(t).await.started;
            assert!(started.iter().all(|leased| leased.hook.id == hook));
            settle_failed(t, &started[..1]).await;
            events.push(id);
        }
        t.advance(DAY);
    }
    t.store.upkeep(t.now(), 100).await.unwrap();
    events
}

async fn redelivered(t: &TestStore, which: &Redelivery, limit: u32) -> u32 {
    let (mut count, mut page) = (0, BulkPage::first(limit));
    loop {
        let done = t.store.redeliver_many(which, page, t.now()).await.unwrap();
        count += done.count;
        page.after = done.next;
        if done.next.is_none() {
            return count;
        }
    }
}
