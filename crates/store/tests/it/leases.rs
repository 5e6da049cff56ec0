//! The right to attempt a delivery, for a limited time and under a token.

use crate::support::ids_of;
use postrider_core::{DeliveryId, HookId, LeaseToken, RetrySchedule};
use postrider_store::{DeliveryState, DueHook, HookChange, LeaseRequest, Leased};
use postrider_tests::{TestStore, conformance, event};
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

#[conformance]
async fn only_what_is_due_is_leased(t: &TestStore) {
    let hook = t.hook("work").await;
    let later = t.now() + Duration::from_secs(10);
    let ids = t
        .insert(&[event("work"), event("work").deliver_after(later)])
        .await;
    t.fan_out_without_room().await;
    assert_eq!(ids_of(&t.lease(&[hook]).await), [ids[0]]);
    assert!(t.lease(&[hook]).await.is_empty());
    t.advance(10);
    assert_eq!(ids_of(&t.lease(&[hook]).await), [ids[1]]);
}

#[conformance]
async fn the_longest_due_comes_first(t: &TestStore) {
    let hook = t.hook("work").await;
    let at = |seconds| t.now() + Duration::from_secs(seconds);
    let ids = t
        .insert(&[3, 1, 2].map(|seconds| event("work").deliver_after(at(seconds))))
        .await;
    t.fan_out().await;
    t.advance(5);
    let mut one = t.lease_request(&[hook]);
    one.wanted = vec![(hook, 1)];
    let first = t.store.lease(one).await.unwrap();
    assert_eq!(ids_of(&first), [ids[1]]);
    let mut two = t.lease_request(&[hook]);
    two.wanted = vec![(hook, 1)];
    assert_eq!(ids_of(&t.store.lease(two).await.unwrap()), [ids[2]]);
}

#[conformance]
async fn a_leased_delivery_carries_all_that_an_attempt_needs(t: &TestStore) {
    let hook = t.hook("work").await;
    let id = t.waiting(hook, 1).await[0];
    let registered = t.store.hook_with_credentials(hook).await.unwrap();
    let request = t.lease_request(&[hook]);
    let (token, until) = (request.token, request.until);
    let leased = t.store.lease(request).await.unwrap().remove(0);
    assert_eq!((leased.id, leased.slot), (id, t.slot));
    assert_eq!((leased.token, leased.expires_at), (token, until));
    assert_eq!((leased.attempts, leased.earlier_attempts), (0, 0));
    assert_eq!(leased.event.event_type, "work");
    assert_eq!(leased.event.payload.as_str(), r#"{"of":"work"}"#);
    assert_eq!(leased.hook.url, "https://receiver.example/hook");
    assert!(leased.hook.credentials == registered.credentials);
    assert_eq!(t.delivery(id).await.state, DeliveryState::InFlight);
}

#[conformance]
async fn each_hook_gives_at_most_what_is_wanted_of_it(t: &TestStore) {
    let hooks = [t.hook("*").await, t.hook("*").await, t.hook("*").await];
    t.insert_many("a", 10).await;
    t.fan_out_without_room().await;
    let mut request = t.lease_request(&[]);
    request.wanted = vec![(hooks[0], 2), (hooks[1], 5), (hooks[2], 0)];
    let leased = t.store.lease(request).await.unwrap();
    assert_eq!(hooks.map(|hook| of_hook(&leased, hook)), [2, 5, 0]);
    let rest = t.lease(&hooks).await;
    assert_eq!(hooks.map(|hook| of_hook(&rest, hook)), [8, 5, 10]);
}

#[conformance]
async fn only_the_wanted_hooks_give_any(t: &TestStore) {
    let (wanted, other) = (t.hook("*").await, t.hook("*").await);
    t.insert_many("a", 2).await;
    t.fan_out_without_room().await;
    assert!(t.lease(&[]).await.is_empty());
    let unknown = HookId(Uuid::from_u128(7));
    let leased = t.lease(&[wanted, unknown]).await;
    assert_eq!(of_hook(&leased, wanted), 2);
    assert_eq!(of_hook(&leased, other), 0);
}

#[conformance]
async fn no_delivery_is_leased_to_two_callers(t: &TestStore) {
    let hooks = [t.hook("*").await, t.hook("*").await];
    t.insert_many("a", 200).await;
    t.fan_out_without_room().await;
    let second = t.another().await;
    let mut callers = Vec::new();
    for number in 0..8 {
        let store = if number % 2 == 0 { &t.store } else { &second };
        let (store, request) = (store.clone(), t.lease_request(&[]));
        callers.push(tokio::spawn(async move {
            let mut all = Vec::new();
            for _ in 0..20 {
                let request = LeaseRequest {
                    token: LeaseToken::draw(request.now),
                    wanted: hooks.map(|hook| (hook, 9)).to_vec(),
                    ..request.clone()
                };
                all.extend(store.lease(request).await.unwrap());
            }
            all
        }));
    }
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    let distinct: BTreeSet<_> = all.iter().map(|leased| leased.id).collect();
    assert_eq!((all.len(), distinct.len()), (400, 400));
}

#[conformance]
async fn a_hook_that_is_not_active_gives_none(t: &TestStore) {
    let hook = t.hook("work").await;
    t.waiting(hook, 2).await;
    let elsewhere = t.another().await;
    for change in [HookChange::Pause, HookChange::Disable] {
        elsewhere
            .change_hook(hook, change, "test", t.now())
            .await
            .unwrap();
        assert!(t.lease(&[hook]).await.is_empty());
    }
    elsewhere
        .change_hook(hook, HookChange::Enable, "test", t.now())
        .await
        .unwrap();
    assert_eq!(t.lease(&[hook]).await.len(), 2);
}

#[conformance]
async fn a_removed_hook_gives_none(t: &TestStore) {
    let hook = t.hook("work").await;
    t.waiting(hook, 1).await;
    let elsewhere = t.another().await;
    elsewhere.remove_hook(hook, "test", t.now()).await.unwrap();
    assert!(t.lease(&[hook]).await.is_empty());
}

#[conformance]
async fn an_expired_lease_is_leased_again_once_recovered(t: &TestStore) {
    let hook = t.hook("work").await;
    let first = t.started(hook, 1).await.remove(0);
    t.outlive_leases();
    assert!(t.lease(&[hook]).await.is_empty(), "not before");
    assert_eq!(recovered(t).await, (1, 0));
    let second = t.lease(&[hook]).await.remove(0);
    assert_eq!(second.id, first.id);
    assert_ne!(second.token, first.token);
    assert_eq!(second.attempts, 0, "no attempt was recorded");
}

#[conformance]
async fn a_delivery_whose_event_is_gone_is_not_leased(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = t.insert_many("work", 3).await;
    t.fan_out_without_room().await;
    let gone = t.id(ids[1].0);
    let mut sql = t.sql().await;
    sql.run(format!("DELETE FROM postrider_events WHERE id = {gone}"))
        .await;
    let leased: BTreeSet<_> = ids_of(&t.lease(&[hook]).await).into_iter().collect();
    assert_eq!(leased, BTreeSet::from([ids[0], ids[2]]));
    let report = t.delivery(DeliveryId::of(ids[1], hook)).await;
    assert_ne!(report.state, DeliveryState::InFlight);
    // It does not stand before the others at every lease.
    assert!(report.next_attempt_at > Some(t.now()));
}

#[conformance]
async fn events_of_several_days_are_leased_together(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        ids.extend(t.insert_many("work", 2).await);
        t.fan_out_without_room().await;
        t.advance(24 * 3600);
        t.store.upkeep(t.now(), 100).await.unwrap();
    }
    let leased = t.lease(&[hook]).await;
    assert_eq!(ids_of(&leased).into_iter().collect::<BTreeSet<_>>(), ids);
    let days: BTreeSet<_> = leased.iter().map(|leased| leased.day).collect();
    assert_eq!(days.len(), 3);
}

// ---- what waits

#[conformance]
async fn due_hooks_are_those_with_deliveries_that_wait(t: &TestStore) {
    let hooks = [t.hook("a").await, t.hook("b").await, t.hook("c").await];
    let later = t.now() + Duration::from_secs(5);
    t.insert(&[
        event("a").deliver_after(later),
        event("a").deliver_after(later + Duration::from_secs(1)),
        event("b"),
    ])
    .await;
    t.fan_out_without_room().await;
    t.store
        .change_hook(hooks[1], HookChange::Pause, "test", t.now())
        .await
        .unwrap();
    let mut expected = [
        DueHook {
            hook: hooks[0],
            first_due: later,
        },
        DueHook {
            hook: hooks[1],
            first_due: t.now(),
        },
    ];
    expected.sort_by_key(|due| due.hook);
    let due = t.store.due_hooks(t.slot, None, 10).await.unwrap();
    assert_eq!(due, expected, "by id, those not active included");
}

#[conformance]
async fn due_hooks_are_walked_by_id(t: &TestStore) {
    let mut hooks = BTreeSet::new();
    for _ in 0..7 {
        hooks.insert(t.hook("*").await);
    }
    t.insert_many("a", 3).await;
    t.fan_out_without_room().await;
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let due = t.store.due_hooks(t.slot, after, 3).await.unwrap();
        assert!(due.len() <= 3);
        let Some(last) = due.last() else { break };
        after = Some(last.hook);
        seen.extend(due.iter().map(|due| due.hook));
    }
    assert_eq!(seen, hooks.into_iter().collect::<Vec<_>>());
}

#[conformance]
async fn a_hook_whose_deliveries_are_all_leased_is_not_due(t: &TestStore) {
    let hook = t.hook("work").await;
    t.started(hook, 2).await;
    let due = t.store.due_hooks(t.slot, None, 10).await.unwrap();
    assert_eq!(due, []);
    assert_eq!(t.store.slots().await.unwrap(), [t.slot]);
}

#[conformance]
async fn slots_are_those_that_have_deliveries(t: &TestStore) {
    assert!(t.store.slots().await.unwrap().is_empty());
    let hook = t.hook("work").await;
    let started = t.started(hook, 2).await;
    assert_eq!(t.store.slots().await.unwrap(), [t.slot]);
    let settlements: Vec<_> = started.iter().map(|leased| t.accepted(leased)).collect();
    t.settle(&settlements).await;
    assert!(t.store.slots().await.unwrap().is_empty());
}

// ---- giving back

#[conformance]
async fn what_is_released_is_due_at_once(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    let ids: Vec<_> = started.iter().map(|leased| leased.id).collect();
    let released = t
        .store
        .release(t.slot, started[0].token, &ids[..2], t.now())
        .await
        .unwrap();
    assert_eq!(released, 2);
    let mut again: Vec<_> = t.lease(&[hook]).await.iter().map(|l| l.id).collect();
    again.sort();
    let mut expected = ids[..2].to_vec();
    expected.sort();
    assert_eq!(again, expected);
}

#[conformance]
async fn releasing_counts_neither_an_attempt_nor_a_lost_lease(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut leased = t.started(hook, 1).await.remove(0);
    for _ in 0..4 {
        t.store
            .release(t.slot, leased.token, &[leased.id], t.now())
            .await
            .unwrap();
        leased = t.lease(&[hook]).await.remove(0);
    }
    t.outlive_leases();
    assert_eq!(recovered(t).await, (1, 0), "the first loss, not the fifth");
    assert!(t.attempts(leased.id).await.is_empty());
    assert_eq!(t.delivery(leased.id).await.attempts, 0);
}

#[conformance]
async fn under_another_token_nothing_is_released(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    let other = LeaseToken::draw(t.now());
    let released = t.store.release(t.slot, other, &[leased.id], t.now()).await;
    assert_eq!(released.unwrap(), 0);
    assert_eq!(t.delivery(leased.id).await.state, DeliveryState::InFlight);
    let settled = t.settle(&[t.accepted(&leased)]).await;
    assert_eq!(settled.settled, 1);
}

fn of_hook(leased: &[Leased], hook: HookId) -> usize {
    leased
        .iter()
        .filter(|leased| leased.hook.id == hook)
        .count()
}

async fn recovered(t: &TestStore) -> (u32, u32) {
    let schedule = RetrySchedule::default();
    let done = t.store.recover(t.slot, t.now(), 100, &schedule).await;
    let done = done.unwrap();
    (done.recovered, done.worker_lost)
}
