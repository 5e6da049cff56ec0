//! What is done beside the deliveries: capacity for the days to come, and what deleted hooks left.

use postrider_core::{HookId, Reason, RetrySchedule};
use postrider_store::{DeliveryState, HookChange, Step, Upkeep};
use postrider_tests::{TestStore, conformance, event, refusal};
use std::time::Duration;

const DAY: u64 = 24 * 3600;

#[conformance]
async fn deliveries_of_a_deleted_hook_are_cancelled_in_batches(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = t.waiting(hook, 5).await;
    assert_eq!(upkeep(t, 100).await, Upkeep::default());
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    t.advance(1);
    let first = upkeep(t, 2).await;
    assert_eq!((first.cancelled, first.more), (2, true));
    assert_eq!(all_cancelled(t, 2).await, 3);
    for id in ids {
        let report = t.delivery(id).await;
        assert_eq!(report.state, DeliveryState::Cancelled);
        assert_eq!(report.reason.as_deref(), Some("hook_deleted"));
        assert_eq!((report.attempts, report.next_attempt_at), (0, None));
    }
    assert!(t.store.slots().await.unwrap().is_empty());
    assert_eq!(upkeep(t, 100).await, Upkeep::default());
}

#[conformance]
async fn deliveries_of_other_hooks_are_left_alone(t: &TestStore) {
    let deleted = t.hook("*").await;
    let (active, paused) = (t.hook("*").await, t.hook("*").await);
    t.insert_many("a", 2).await;
    t.fan_out_without_room().await;
    t.store
        .change_hook(paused, HookChange::Pause, "test", t.now())
        .await
        .unwrap();
    t.store.remove_hook(deleted, "test", t.now()).await.unwrap();
    assert_eq!(all_cancelled(t, 100).await, 2);
    assert_eq!(t.lease(&[active]).await.len(), 2);
    assert_eq!(t.shown(paused).await.held, 2);
}

#[conformance]
async fn what_is_in_flight_is_cancelled_when_it_comes_back(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    assert_eq!(all_cancelled(t, 100).await, 0);
    t.settle(&[t.accepted(&started[0]), t.refused(&started[1], 60)])
        .await;
    assert_eq!(all_cancelled(t, 100).await, 1);
    let report = t.delivery(started[1].id).await;
    assert_eq!(
        (report.state, report.attempts),
        (DeliveryState::Cancelled, 1)
    );

    t.outlive_leases();
    let schedule = RetrySchedule::default();
    t.store
        .recover(t.slot, t.now(), 10, &schedule)
        .await
        .unwrap();
    assert_eq!(all_cancelled(t, 100).await, 1);
    let report = t.delivery(started[2].id).await;
    assert_eq!(report.state, DeliveryState::Cancelled);
    let report = t.delivery(started[0].id).await;
    assert_eq!(report.state, DeliveryState::Delivered);
}

#[conformance]
async fn deliveries_still_to_come_are_cancelled_too(t: &TestStore) {
    let hook = t.hook("work").await;
    let later = t.now() + Duration::from_secs(3 * DAY);
    t.insert(&[event("work").deliver_after(later)]).await;
    t.fan_out().await;
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    assert_eq!(all_cancelled(t, 100).await, 1);
}

#[conformance]
async fn a_jump_of_the_clock_finds_room_after_upkeep(t: &TestStore) {
    let hook = t.hook("work").await;
    for days in [1, 40, 400] {
        t.advance(days * DAY);
        upkeep(t, 100).await;
        works(t, hook).await;
        t.advance(3 * DAY);
        works(t, hook).await;
    }
    t.clock.set(t.now() - Duration::from_secs(200 * DAY));
    upkeep(t, 100).await;
    works(t, hook).await;
}

#[conformance]
async fn several_may_do_upkeep_at_once(t: &TestStore) {
    let hook = t.hook("work").await;
    t.waiting(hook, 30).await;
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    t.advance(40 * DAY);
    let second = t.another().await;
    let mut callers = Vec::new();
    for store in [t.store.clone(), second.clone(), t.store.clone(), second] {
        let now = t.now();
        callers.push(tokio::spawn(async move {
            store.upkeep(now, 10).await.unwrap().cancelled
        }));
    }
    let mut cancelled = 0;
    for caller in callers {
        cancelled += caller.await.unwrap();
    }
    assert_eq!(cancelled + all_cancelled(t, 10).await, 30);
}

/// A delivery goes the whole way on this day.
async fn works(t: &TestStore, hook: HookId) {
    let started = t.started(hook, 2).await;
    let failed = Step::Failed(Reason::Exhausted);
    let settlements = [
        t.accepted(&started[0]),
        t.settlement(&started[1], refusal(500), failed),
    ];
    assert_eq!(t.settle(&settlements).await.settled, 2);
    assert_eq!(
        t.delivery(started[0].id).await.state,
        DeliveryState::Delivered
    );
    assert_eq!(t.delivery(started[1].id).await.state, DeliveryState::Failed);
}

async fn upkeep(t: &TestStore, limit: u32) -> Upkeep {
    t.store.upkeep(t.now(), limit).await.unwrap()
}

/// Does upkeep until there is no more to cancel; returns how many were.
async fn all_cancelled(t: &TestStore, limit: u32) -> u32 {
    let mut cancelled = 0;
    loop {
        let done = upkeep(t, limit).await;
        assert!(done.cancelled <= limit);
        cancelled += done.cancelled;
        if !done.more {
            return cancelled;
        }
    }
}
