//! Calls that publish events once, however often they are made.

use postrider_core::{EventId, KeyId, NewEvent};
use postrider_store::{EnqueuedOnce, IDEMPOTENCY_KEPT, Idempotency};
use postrider_tests::{TestStore, conformance, event};
use std::sync::Arc;
use tokio::task::JoinSet;

const CALLS: &str = "SELECT count(*) FROM postrider_idempotency";
const QUEUED: &str = "SELECT count(*) FROM postrider_outbox";

#[conformance]
async fn a_repeated_call_inserts_nothing_and_is_told_the_same_ids(t: &TestStore) {
    let call = call(t, "order 7 'ü'", 1);
    let events = [event("a"), event("b"), event("c")];
    let EnqueuedOnce::Now(ids) = once(t, &call, &events).await else {
        panic!("the first call inserts");
    };
    for (id, event) in ids.iter().zip(&events) {
        let kept = t.store.event(*id).await.unwrap();
        assert_eq!(kept.event_type, event.event_type, "in the order given");
    }
    for _ in 0..2 {
        let again = once(t, &call, &events).await;
        assert_eq!(again, EnqueuedOnce::Before(ids.clone()));
    }
    assert_eq!(t.sql().await.number(QUEUED).await, 3);
}

#[conformance]
async fn something_else_under_the_same_key_is_a_mismatch(t: &TestStore) {
    once(t, &call(t, "k", 1), &[event("a")]).await;
    let other = once(t, &call(t, "k", 2), &[event("b")]).await;
    assert_eq!(other, EnqueuedOnce::Mismatch);
    assert_eq!(t.sql().await.number(QUEUED).await, 1);
}

#[conformance]
async fn the_key_of_another_caller_is_another_call(t: &TestStore) {
    let one = call(t, "k", 1);
    let other = Idempotency {
        caller: KeyId::draw(t.now()),
        ..one.clone()
    };
    for call in [one, other] {
        let told = once(t, &call, &[event("a")]).await;
        assert!(matches!(told, EnqueuedOnce::Now(_)), "{told:?}");
    }
    assert_eq!(t.sql().await.number(QUEUED).await, 2);
}

#[conformance]
async fn of_calls_at_the_same_time_one_inserts(t: &TestStore) {
    let call = Arc::new(call(t, "k", 1));
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let (store, call, now) = (t.store.clone(), call.clone(), t.now());
        calls.spawn(async move { store.enqueue_once(&call, &[event("a")], now).await.unwrap() });
    }
    let mut told: Vec<(bool, Vec<EventId>)> = Vec::new();
    for result in calls.join_all().await {
        match result {
            EnqueuedOnce::Now(ids) => told.push((true, ids)),
            EnqueuedOnce::Before(ids) => told.push((false, ids)),
            EnqueuedOnce::Mismatch => panic!("all ask for the same"),
        }
    }
    assert_eq!(told.iter().filter(|(first, _)| *first).count(), 1);
    assert!(told.iter().all(|(_, ids)| *ids == told[0].1), "{told:?}");
    assert_eq!(t.sql().await.number(QUEUED).await, 1);
}

#[conformance]
async fn a_call_that_is_refused_is_not_recorded(t: &TestStore) {
    let call = call(t, "k", 1);
    let malformed = [event("a"), event("a b")];
    let refused = t.store.enqueue_once(&call, &malformed, t.now()).await;
    assert!(refused.is_err(), "{refused:?}");
    t.refuse("postrider_outbox", "NEW.event_type = 'cursed'")
        .await;
    let cursed = [event("a"), event("cursed")];
    let refused = t.store.enqueue_once(&call, &cursed, t.now()).await;
    assert!(refused.is_err(), "{refused:?}");
    let mut sql = t.sql().await;
    assert_eq!((sql.number(CALLS).await, sql.number(QUEUED).await), (0, 0));
    let told = once(t, &call, &[event("a")]).await;
    assert!(matches!(told, EnqueuedOnce::Now(_)), "{told:?}");
}

#[conformance]
async fn a_call_is_forgotten_after_its_time(t: &TestStore) {
    let old = call(t, "k", 1);
    once(t, &old, &[event("a")]).await;
    t.clock.advance(IDEMPOTENCY_KEPT);
    // Nobody has swept yet, and the key is good for something else.
    let told = once(t, &call(t, "k", 2), &[event("b")]).await;
    assert!(matches!(told, EnqueuedOnce::Now(_)), "{told:?}");
    once(t, &call(t, "younger", 3), &[event("c")]).await;
    t.store.upkeep(t.now(), 100).await.unwrap();
    assert_eq!(t.sql().await.number(CALLS).await, 2);
    t.clock.advance(IDEMPOTENCY_KEPT);
    t.store.upkeep(t.now(), 100).await.unwrap();
    assert_eq!(t.sql().await.number(CALLS).await, 0);
}

fn call(t: &TestStore, key: &str, digest: u8) -> Idempotency {
    Idempotency {
        caller: KeyId(uuid::Uuid::from_u128(u128::from(t.slot.unsigned_abs()))),
        key: key.into(),
        digest: [digest; 32],
    }
}

async fn once(t: &TestStore, call: &Idempotency, events: &[NewEvent]) -> EnqueuedOnce {
    t.store.enqueue_once(call, events, t.now()).await.unwrap()
}
