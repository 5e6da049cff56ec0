//! Several events in one request: a batch stays together.

use crate::support::ids_of;
use postrider_core::{
    Batches, Batching, DeliveryId, EventId, Hook, HookId, LeaseToken, NewEvent, Ordered, Reason,
    RetrySchedule,
};
use postrider_store::{
    BulkPage, DeliveryState, Discard, FanOutRequest, FanOutResult, HookChange, HookRequest,
    LeaseRequest, Redelivery, Retention, Settlement, Step, Store,
};
use postrider_tests::{TestStore, conformance, event, new_hook, refusal};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long the first of a batch waits for others, in seconds.
const WINDOW: u64 = 5;
const DAY: u64 = 24 * 3600;

#[conformance]
async fn deliveries_wait_for_others_as_long_as_the_window(t: &TestStore) {
    let (hook, other) = (t.hook("work").await, t.hook("work").await);
    let only = Arc::new(Of {
        hook: Some(hook),
        most: 100,
    });
    let ids = t.insert_many("work", 2).await;
    let done = fan_out_with(t, only.clone()).await;
    assert!(done.started.iter().all(|leased| leased.hook.id == other));
    assert_eq!(done.started.len(), 2, "no other hook waits");
    let until = t.now() + Duration::from_secs(WINDOW);
    assert_eq!(done.batching, [(hook, until)]);
    assert_eq!(done.waiting, []);

    t.advance(3);
    let later = t.insert(&[event("work")]).await;
    fan_out_with(t, only).await;
    t.advance(1);
    assert!(lease(t, hook, 100, 10).await.is_empty(), "not yet");
    t.advance(1);
    // What came meanwhile goes too, though its own time has not come.
    let batch = one(lease(t, hook, 100, 10).await);
    assert_eq!(events_of(&batch), [ids, later].concat());
}

#[conformance]
async fn a_batch_has_one_type_and_a_limited_size_in_the_order_of_insertion(t: &TestStore) {
    let hook = t.hook("*").await;
    let mut events = vec![event("a"); 5];
    events.splice(1..1, vec![event("b"); 2]);
    let ids = insert(t, &events, 2).await;
    let batches = lease(t, hook, 2, 10).await;
    let found: Vec<_> = batches.iter().map(events_of).collect();
    let expected = [
        vec![ids[0], ids[3]],
        vec![ids[1], ids[2]],
        vec![ids[4], ids[5]],
        vec![ids[6]],
    ];
    assert_eq!(sorted(found), sorted(expected.to_vec()));
    for batch in &batches {
        assert!(
            batch
                .events()
                .all(|e| e.event_type == batch.first().event.event_type)
        );
    }
}

#[conformance]
async fn a_batch_counts_as_one(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = insert(t, &vec![event("work"); 7], 3).await;
    assert_eq!(events_of(&one(lease(t, hook, 3, 1).await)), ids[..3]);
    assert_eq!(events_of(&one(lease(t, hook, 3, 1).await)), ids[3..6]);
    assert_eq!(events_of(&one(lease(t, hook, 3, 1).await)), ids[6..]);
    assert!(lease(t, hook, 3, 1).await.is_empty());
}

#[conformance]
async fn events_with_other_headers_go_in_another_batch(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut events = vec![event("work"); 3];
    events[1].headers = Some(r#"{"x-part":"1"}"#.into());
    let ids = insert(t, &events, 100).await;
    let found = lease(t, hook, 100, 10).await;
    let found: Vec<_> = found.iter().map(events_of).collect();
    assert_eq!(
        sorted(found),
        sorted(vec![vec![ids[0], ids[2]], vec![ids[1]]])
    );
}

#[conformance]
async fn large_payloads_make_small_batches(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut large = event("work");
    large.payload = serde_json::value::to_raw_value(&"x".repeat(500 * 1024)).unwrap();
    let ids = insert(t, &vec![large; 3], 100).await;
    let found = lease(t, hook, 100, 10).await;
    let found: Vec<_> = found.iter().map(events_of).collect();
    assert_eq!(found, [ids[..2].to_vec(), ids[2..].to_vec()]);
}

#[conformance]
async fn deliver_after_is_waited_for_by_each(t: &TestStore) {
    let hook = t.hook("work").await;
    let at = t.now() + Duration::from_secs(WINDOW + 2);
    let events = [event("work"), event("work").deliver_after(at)];
    let ids = insert(t, &events, 100).await;
    assert_eq!(events_of(&one(lease(t, hook, 100, 10).await)), ids[..1]);
    t.advance(2);
    assert!(lease(t, hook, 100, 10).await.is_empty());
    t.advance(WINDOW);
    assert_eq!(events_of(&one(lease(t, hook, 100, 10).await)), ids[1..]);
}

#[conformance]
async fn an_ordered_hook_gets_its_events_one_by_one(t: &TestStore) {
    let mut ordered = new_hook("default", &["work"]);
    ordered.settings.ordered = Some(Ordered::Key);
    let hook = t.register(ordered).await.id;
    t.insert_many("work", 2).await;
    fan_out(t, 100).await;
    let leased = lease(t, hook, 100, 10).await;
    assert_eq!(leased.len(), 2);
    assert!(
        leased
            .iter()
            .all(|leased| leased.deliveries.rest.is_empty())
    );
}

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

#[conformance]
async fn a_redelivered_batch_member_leaves_the_others(t: &TestStore) {
    for place in [1, 0] {
        let hook = t.hook("work").await;
        let ids = retried(t, hook, 3).await;
        let id = DeliveryId::of(ids[place], hook);
        t.store.redeliver(id, t.now()).await.unwrap();
        assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), [ids[place]]);
        t.advance(60);
        let mut rest = ids.clone();
        rest.remove(place);
        assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), rest);
        t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    }
}

#[conformance]
async fn a_discarded_batch_member_leaves_the_others(t: &TestStore) {
    for place in [2, 0] {
        let hook = t.hook("work").await;
        let ids = retried(t, hook, 3).await;
        let id = DeliveryId::of(ids[place], hook);
        t.store.discard(id, t.now()).await.unwrap();
        t.advance(60);
        let mut rest = ids.clone();
        rest.remove(place);
        assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), rest);
        t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    }
}

#[conformance]
async fn a_batch_member_whose_event_is_erased_leaves_the_others(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = retried(t, hook, 4).await;
    let erased = t.store.erase(&[ids[0], ids[2]], t.now()).await.unwrap();
    assert_eq!((erased.events, erased.cancelled), (2, 2));
    t.advance(60);
    let batch = one(lease(t, hook, 9, 10).await);
    assert_eq!(events_of(&batch), [ids[1], ids[3]]);
    // While the rest is in flight, nothing of it is erased.
    let erased = t.store.erase(&[ids[3]], t.now()).await.unwrap();
    assert_eq!(erased.in_flight, [ids[3]]);
}

#[conformance]
async fn a_batch_member_whose_event_is_gone_leaves_the_others(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = retried(t, hook, 3).await;
    let gone = format!("DELETE FROM postrider_events WHERE id = {}", t.id(ids[0].0));
    t.sql().await.run(&gone).await;
    t.advance(60);
    let batch = one(lease(t, hook, 9, 10).await);
    assert_eq!(events_of(&batch), ids[1..]);
    t.settle(&[t.refused(&batch, 60)]).await;
    t.advance(60);
    assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), ids[1..]);
}

#[conformance]
async fn a_batch_whose_leader_cannot_be_opened_keeps_its_other_members(t: &TestStore) {
    let hook = t.hook("work").await;
    let (ids, leader) = keeping_target(t, hook).await;
    let mut sql = t.sql().await;
    let of_leader = format!("WHERE id = {}", t.id(leader.0));
    let select = format!("SELECT target FROM postrider_deliveries {of_leader}");
    let target = sql.text(select).await;
    let set_target =
        |target: &str| format!("UPDATE postrider_deliveries SET target = '{target}' {of_leader}");
    sql.run(set_target("damaged")).await;
    for _ in 0..2 {
        let batch = one(lease(t, hook, 9, 10).await);
        assert_eq!(events_of(&batch), ids[1..]);
        t.settle(&[t.refused(&batch, 60)]).await;
        t.advance(3_600);
    }
    sql.run(set_target(&target)).await;
    assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), ids);
}

#[conformance]
async fn a_batch_that_cannot_be_opened_stays_together(t: &TestStore) {
    let hook = t.hook("work").await;
    let (ids, _) = keeping_target(t, hook).await;
    let mut sql = t.sql().await;
    let leader = "SELECT target FROM postrider_deliveries LIMIT 1";
    let target = sql.text(leader.to_owned()).await;
    let all = |target: &str| format!("UPDATE postrider_deliveries SET target = '{target}'");
    sql.run(all("damaged")).await;
    assert!(lease(t, hook, 9, 10).await.is_empty());
    sql.run(all(&target)).await;
    assert!(
        lease(t, hook, 9, 10).await.is_empty(),
        "left alone for an hour"
    );
    t.advance(3_600);
    assert_eq!(events_of(&one(lease(t, hook, 9, 10).await)), ids);
}

#[conformance]
async fn a_batch_member_whose_event_is_past_leaves_the_others(t: &TestStore) {
    let hook = t.hook("work").await;
    let first = t.insert(&[event("work")]).await;
    fan_out(t, 100).await;
    t.store
        .change_hook(hook, HookChange::Pause, "test", t.now())
        .await
        .unwrap();
    t.advance(2 * DAY);
    t.store.upkeep(t.now(), 100).await.unwrap();
    let rest = t.insert_many("work", 2).await;
    fan_out(t, 100).await;
    t.advance(WINDOW);
    t.store
        .change_hook(hook, HookChange::Enable, "test", t.now())
        .await
        .unwrap();
    let batch = one(lease(t, hook, 100, 1).await);
    assert_eq!(events_of(&batch), [first, rest.clone()].concat());
    t.settle(&[t.refused(&batch, 60)]).await;
    let keep = Retention {
        events: Duration::from_secs(DAY),
        attempts: Duration::from_secs(DAY),
    };
    let pruned = t.store.prune(&keep, t.now(), 100).await.unwrap();
    assert_eq!(pruned.expired, 1);
    t.advance(60);
    assert_eq!(events_of(&one(lease(t, hook, 100, 10).await)), rest);
}

#[conformance]
async fn held_batches_are_given_up_whatever_the_pages(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = retried(t, hook, 7).await;
    t.store
        .change_hook(hook, HookChange::Pause, "test", t.now())
        .await
        .unwrap();
    let which = Discard {
        hook,
        made_before: None,
        by: "cli".into(),
    };
    let mut page = BulkPage::first(2);
    let mut discarded = 0;
    loop {
        let done = t.store.discard_held(&which, page, t.now()).await.unwrap();
        discarded += done.count;
        page.after = done.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(discarded, 7);
    for id in ids {
        let report = t.delivery(DeliveryId::of(id, hook)).await;
        assert_eq!(report.state, DeliveryState::Cancelled);
    }
}

#[conformance]
async fn held_batches_are_sent_again_whatever_the_pages(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = retried(t, hook, 7).await;
    let change = |change| t.store.change_hook(hook, change, "test", t.now());
    change(HookChange::Pause).await.unwrap();
    t.advance(1);
    let which = Redelivery {
        state: DeliveryState::Held,
        ..redelivery(hook)
    };
    let mut page = BulkPage::first(2);
    let mut counted = 0;
    loop {
        let done = t.store.redeliver_many(&which, page, t.now()).await.unwrap();
        counted += done.count;
        page.after = done.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(counted, 7);
    change(HookChange::Enable).await.unwrap();
    let leased = lease(t, hook, 9, 10).await;
    assert_eq!(
        leased.len(),
        7,
        "each by itself: their schedules began anew"
    );
    let leased: BTreeSet<_> = ids_of(&leased).into_iter().collect();
    assert_eq!(leased, ids.into_iter().collect());
}

#[conformance]
async fn batches_of_a_deleted_hook_are_cancelled(t: &TestStore) {
    let hook = t.hook("work").await;
    retried(t, hook, 5).await;
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    let mut cancelled = 0;
    while cancelled < 5 {
        let upkeep = t.store.upkeep(t.now(), 2).await.unwrap();
        assert!(upkeep.cancelled > 0);
        cancelled += upkeep.cancelled;
    }
    assert!(t.store.slots().await.unwrap().is_empty());
}

#[conformance]
async fn several_that_lease_at_once_cut_nothing_twice(t: &TestStore) {
    let hook = t.hook("work").await;
    insert(t, &vec![event("work"); 400], 10).await;
    let second = t.another().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let mut callers = Vec::new();
    for number in 0..6 {
        let store = if number % 2 == 0 { &t.store } else { &second };
        let (store, request) = (store.clone(), lease_request(t, hook, 10, 3));
        let taken = taken.clone();
        callers.push(tokio::spawn(async move {
            let mut mine: Vec<HookRequest> = Vec::new();
            // Who finds another one cutting gets nothing, and asks again.
            while taken.load(Ordering::Relaxed) < 400 {
                let request = LeaseRequest {
                    token: LeaseToken::draw(request.now),
                    ..request.clone()
                };
                let leased = store.lease(request).await.unwrap();
                let count = leased.iter().flat_map(HookRequest::ids).count();
                taken.fetch_add(count, Ordering::Relaxed);
                mine.extend(leased);
            }
            mine
        }));
    }
    let mut batches = Vec::new();
    for caller in callers {
        batches.extend(caller.await.unwrap());
    }
    let all: Vec<_> = batches.iter().flat_map(HookRequest::ids).collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (400, 400));
    for batch in &batches {
        let ids: Vec<_> = events_of(batch);
        assert!(ids.len() <= 10 && ids.is_sorted(), "{ids:?}");
    }

    assert_eq!(batches.len(), 40, "as full as can be");
}

// ---- what the cases share

/// The hook, or every hook, gets so many events in one request.
#[derive(Debug)]
struct Of {
    hook: Option<HookId>,
    most: u32,
}

impl Batches for Of {
    fn of(&self, hook: &Hook) -> Option<Batching> {
        self.hook
            .is_none_or(|only| only == hook.id)
            .then_some(Batching {
                most: self.most,
                window: Duration::from_secs(WINDOW),
            })
    }
}

fn batches(most: u32) -> Arc<Of> {
    Arc::new(Of { hook: None, most })
}

async fn fan_out_with(t: &TestStore, batches: Arc<Of>) -> FanOutResult {
    let request = FanOutRequest {
        batches: Some(batches),
        ..t.request()
    };
    t.store.fan_out(request).await.unwrap()
}

async fn fan_out(t: &TestStore, most: u32) {
    let done = fan_out_with(t, batches(most)).await;
    assert!(done.started.is_empty());
}

/// Fans these events out and waits until they are due.
async fn insert(t: &TestStore, events: &[NewEvent], most: u32) -> Vec<EventId> {
    let ids = t.insert(events).await;
    fan_out(t, most).await;
    t.advance(WINDOW);
    ids
}

fn lease_request(t: &TestStore, hook: HookId, most: u32, places: u32) -> LeaseRequest {
    LeaseRequest {
        wanted: vec![(hook, places)],
        batches: Some(batches(most)),
        ..t.lease_request(&[])
    }
}

async fn lease(t: &TestStore, hook: HookId, most: u32, places: u32) -> Vec<HookRequest> {
    t.own(t.worker, &[hook]).await;
    let request = lease_request(t, hook, most, places);
    t.store.lease(request).await.unwrap()
}

fn one(leased: Vec<HookRequest>) -> HookRequest {
    let [leased] = <[HookRequest; 1]>::try_from(leased).expect("one request");
    leased
}

fn events_of(leased: &HookRequest) -> Vec<EventId> {
    leased.events().map(|event| event.id).collect()
}

fn sorted(mut all: Vec<Vec<EventId>>) -> Vec<Vec<EventId>> {
    all.sort_unstable();
    all
}

/// A hook with three deliveries that go together.
async fn three(t: &TestStore) -> (HookId, Vec<EventId>) {
    let hook = t.hook("work").await;
    let ids = insert(t, &vec![event("work"); 3], 3).await;
    (hook, ids)
}

/// So many deliveries that were refused together and are tried again in a minute.
async fn retried(t: &TestStore, hook: HookId, count: usize) -> Vec<EventId> {
    let ids = insert(t, &vec![event("work"); count], 9).await;
    let batch = one(lease(t, hook, 9, 1).await);
    assert_eq!(events_of(&batch), ids);
    t.settle(&[t.refused(&batch, 60)]).await;
    ids
}

/// Three deliveries that were refused together, keep their target, and are due again; with their
/// leader.
async fn keeping_target(t: &TestStore, hook: HookId) -> (Vec<EventId>, DeliveryId) {
    let ids = insert(t, &vec![event("work"); 3], 9).await;
    let batch = one(lease(t, hook, 9, 1).await);
    let settlement = Settlement {
        keeps_target: true,
        ..t.refused(&batch, 60)
    };
    t.settle(&[settlement]).await;
    t.advance(60);
    let leader = DeliveryId::of(ids[0], hook);
    (ids, leader)
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

fn redelivery(hook: HookId) -> Redelivery {
    Redelivery {
        hook,
        state: DeliveryState::Failed,
        since: None,
        until: None,
        event_type: None,
    }
}
