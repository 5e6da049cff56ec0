//! A batch stays together when its request has ended or its lease was lost.

use crate::batch_steps::{DAY, batches, events_of, insert, lease, lease_request, one};
use postrider_core::{Batches, DeliveryId, EventId, HookId, Reason, RetrySchedule};
use postrider_store::{DeliveryState, HookRequest, LeaseRequest, Step, Store};
use postrider_tests::{TestStore, conformance, event, refusal};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

#[conformance]
async fn a_batch_stays_together_when_it_is_released(t: &TestStore) {
    let (hook, ids) = three(t).await;
    let batch = one(lease(t, hook, 3, 1).await);
    let all: Vec<_> = batch.ids().collect();
    let released = t
        .store
        .release(t.slot, batch.lease.token, &all, t.now())
        .await;
    assert_eq!(released.unwrap(), 3);
    assert_still_together(t, hook, &ids).await;
}

#[conformance]
async fn a_batch_stays_together_when_its_worker_is_lost(t: &TestStore) {
    let (hook, ids) = three(t).await;
    one(lease(t, hook, 3, 1).await);
    t.outlive_leases();
    // However few are asked for, a batch comes back as a whole.
    let recovered = t.store.recover(t.slot, t.now(), 1, &schedule()).await;
    assert_eq!(recovered.unwrap().recovered, 3);
    assert_still_together(t, hook, &ids).await;
}

#[conformance]
async fn a_batch_stays_together_when_it_is_retried(t: &TestStore) {
    let (hook, ids) = three(t).await;
    let batch = one(lease(t, hook, 3, 1).await);
    t.settle(&[t.refused(&batch, 60)]).await;
    t.advance(59);
    assert!(lease(t, hook, 3, 10).await.is_empty(), "not yet");
    t.advance(1);
    let again = assert_still_together(t, hook, &ids).await;
    assert_eq!((again.attempts, again.earlier_attempts), (1, 0));
}

#[conformance]
async fn losing_three_workers_is_one_attempt_of_the_whole_batch(t: &TestStore) {
    let (hook, ids) = three(t).await;
    for _ in 0..3 {
        one(lease(t, hook, 3, 1).await);
        t.outlive_leases();
        let recovered = t.store.recover(t.slot, t.now(), 10, &schedule()).await;
        let recovered = recovered.unwrap();
        assert_eq!(recovered.recovered + recovered.worker_lost, 3);
    }
    let deliveries = ids[..3].iter().map(|id| DeliveryId::of(*id, hook));
    let mut due = BTreeSet::new();
    for id in deliveries {
        let attempts = t.attempts(id).await;
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0].outcome, "worker_lost");
        due.insert(t.delivery(id).await.next_attempt_at);
    }
    assert_eq!(due.len(), 1, "all at the same time: {due:?}");
    t.advance(2 * DAY);
    assert_still_together(t, hook, &ids).await;
}

#[conformance]
async fn a_failed_batch_is_recorded_for_each_delivery(t: &TestStore) {
    let (hook, ids) = three(t).await;
    let batch = one(lease(t, hook, 3, 1).await);
    let settled = t.settle(&[t.refused(&batch, 60)]).await;
    assert_eq!(settled.settled, 3);
    assert_eq!(t.shown(hook).await.fail_count, 1);
    let due = t.now() + Duration::from_secs(60);
    for id in &ids[..3] {
        let id = DeliveryId::of(*id, hook);
        let report = t.delivery(id).await;
        assert_eq!((report.state, report.attempts), (DeliveryState::Pending, 1));
        assert_eq!(report.next_attempt_at, Some(due));
        assert_eq!(t.attempts(id).await[0].status, Some(500));
    }
    t.advance(60);
    let batch = one(lease(t, hook, 3, 1).await);
    t.settle(&[t.refused(&batch, 60)]).await;
    assert_eq!(t.shown(hook).await.fail_count, 2);
    t.advance(60);
    let batch = one(lease(t, hook, 3, 1).await);
    assert_eq!(t.settle(&[t.accepted(&batch)]).await.settled, 3);
    assert_eq!(t.shown(hook).await.fail_count, 0);
    for id in &ids[..3] {
        let report = t.delivery(DeliveryId::of(*id, hook)).await;
        assert_eq!(report.state, DeliveryState::Delivered);
        assert_eq!(report.attempts, 3);
    }
}

#[conformance]
async fn a_batch_whose_schedule_is_used_up_fails_as_a_whole(t: &TestStore) {
    let (hook, ids) = three(t).await;
    let batch = one(lease(t, hook, 3, 1).await);
    let step = Step::Failed(Reason::Exhausted);
    let mut exhausting = t.settlement(&batch, refusal(500), step);
    exhausting.policy.disable_when_exhausted = true;
    let settled = t.settle(&[exhausting]).await;
    assert_eq!(settled.disabled.len(), 1);
    assert_eq!(settled.disabled[0].fail_count, 1);
    for id in &ids[..3] {
        let report = t.delivery(DeliveryId::of(*id, hook)).await;
        assert_eq!(report.state, DeliveryState::Failed);
    }
}

#[conformance]
async fn a_batch_whose_lease_was_lost_is_late_as_a_whole(t: &TestStore) {
    let (hook, ids) = three(t).await;
    let late = one(lease(t, hook, 3, 1).await);
    t.outlive_leases();
    let recovered = t.store.recover(t.slot, t.now(), 10, &schedule()).await;
    assert_eq!(recovered.unwrap().recovered, 3);
    let settled = t.settle(&[t.refused(&late, 60)]).await;
    assert_eq!((settled.settled, settled.late.len()), (0, 3));
    assert_eq!(t.shown(hook).await.fail_count, 0);
    assert_still_together(t, hook, &ids).await;
}

#[conformance]
async fn a_refused_response_splits_no_batch(t: &TestStore) {
    let hook = t.hook("work").await;
    insert(t, &vec![event("work"); 12], 3).await;
    let batches = lease(t, hook, 3, 10).await;
    assert_eq!(batches.len(), 4);
    let cursed = format!("NEW.response = {}", t.bytes(b"cursed"));
    t.refuse("postrider_attempts", &cursed).await;
    let mut all: Vec<_> = batches.iter().map(|batch| t.refused(batch, 60)).collect();
    all[1].attempts.rest[0].response = b"cursed".to_vec();
    let settled = t.settle(&all).await;
    assert_eq!((settled.settled, settled.scrubbed), (12, 3));
    assert_eq!(t.shown(hook).await.fail_count, 4);
    for id in batches[1].ids() {
        let attempts = t.attempts(id).await;
        assert_eq!(attempts[0].response.clone().unwrap_or_default(), "");
    }
}

/// A hook with three deliveries that go together.
async fn three(t: &TestStore) -> (HookId, Vec<EventId>) {
    let hook = t.hook("work").await;
    let ids = insert(t, &vec![event("work"); 3], 3).await;
    (hook, ids)
}

/// These go together, also to a worker that has other bounds or knows of no batches, and whatever
/// else is due.
async fn assert_still_together(t: &TestStore, hook: HookId, ids: &[EventId]) -> HookRequest {
    let other: Arc<dyn Store> = t.another().await;
    insert(t, &vec![event("work"); 4], 9).await;
    for batches in [Some(batches(2)), None, Some(batches(9))] {
        let request = LeaseRequest {
            batches: batches.map(|batches| -> Arc<dyn Batches> { batches }),
            ..lease_request(t, hook, 1, 9)
        };
        let leased = other.lease(request).await.unwrap();
        assert_eq!(leased.iter().flat_map(HookRequest::ids).count(), 7);
        let with_first: Vec<_> = leased
            .iter()
            .filter(|leased| leased.ids().any(|id| id == DeliveryId::of(ids[0], hook)))
            .cloned()
            .collect();
        assert_eq!(events_of(&one(with_first)), ids);
        for leased in leased {
            let all: Vec<_> = leased.ids().collect();
            let released = other
                .release(t.slot, leased.lease.token, &all, t.now())
                .await;
            assert_eq!(released.unwrap() as usize, all.len());
        }
    }
    let leased = other.lease(lease_request(t, hook, 9, 9)).await.unwrap();
    let batch = leased
        .into_iter()
        .find(|leased| leased.first().event.id == ids[0]);
    batch.expect("the batch")
}

fn schedule() -> RetrySchedule {
    RetrySchedule::default()
}
