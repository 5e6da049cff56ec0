//! Ordered hooks: the deliveries of a key are sent one at a time, in the order of insertion.

use crate::support::{drained, ids_of};
use chrono::TimeDelta;
use postrider_core::{
    DeliveryId, EventId, HookId, HookSettings, NewEvent, OnFailure, Ordered, Reason, RetrySchedule,
    WorkerId,
};
use postrider_store::{
    Backend, DeliveryFilter, DeliveryState, EventState, HookRequest, Settlement, Step,
};
use postrider_tests::{TestStore, conformance, event, eventually, new_hook, refusal};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[conformance]
async fn of_each_key_one_goes_at_a_time_in_the_order_of_insertion(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "b", "a", "b", "a"]).await;
    let first = t.lease(&[hook]).await;
    assert_eq!(ids_of(&first), [events[0], events[1]]);
    assert_eq!(t.lease(&[hook]).await.len(), 0);
    deliver(t, &first[..1]).await;
    let second = t.lease(&[hook]).await;
    assert_eq!(ids_of(&second), [events[2]]);
    deliver(t, &[first[1].clone(), second[0].clone()]).await;
    let third = t.lease(&[hook]).await;
    assert_eq!(of(&third), BTreeSet::from([events[3], events[4]]));

    // And over batches.
    let later = insert(t, &["b", "c"]).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [later[1]]);
    deliver(t, &third).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [later[0]]);
}

#[conformance]
async fn deliveries_without_a_key_wait_for_none(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "", "a", "", ""]).await;
    let leased = t.lease(&[hook]).await;
    let expected = [events[0], events[1], events[3], events[4]];
    assert_eq!(of(&leased), BTreeSet::from(expected));
}

#[conformance]
async fn a_retried_key_blocks_no_other(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "b", "a", "b"]).await;
    let first = t.lease(&[hook]).await;
    t.settle(&[t.refused(&first[0], 60), t.accepted(&first[1])])
        .await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[3]]);
    t.advance(60);
    let again = t.lease(&[hook]).await;
    assert_eq!(ids_of(&again), [events[0]]);
    deliver(t, &again).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[2]]);
}

#[conformance]
async fn a_blocked_delivery_is_shown_as_blocked(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a"]).await;
    let first = t.lease(&[hook]).await;
    let shown = t.delivery(DeliveryId::of(events[1], hook)).await;
    assert_eq!(shown.state, DeliveryState::Pending);
    assert_eq!(
        (shown.reason.as_deref(), shown.next_attempt_at),
        (Some("behind"), None)
    );
    let pending = DeliveryFilter {
        state: Some(DeliveryState::Pending),
        limit: 10,
        ..DeliveryFilter::default()
    };
    let listed = t.store.deliveries(pending).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].reason.as_deref(), Some("behind"));
    deliver(t, &first).await;
    let shown = t.delivery(DeliveryId::of(events[1], hook)).await;
    assert_eq!(
        (shown.reason.as_deref(), shown.next_attempt_at),
        (None, Some(t.now()))
    );
}

#[conformance]
async fn a_hook_that_skips_goes_on(t: &TestStore) {
    let hook = ordered(t, OnFailure::Skip).await;
    let events = insert(t, &["a", "a"]).await;
    let first = t.lease(&[hook]).await;
    fail(t, &first[0]).await;
    assert_eq!(
        t.delivery(first[0].first().id).await.state,
        DeliveryState::Failed
    );
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[1]]);
}

#[conformance]
async fn a_lost_lease_keeps_its_place(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a"]).await;
    t.lease(&[hook]).await;
    t.outlive_leases();
    assert_eq!(t.lease(&[hook]).await.len(), 0, "nobody has it yet");
    recover(t).await;
    let again = t.lease(&[hook]).await;
    assert_eq!(ids_of(&again), [events[0]]);
    deliver(t, &again).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[1]]);
}

#[conformance]
async fn what_is_given_back_keeps_its_place(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a"]).await;
    let first = t.lease(&[hook]).await;
    let (token, ids) = (first[0].lease.token, [first[0].first().id]);
    let released = t.store.release(t.slot, token, &ids, t.now()).await;
    assert_eq!(released.unwrap(), 1);
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[0]]);
}

#[conformance]
async fn a_late_settlement_unblocks_nothing(t: &TestStore) {
    let hook = ordered(t, OnFailure::Skip).await;
    let events = insert(t, &["a", "a"]).await;
    let lost = t.lease(&[hook]).await;
    t.outlive_leases();
    recover(t).await;
    let again = t.lease(&[hook]).await;
    let settled = t.settle(&[t.accepted(&lost[0])]).await;
    assert_eq!(settled.late, [lost[0].first().id]);
    let failed = t.settlement(&lost[0], refusal(500), Step::Failed(Reason::Exhausted));
    assert_eq!(t.settle(&[failed]).await.late.len(), 1);
    assert_eq!(t.lease(&[hook]).await.len(), 0);
    deliver(t, &again).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[1]]);
}

#[conformance]
async fn a_delivery_that_lost_its_workers_holds_its_key_too(t: &TestStore) {
    let (hook, events) = lost_its_workers(t, OnFailure::Hold).await;
    assert_eq!(t.lease(&[hook]).await.len(), 0);
    let head = DeliveryId::of(events[0], hook);
    assert_eq!(t.delivery(head).await.state, DeliveryState::Failed);
    t.store.redeliver(head, t.now()).await.unwrap();
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[0]]);
}

#[conformance]
async fn a_delivery_that_lost_its_workers_is_skipped_too(t: &TestStore) {
    let (hook, events) = lost_its_workers(t, OnFailure::Skip).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[1]]);
}

#[conformance]
async fn an_earlier_one_that_comes_late_goes_first_but_never_beside_another(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let mut sql = t.sql().await;
    // Numbers that a transaction has drawn and not committed yet.
    let (early, earlier) = (t.next_id(), t.next_id());
    let late = |seq: i64, id: EventId| {
        let overriding = match t.backend() {
            Backend::Postgres => "OVERRIDING SYSTEM VALUE",
            Backend::Sqlite => "",
        };
        format!(
            "INSERT INTO postrider_outbox (seq, slot, id, event_type, payload, ordering_key) \
             {overriding} VALUES ({seq}, {}, '{id}', 'work', '{{}}', 'a')",
            t.slot
        )
    };
    let events = insert(t, &["a", "a"]).await;
    let on_its_way = t.lease(&[hook]).await;
    sql.run(late(-1, early)).await;
    fanned_out(t, early).await;
    assert_eq!(t.lease(&[hook]).await.len(), 0);
    t.settle(&[t.refused(&on_its_way[0], 0)]).await;
    let first = t.lease(&[hook]).await;
    assert_eq!(ids_of(&first), [early]);
    sql.run(late(-2, earlier)).await;
    fanned_out(t, earlier).await;
    assert_eq!(t.lease(&[hook]).await.len(), 0);
    let mut next = first;
    for expected in [earlier, events[0], events[1]] {
        deliver(t, &next).await;
        next = t.lease(&[hook]).await;
        assert_eq!(ids_of(&next), [expected]);
    }
}

#[conformance]
async fn deliver_after_is_kept_by_blocked_deliveries(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let keyed = || event("work").ordering_key("a");
    let later = NewEvent {
        deliver_after: Some(t.now() + TimeDelta::seconds(60)),
        ..keyed()
    };
    let events = t.insert(&[keyed(), later, keyed()]).await;
    drained(t).await;
    deliver(t, &t.lease(&[hook]).await).await;
    assert_eq!(t.lease(&[hook]).await.len(), 0);
    t.advance(60);
    let second = t.lease(&[hook]).await;
    assert_eq!(ids_of(&second), [events[1]]);
    deliver(t, &second).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[2]]);
}

#[conformance]
async fn a_delivery_without_a_predecessor_has_its_turn_with_upkeep_at_the_latest(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a", "a", "b", "b"]).await;
    let vanish = |event| {
        let id = t.id(DeliveryId::of(event, hook).0);
        format!("DELETE FROM postrider_deliveries WHERE id = {id}")
    };
    let mut sql = t.sql().await;
    sql.run(vanish(events[0])).await;
    sql.run(vanish(events[3])).await;
    assert_eq!(t.lease(&[hook]).await.len(), 0);
    // Another of the key shows it, too.
    insert(t, &["b"]).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[4]]);
    upkeep(t).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[1]]);
}

#[conformance]
async fn any_number_of_keys_is_looked_over_some_at_a_time(t: &TestStore) {
    const KEYS: usize = 1_500;
    ordered(t, OnFailure::Hold).await;
    let keys: Vec<_> = (0..KEYS).map(|key| key.to_string()).collect();
    let twice: Vec<_> = keys.iter().flat_map(|key| [key.as_str(); 2]).collect();
    insert(t, &twice).await;
    let first = "DELETE FROM postrider_deliveries WHERE turn_at IS NULL";
    t.sql().await.run(first).await;
    let mut freed = Vec::new();
    for _ in 0..3 {
        t.store.upkeep(t.now(), 1_000).await.unwrap();
        let free = "SELECT count(*) FROM postrider_deliveries WHERE turn_at IS NULL";
        freed.push(t.sql().await.number(free).await);
    }
    assert_eq!(freed, [1_000, 1_500, 1_500]);
}

#[conformance]
async fn many_blocked_deliveries_of_one_key_take_no_capacity_of_others(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    // One of the stuck key in each batch: nobody has put it behind yet.
    for _ in 0..40 {
        insert(t, &["stuck"]).await;
    }
    let other = insert(t, &["other"]).await;
    let mut request = t.lease_request(&[hook]);
    t.own(t.worker, &[hook]).await;
    request.wanted = vec![(hook, 1)];
    let first = t.store.lease(request.clone()).await.unwrap();
    t.settle(&[t.refused(&first[0], 3_600)]).await;
    let mut next = Vec::new();
    for _ in 0..4 {
        let mut request = t.lease_request(&[hook]);
        request.wanted = vec![(hook, 1)];
        next.extend(t.store.lease(request).await.unwrap());
    }
    assert_eq!(ids_of(&next), other);
}

#[conformance]
async fn turns_are_given_however_fan_out_and_settling_race(t: &TestStore) {
    const KEYS: usize = 4;
    const ROUNDS: usize = 30;
    let hook = ordered(t, OnFailure::Hold).await;
    t.own(t.worker, &[hook]).await;
    let keys: Vec<_> = (0..KEYS).map(|key| key.to_string()).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let feeding = async {
        for _ in 0..ROUNDS {
            insert(t, &keys).await;
        }
    };
    let draining = async {
        let mut seen: BTreeMap<String, Vec<EventId>> = BTreeMap::new();
        let mut count = 0;
        while count < KEYS * ROUNDS {
            let leased = t.store.lease(t.lease_request(&[hook])).await.unwrap();
            let settlements: Vec<_> = leased.iter().map(|leased| t.accepted(leased)).collect();
            // Two at a time, beside the fan-outs.
            let (one, other) = settlements.split_at(settlements.len() / 2);
            tokio::join!(t.settle(one), t.settle(other));
            for leased in leased {
                count += 1;
                let key = leased.first().event.ordering_key.clone().unwrap();
                seen.entry(key).or_default().push(leased.first().event.id);
            }
        }
        seen
    };
    let both = async { tokio::join!(feeding, draining).1 };
    let seen = tokio::time::timeout(Duration::from_secs(60), both).await;
    for events in seen.expect("nothing is left behind").into_values() {
        assert!(events.is_sorted(), "ids grow with the order of insertion");
        assert_eq!(events.len(), ROUNDS);
    }
}

// ---- several workers

#[conformance(postgres)]
async fn one_at_a_time_fans_out_a_slot_for_ordered_hooks(t: &TestStore) {
    let mut other = t.sql().await;
    let held = format!(
        "BEGIN; SELECT pg_try_advisory_xact_lock('postrider_outbox'::regclass::oid::integer, {})",
        t.slot
    );
    other.run(held).await;
    t.insert_many("work", 1).await;
    assert_eq!(t.fan_out().await.events, 1, "without an order anybody may");
    ordered(t, OnFailure::Hold).await;
    t.insert_many("work", 1).await;
    assert_eq!(t.fan_out().await.events, 0);
    other.run("COMMIT").await;
    assert_eq!(t.fan_out().await.events, 1);
}

#[conformance(postgres)]
async fn the_next_owner_waits_for_what_is_in_flight(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a", "b", "b"]).await;
    let in_flight = t.lease(&[hook]).await;
    assert_eq!(in_flight.len(), 2);
    // The owner is gone, its requests are not.
    t.advance(11);
    let next = WorkerId::draw(t.now());
    assert!(t.own(next, &[hook]).await[0].owned);
    let lease = || {
        let mut request = t.lease_request(&[hook]);
        request.worker = next;
        t.store.lease(request)
    };
    assert_eq!(lease().await.unwrap().len(), 0);
    deliver(t, &in_flight[..1]).await;
    assert_eq!(ids_of(&lease().await.unwrap()), [events[1]]);
    assert_eq!(t.lease(&[hook]).await.len(), 0, "it owns the hook no more");
}

// ---- what the cases of this file and of `order_changed` do

pub async fn ordered(t: &TestStore, on_failure: OnFailure) -> HookId {
    let mut hook = new_hook("default", &["work"]);
    hook.settings = HookSettings {
        ordered: Some(Ordered::Key),
        on_failure: Some(on_failure),
        ..HookSettings::default()
    };
    t.register(hook).await.id
}

/// Events of these keys, without one where it is empty.
pub fn keyed(keys: &[&str]) -> Vec<NewEvent> {
    let event = |key: &&str| match *key {
        "" => event("work"),
        key => event("work").ordering_key(key),
    };
    keys.iter().map(event).collect()
}

/// Inserts events of these keys, and fans them out.
pub async fn insert(t: &TestStore, keys: &[&str]) -> Vec<EventId> {
    let events = t.insert(&keyed(keys)).await;
    drained(t).await;
    events
}

/// Fans out until this event has left the outbox. While looks at the outbox are slow, a row with a
/// number from long ago is not seen by each of them: a search finds it a moment later.
async fn fanned_out(t: &TestStore, event: EventId) {
    eventually(async || {
        drained(t).await;
        match t.store.event(event).await.unwrap().state {
            EventState::Queued => Err(format!("{event} is queued")),
            _ => Ok(()),
        }
    })
    .await;
}

pub fn of(leased: &[HookRequest]) -> BTreeSet<EventId> {
    ids_of(leased).into_iter().collect()
}

pub async fn deliver(t: &TestStore, leased: &[HookRequest]) {
    let settlements: Vec<_> = leased.iter().map(|leased| t.accepted(leased)).collect();
    let settled = t.settle(&settlements).await;
    assert_eq!(settled.settled as usize, leased.len());
}

/// The receiver refused it for the last time.
pub async fn fail(t: &TestStore, leased: &HookRequest) {
    let failed: Settlement = t.settlement(leased, refusal(500), Step::Failed(Reason::Exhausted));
    assert_eq!(t.settle(&[failed]).await.settled, 1);
}

async fn recover(t: &TestStore) {
    let schedule = RetrySchedule::default();
    let recovered = t.store.recover(t.slot, t.now(), 1_000, &schedule).await;
    assert_eq!(recovered.unwrap().recovered, 1);
}

pub async fn upkeep(t: &TestStore) {
    while t.store.upkeep(t.now(), 1_000).await.unwrap().more {}
}

/// Two events of a key, of which the first has lost its worker three times and has no attempt
/// left.
async fn lost_its_workers(t: &TestStore, on_failure: OnFailure) -> (HookId, Vec<EventId>) {
    let hook = ordered(t, on_failure).await;
    let events = insert(t, &["a", "a"]).await;
    let none = RetrySchedule::new(Vec::new());
    for lost in 1..=3 {
        assert_eq!(ids_of(&t.lease(&[hook]).await), [events[0]]);
        t.outlive_leases();
        let recovered = t.store.recover(t.slot, t.now(), 10, &none).await.unwrap();
        assert_eq!(recovered.worker_lost, u32::from(lost == 3));
    }
    (hook, events)
}
