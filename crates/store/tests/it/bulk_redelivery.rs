//! Sending many deliveries of a hook again.

use crate::support::drained;
use postrider_core::{DeliveryId, HookId, Reason};
use postrider_store::{
    BulkPage, DeliveryState, Discard, Error, HookChange, Leased, Redelivery, Settlement, Step,
};
use postrider_tests::{TestStore, conformance, event, refusal};
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

#[conformance]
async fn failed_ones_are_due_again_page_by_page(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 7).await;
    settle_failed(t, &started).await;
    t.advance(60);
    assert_eq!(
        counts(t, &meant(hook, DeliveryState::Failed), 3).await,
        [3, 3, 1]
    );
    let again = t.lease(&[hook]).await;
    assert_eq!(ids(&again), ids(&started));
    assert!(
        again
            .iter()
            .all(|l| (l.attempts, l.earlier_attempts) == (1, 1))
    );
    let accepted: Vec<_> = again.iter().map(|leased| t.accepted(leased)).collect();
    t.settle(&accepted).await;
    let report = t.delivery(started[0].id).await;
    assert_eq!(
        (report.state, report.attempts),
        (DeliveryState::Delivered, 2)
    );
    assert_eq!(counts(t, &meant(hook, DeliveryState::Failed), 3).await, [0]);
}

#[conformance]
async fn delivered_ones_are_sent_again_under_the_same_id(t: &TestStore) {
    let (hook, other) = (t.hook("work").await, t.hook("work").await);
    t.insert_many("work", 5).await;
    let started = t.fan_out().await.started;
    let accepted: Vec<_> = started.iter().map(|leased| t.accepted(leased)).collect();
    t.settle(&accepted).await;
    assert_eq!(
        counts(t, &meant(hook, DeliveryState::Delivered), 2).await,
        [2, 2, 1]
    );
    // Those that wait again by now are left alone.
    assert_eq!(
        counts(t, &meant(hook, DeliveryState::Delivered), 10).await,
        [0]
    );
    let again = t.lease(&[hook, other]).await;
    assert!(again.iter().all(|leased| leased.hook.id == hook));
    assert_eq!(again.len(), 5);
}

#[conformance]
async fn only_the_state_that_is_meant_is_sent_again(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 5).await;
    t.settle(&[
        t.accepted(&started[0]),
        t.settlement(&started[1], refusal(500), Step::Failed(Reason::Exhausted)),
        t.refused(&started[2], 3_600),
        t.refused(&started[3], 3_600),
    ])
    .await;
    change(t, hook, HookChange::Pause).await;
    let bound = started[3].id.event_made_at();
    let discard = Discard {
        hook,
        made_before: Some(bound),
        by: "test".into(),
    };
    let done = t
        .store
        .discard_held(&discard, BulkPage::first(10), t.now())
        .await;
    assert_eq!(done.unwrap().count, 1);

    t.advance(10);
    for (state, expected) in [
        (DeliveryState::Expired, None),
        (DeliveryState::Failed, Some(1)),
        (DeliveryState::Cancelled, Some(2)),
        (DeliveryState::Delivered, Some(0)),
        (DeliveryState::Held, Some(3)),
    ] {
        let sent = total(t, &meant(hook, state)).await;
        // What was sent again is held by now, and due already.
        assert_eq!(sent, u32::from(expected.is_some()), "{state:?}");
        if let Some(number) = expected {
            let report = t.delivery(started[number].id).await;
            assert_eq!(report.state, DeliveryState::Held, "{state:?}");
            assert_eq!(report.next_attempt_at, Some(t.now()), "{state:?}");
        }
    }
    let settled = t.settle(&[t.accepted(&started[4])]).await;
    assert_eq!(settled.settled, 1, "what is in flight is left alone");
}

#[conformance]
async fn only_the_time_that_is_meant_is_sent_again(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 6).await;
    settle_failed(t, &started).await;
    let made = |number: usize| Some(started[number].id.event_made_at());
    let which = Redelivery {
        since: made(1),
        until: made(4),
        ..meant(hook, DeliveryState::Failed)
    };
    assert_eq!(counts(t, &which, 2).await, [2, 1]);
    let again = t.lease(&[hook]).await;
    assert_eq!(ids(&again), ids(&started[1..4]));
}

#[conformance]
async fn only_the_types_that_are_meant_are_sent_again(t: &TestStore) {
    let hook = t.hook("*").await;
    let names = ["order.paid", "order.sent", "invoice.paid", "order"];
    t.insert(&names.map(event)).await;
    let started = drained(t).await.started;
    settle_failed(t, &started).await;
    let below = |pattern: &str| Redelivery {
        event_type: Some(pattern.parse().unwrap()),
        ..meant(hook, DeliveryState::Failed)
    };
    assert_eq!(total(t, &below("order.*")).await, 2);
    assert_eq!(total(t, &below("invoice.paid")).await, 1);
    assert_eq!(total(t, &below("*")).await, 1);
}

#[conformance]
async fn those_of_another_hook_are_left_alone(t: &TestStore) {
    let (hook, other) = (t.hook("work").await, t.hook("work").await);
    t.insert_many("work", 3).await;
    let started = t.fan_out().await.started;
    settle_failed(t, &started).await;
    assert_eq!(total(t, &meant(hook, DeliveryState::Failed)).await, 3);
    let again = t.lease(&[hook, other]).await;
    assert_eq!(again.len(), 3);
    assert!(again.iter().all(|leased| leased.hook.id == hook));
}

#[conformance]
async fn held_ones_begin_their_schedules_anew_each_once(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 5).await;
    let refused: Vec<_> = started
        .iter()
        .map(|leased| t.refused(leased, 3_600))
        .collect();
    t.settle(&refused).await;
    change(t, hook, HookChange::Pause).await;
    t.advance(10);
    assert_eq!(
        counts(t, &meant(hook, DeliveryState::Held), 2).await,
        [2, 2, 1]
    );
    change(t, hook, HookChange::Enable).await;
    let again = t.lease(&[hook]).await;
    assert_eq!(again.len(), 5);
    assert!(
        again
            .iter()
            .all(|l| (l.attempts, l.earlier_attempts) == (1, 1))
    );
    // Of an active hook nothing is held.
    assert_eq!(total(t, &meant(hook, DeliveryState::Held)).await, 0);
}

#[conformance]
async fn what_is_on_its_way_cannot_be_asked_for(t: &TestStore) {
    let hook = t.hook("work").await;
    for state in [DeliveryState::Pending, DeliveryState::InFlight] {
        let error = redeliver(t, &meant(hook, state)).await.unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    }
}

#[conformance]
async fn those_of_a_deleted_hook_are_a_conflict(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 1).await;
    settle_failed(t, &started).await;
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    let which = meant(hook, DeliveryState::Failed);
    let error = redeliver(t, &which).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    assert_eq!(t.delivery(started[0].id).await.state, DeliveryState::Failed);

    let unknown = meant(HookId(Uuid::from_u128(7)), DeliveryState::Failed);
    let error = redeliver(t, &unknown).await.unwrap_err();
    assert!(
        matches!(error, Error::NotFound { what: "hook", .. }),
        "{error:?}"
    );
}

#[conformance]
async fn those_whose_event_is_gone_are_passed_over(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    settle_failed(t, &started).await;
    let gone = t.id(started[1].event.id.0);
    t.sql()
        .await
        .run(format!("DELETE FROM postrider_events WHERE id = {gone}"))
        .await;
    assert_eq!(total(t, &meant(hook, DeliveryState::Failed)).await, 2);
    assert_eq!(t.delivery(started[1].id).await.state, DeliveryState::Failed);
}

#[conformance]
async fn those_of_several_days_are_sent_again(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut started = t.started(hook, 2).await;
    settle_failed(t, &started).await;
    t.advance(24 * 3_600);
    t.store.upkeep(t.now(), 100).await.unwrap();
    t.insert_many("work", 2).await;
    t.fan_out().await;
    let later = t.lease(&[hook]).await;
    settle_failed(t, &later).await;
    started.extend(later);
    assert_eq!(
        counts(t, &meant(hook, DeliveryState::Failed), 3).await,
        [3, 1]
    );
    assert_eq!(ids(&t.lease(&[hook]).await), ids(&started));
}

#[conformance]
async fn several_that_ask_at_once_make_each_delivery_once(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 60).await;
    let (failed, delivered) = started.split_at(30);
    settle_failed(t, failed).await;
    let accepted: Vec<_> = delivered.iter().map(|leased| t.accepted(leased)).collect();
    t.settle(&accepted).await;
    let second = t.another().await;
    let mut callers = Vec::new();
    for number in 0..6 {
        let store = if number % 2 == 0 { &t.store } else { &second };
        let (store, now) = (store.clone(), t.now());
        let state = match number % 3 {
            0 => DeliveryState::Delivered,
            _ => DeliveryState::Failed,
        };
        let which = meant(hook, state);
        callers.push(tokio::spawn(async move {
            let (mut count, mut page) = (0, BulkPage::first(7));
            loop {
                let done = store.redeliver_many(&which, page, now).await.unwrap();
                count += done.count;
                page.after = done.next;
                if page.after.is_none() {
                    return count;
                }
            }
        }));
    }
    // One by one beside them; what another has made wait already is only hastened.
    for leased in &started {
        t.store.redeliver(leased.id, t.now()).await.unwrap();
    }
    let mut count = 0;
    for caller in callers {
        count += caller.await.unwrap();
    }
    assert!(count <= 60, "{count}");
    assert_eq!(ids(&t.lease(&[hook]).await), ids(&started));
}

fn meant(hook: HookId, state: DeliveryState) -> Redelivery {
    Redelivery {
        hook,
        state,
        since: None,
        until: None,
        event_type: None,
    }
}

async fn redeliver(
    t: &TestStore,
    which: &Redelivery,
) -> postrider_store::Result<postrider_store::BulkPageResult> {
    t.store
        .redeliver_many(which, BulkPage::first(100), t.now())
        .await
}

/// How many of each page are sent again.
async fn counts(t: &TestStore, which: &Redelivery, limit: u32) -> Vec<u32> {
    let (mut counts, mut page) = (Vec::new(), BulkPage::first(limit));
    loop {
        let done = t.store.redeliver_many(which, page, t.now()).await.unwrap();
        counts.push(done.count);
        page.after = done.next;
        if page.after.is_none() {
            return counts;
        }
    }
}

async fn total(t: &TestStore, which: &Redelivery) -> u32 {
    counts(t, which, 2).await.iter().sum()
}

fn ids(leased: &[Leased]) -> BTreeSet<DeliveryId> {
    leased.iter().map(|leased| leased.id).collect()
}

/// All of them have used up their attempts.
async fn settle_failed(t: &TestStore, started: &[Leased]) {
    let failed = Step::Failed(Reason::Exhausted);
    let settlements: Vec<Settlement> = started
        .iter()
        .map(|leased| t.settlement(leased, refusal(500), failed))
        .collect();
    t.settle(&settlements).await;
    // Whatever that has done to the hook, it may be sent to.
    for leased in started {
        let hook = leased.hook.id;
        change(t, hook, HookChange::Pause).await;
        change(t, hook, HookChange::Enable).await;
    }
    t.clock.advance(Duration::from_millis(1));
}

async fn change(t: &TestStore, hook: HookId, change: HookChange) {
    let changed = t.store.change_hook(hook, change, "test", t.now()).await;
    changed.unwrap();
}
