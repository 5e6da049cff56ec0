//! Ordered hooks in people's hands: what becomes of the order when deliveries are discarded or
//! sent again, and when the hook itself is changed.

use crate::ordered::{deliver, fail, insert, keyed, of, ordered, upkeep};
use crate::support::{drained, ids_of};
use postrider_core::{DeliveryId, HookId, OnFailure, Ordered, SettingsChange};
use postrider_store::{
    BulkPage, DeliveryFilter, DeliveryState, Discard, Error, HookChange, Redelivery,
};
use postrider_tests::{TestStore, conformance};
use std::collections::BTreeSet;

#[conformance]
async fn one_that_has_failed_for_good_holds_its_key_until_it_is_taken(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a", "b", "b"]).await;
    let head = DeliveryId::of(events[0], hook);
    let first = t.lease(&[hook]).await;
    fail(t, &first[0]).await;
    deliver(t, &first[1..]).await;
    let next = t.lease(&[hook]).await;
    assert_eq!(ids_of(&next), [events[3]]);
    deliver(t, &next).await;
    t.advance(7 * 24 * 3600);
    upkeep(t).await;
    assert_eq!(t.lease(&[hook]).await.len(), 0);
    let shown = t.delivery(head).await;
    assert_eq!(shown.state, DeliveryState::Failed);
    assert_eq!(
        (shown.reason.as_deref(), shown.attempts),
        (Some("exhausted"), 1)
    );
    assert_eq!(states(t, hook, DeliveryState::Failed).await, [head]);
    let behind = DeliveryId::of(events[1], hook);
    assert_eq!(states(t, hook, DeliveryState::Pending).await, [behind]);
    // What comes later of the key waits too.
    insert(t, &["a"]).await;
    assert_eq!(t.lease(&[hook]).await.len(), 0);

    // Sent again it still stands before them.
    let shown = t.store.redeliver(head, t.now()).await.unwrap();
    assert_eq!(
        (shown.state, shown.next_attempt_at),
        (DeliveryState::Pending, Some(t.now()))
    );
    assert_eq!(states(t, hook, DeliveryState::Failed).await, []);
    let again = t.lease(&[hook]).await;
    assert_eq!(ids_of(&again), [events[0]]);
    assert_eq!(again[0].attempts, 1);
    fail(t, &again[0]).await;
    assert_eq!(t.lease(&[hook]).await.len(), 0, "it has failed again");
    t.store.redeliver(head, t.now()).await.unwrap();
    let again = t.lease(&[hook]).await;
    deliver(t, &again).await;
    assert_eq!(t.delivery(head).await.state, DeliveryState::Delivered);
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[1]]);
}

#[conformance]
async fn one_that_holds_its_key_can_be_discarded(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a"]).await;
    let head = t.lease(&[hook]).await;
    fail(t, &head[0]).await;
    let shown = t.store.discard(head[0].id, t.now()).await.unwrap();
    assert_eq!(
        (shown.state, shown.reason.as_deref(), shown.attempts),
        (DeliveryState::Cancelled, Some("discarded"), 1)
    );
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[1]]);
}

#[conformance]
async fn what_is_behind_what_was_discarded_has_its_turn(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "b", "a", "a"]).await;
    let first = t.lease(&[hook]).await;
    assert_eq!(first.len(), 2, "the others are put behind");
    t.settle(&[t.refused(&first[0], 60), t.refused(&first[1], 60)])
        .await;
    change(t, hook, HookChange::Pause).await;
    let which = Discard {
        hook,
        made_before: Some(DeliveryId::of(events[2], hook).event_made_at()),
        by: "test".into(),
    };
    let done = t
        .store
        .discard_held(&which, BulkPage::first(10), t.now())
        .await;
    assert_eq!(done.unwrap().count, 2);
    change(t, hook, HookChange::Enable).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[2]]);
}

#[conformance]
async fn one_that_waits_can_be_discarded(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a", "a", "a"]).await;
    let ids: Vec<_> = events.iter().map(|e| DeliveryId::of(*e, hook)).collect();
    let first = t.lease(&[hook]).await;
    t.store.discard(ids[1], t.now()).await.unwrap();
    assert_eq!(t.lease(&[hook]).await.len(), 0, "the first is on its way");
    t.settle(&[t.refused(&first[0], 60)]).await;
    t.store.discard(ids[0], t.now()).await.unwrap();
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[2]]);
    assert_eq!(
        states(t, hook, DeliveryState::Cancelled).await,
        [ids[1], ids[0]]
    );

    // One that is sent again after all is outside of the order.
    t.store.redeliver(ids[1], t.now()).await.unwrap();
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[1]]);
}

#[conformance]
async fn what_is_in_flight_or_has_ended_cannot_be_discarded(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    insert(t, &["a"]).await;
    let leased = t.lease(&[hook]).await;
    insert(t, &["a"]).await;
    let discard = |id| t.store.discard(id, t.now());
    let in_flight = discard(leased[0].id).await.unwrap_err();
    assert!(matches!(in_flight, Error::Conflict(_)), "{in_flight}");
    deliver(t, &leased).await;
    let ended = discard(leased[0].id).await.unwrap_err();
    assert!(ended.to_string().contains("has ended"), "{ended}");
    t.hook("other").await;
    t.insert_many("other", 1).await;
    let started = drained(t).await.started;
    let in_flight = discard(started[0].id).await.unwrap_err();
    assert!(in_flight.to_string().contains("in flight"), "{in_flight}");
    let unknown = DeliveryId::of(t.next_id(), hook);
    let unknown = discard(unknown).await.unwrap_err();
    assert!(matches!(unknown, Error::NotFound { .. }), "{unknown}");
}

#[conformance]
async fn what_holds_its_key_keeps_its_place_when_many_are_sent_again(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a", "b"]).await;
    let first = t.lease(&[hook]).await;
    assert_eq!(ids_of(&first), [events[0], events[2]]);
    fail(t, &first[0]).await;
    deliver(t, &first[1..]).await;
    // It is failed, and nothing that is held: it is not discarded with what is.
    change(t, hook, HookChange::Pause).await;
    let which = Discard {
        hook,
        made_before: Some(DeliveryId::of(events[1], hook).event_made_at()),
        by: "test".into(),
    };
    let done = t
        .store
        .discard_held(&which, BulkPage::first(10), t.now())
        .await;
    assert_eq!(done.unwrap().count, 0);
    change(t, hook, HookChange::Enable).await;
    assert_eq!(t.lease(&[hook]).await.len(), 0);
    for (state, count) in [(DeliveryState::Failed, 1), (DeliveryState::Delivered, 1)] {
        let which = Redelivery {
            hook,
            state,
            since: None,
            until: None,
            event_type: None,
        };
        let done = t.store.redeliver_many(&which, BulkPage::first(10), t.now());
        assert_eq!(done.await.unwrap().count, count);
    }
    // The first of the key before the second; the repeat of the other waits for none.
    let again = t.lease(&[hook]).await;
    assert_eq!(of(&again), BTreeSet::from([events[0], events[2]]));
    deliver(t, &again).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[1]]);
}

#[conformance]
async fn a_repeat_waits_for_none_and_holds_up_none(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a", "a"]).await;
    let first = t.lease(&[hook]).await;
    deliver(t, &first).await;
    let second = t.lease(&[hook]).await;
    t.store.redeliver(first[0].id, t.now()).await.unwrap();
    let repeat = t.lease(&[hook]).await;
    assert_eq!(ids_of(&repeat), [events[0]], "the second is on its way");
    fail(t, &repeat[0]).await;
    assert_eq!(left(t).await, 2, "it is over");
    deliver(t, &second).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[2]]);
    assert_eq!(t.delivery(first[0].id).await.state, DeliveryState::Failed);
}

#[conformance]
async fn a_hook_may_become_ordered_while_deliveries_wait(t: &TestStore) {
    let hook = t.hook("work").await;
    let events = t.insert(&keyed(&["a", "a", "b", "a"])).await;
    t.fan_out_without_room().await;
    set(t, hook, Some(Some(Ordered::Key)), None).await;
    let first = t.lease(&[hook]).await;
    assert_eq!(of(&first), BTreeSet::from([events[0], events[2]]));
    deliver(t, &first).await;
    let second = t.lease(&[hook]).await;
    assert_eq!(ids_of(&second), [events[1]]);
    deliver(t, &second).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[3]]);
}

#[conformance]
async fn a_hook_may_become_ordered_while_deliveries_are_in_flight(t: &TestStore) {
    let hook = t.hook("work").await;
    t.insert(&keyed(&["a", "a"])).await;
    t.fan_out_without_room().await;
    let before = t.lease(&[hook]).await;
    assert_eq!(before.len(), 2);
    set(t, hook, Some(Some(Ordered::Key)), None).await;
    let events = insert(t, &["a", "a"]).await;
    assert_eq!(t.lease(&[hook]).await.len(), 0);
    deliver(t, &before[1..]).await;
    assert_eq!(t.lease(&[hook]).await.len(), 0);
    deliver(t, &before[..1]).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[0]]);
}

#[conformance]
async fn a_hook_may_stop_being_ordered(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a", "b", "b", "b"]).await;
    let first = t.lease(&[hook]).await;
    fail(t, &first[0]).await;
    set(t, hook, Some(None), None).await;
    upkeep(t).await;
    let rest = BTreeSet::from([events[1], events[3], events[4]]);
    assert_eq!(of(&t.lease(&[hook]).await), rest);
    assert_eq!(t.delivery(first[0].id).await.state, DeliveryState::Failed);
    t.store.redeliver(first[0].id, t.now()).await.unwrap();
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[0]]);
}

#[conformance]
async fn a_hook_that_begins_to_skip_lets_held_keys_go(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a"]).await;
    let first = t.lease(&[hook]).await;
    fail(t, &first[0]).await;
    set(t, hook, None, Some(Some(OnFailure::Skip))).await;
    upkeep(t).await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [events[1]]);
    assert_eq!(t.delivery(first[0].id).await.state, DeliveryState::Failed);
}

#[conformance]
async fn a_removed_hooks_keys_are_cancelled(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    let events = insert(t, &["a", "a", "b", "b"]).await;
    let first = t.lease(&[hook]).await;
    fail(t, &first[0]).await;
    deliver(t, &first[1..]).await;
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    upkeep(t).await;
    assert_eq!(left(t).await, 0);
    let behind = t.delivery(DeliveryId::of(events[1], hook)).await;
    assert_eq!(behind.state, DeliveryState::Cancelled);
}

#[conformance(postgres)]
async fn slots_do_not_grow_while_ordered_deliveries_wait(t: &TestStore) {
    let hook = ordered(t, OnFailure::Hold).await;
    insert(t, &["a"]).await;
    let more = Some(64);
    let refused = t.store.migrate(more, t.now()).await.unwrap_err();
    assert!(refused.to_string().contains("ordered"), "{refused}");
    deliver(t, &t.lease(&[hook]).await).await;
    assert_eq!(t.store.migrate(more, t.now()).await.unwrap().slots, 64);
}

async fn change(t: &TestStore, hook: HookId, change: HookChange) {
    let changed = t.store.change_hook(hook, change, "test", t.now()).await;
    changed.unwrap();
}

async fn set(
    t: &TestStore,
    hook: HookId,
    ordered: Option<Option<Ordered>>,
    on_failure: Option<Option<OnFailure>>,
) {
    let change = HookChange::Set(SettingsChange {
        ordered,
        on_failure,
        ..SettingsChange::default()
    });
    let changed = t.store.change_hook(hook, change, "test", t.now()).await;
    changed.expect("change the hook");
    t.store.peek().await.expect("learn of the change");
}

/// The deliveries to the hook in this state, newest first.
async fn states(t: &TestStore, hook: HookId, state: DeliveryState) -> Vec<DeliveryId> {
    let filter = DeliveryFilter {
        hook: Some(hook),
        state: Some(state),
        limit: 100,
        ..DeliveryFilter::default()
    };
    let found = t.store.deliveries(filter).await.unwrap();
    found.into_iter().map(|delivery| delivery.id).collect()
}

async fn left(t: &TestStore) -> i64 {
    let mut sql = t.sql().await;
    sql.number("SELECT count(*) FROM postrider_deliveries")
        .await
}
