//! Events, deliveries and attempts as people look them up.

use crate::support::drained;
use postrider_core::{DeliveryId, EventId, HookId, Reason};
use postrider_store::{
    DeliveryFilter, DeliveryReport, DeliveryState, Error, EventFilter, EventReport, EventState,
    HookChange, Step,
};
use postrider_tests::{TestStore, conformance, event, refusal};
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

#[conformance]
async fn an_event_is_shown_wherever_it_is(t: &TestStore) {
    let ids = t.insert(&[event("a"), event("postrider.x")]).await;
    assert_eq!(shown(t, ids[0]).await.state, EventState::Queued);
    assert_eq!(shown(t, ids[1]).await.state, EventState::Queued);
    t.fan_out().await;
    let states = [EventState::FannedOut, EventState::Rejected];
    for (id, state) in ids.into_iter().zip(states) {
        let report = shown(t, id).await;
        assert_eq!((report.id, report.state), (id, state));
        assert!(report.payload.is_some());
        assert!(report.occurred_at.is_some() || state == EventState::Rejected);
    }
    let unknown = t.store.event(EventId(Uuid::from_u128(7))).await;
    assert!(matches!(
        unknown,
        Err(Error::NotFound { what: "event", .. })
    ));
}

#[conformance]
async fn events_are_listed_newest_first_wherever_they_are(t: &TestStore) {
    let mut expected = t.insert_many("a", 4).await;
    t.fan_out().await;
    expected.extend(t.insert_many("a", 3).await);
    expected.reverse();
    let listed = t.store.events(events()).await.unwrap();
    assert_eq!(event_ids(&listed), expected);
    assert!(listed.iter().all(|report| report.payload.is_none()));
    let states: Vec<_> = listed.iter().map(|report| report.state).collect();
    assert_eq!(states[..3], [EventState::Queued; 3]);
    assert_eq!(states[3..], [EventState::FannedOut; 4]);
}

#[conformance]
async fn events_are_listed_page_by_page(t: &TestStore) {
    let mut expected = t.insert_many("a", 5).await;
    t.fan_out().await;
    expected.extend(t.insert_many("a", 3).await);
    expected.reverse();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let filter = EventFilter {
            before,
            limit: 3,
            ..EventFilter::default()
        };
        let page = t.store.events(filter).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(event_ids(&page));
    }
    assert_eq!(seen, expected);
}

#[conformance]
async fn events_are_listed_by_account_and_type(t: &TestStore) {
    let made = || {
        [
            event("a"),
            event("b"),
            event("a").account("acme"),
            event("b").account("acme"),
        ]
    };
    let fanned_out = t.insert(&made()).await;
    t.fan_out().await;
    let queued = t.insert(&made()).await;
    let filtered = |account: Option<&str>, event_type: Option<&str>| EventFilter {
        account: account.map(Into::into),
        event_type: event_type.map(Into::into),
        ..events()
    };
    for (filter, places) in [
        (filtered(Some("acme"), None), vec![3, 2]),
        (filtered(None, Some("a")), vec![2, 0]),
        (filtered(Some("acme"), Some("a")), vec![2]),
        (filtered(Some("nobody"), None), vec![]),
    ] {
        let listed = t.store.events(filter.clone()).await.unwrap();
        let expected: Vec<_> = [&queued, &fanned_out]
            .into_iter()
            .flat_map(|ids| places.iter().map(|place| ids[*place]))
            .collect();
        assert_eq!(event_ids(&listed), expected, "{filter:?}");
    }
}

#[conformance]
async fn a_delivery_is_shown_wherever_it_is(t: &TestStore) {
    let hook = t.hook("work").await;
    for (state, id) in one_in_each_state(t, hook).await {
        let report = t.delivery(id).await;
        assert_eq!((report.id, report.state), (id, state));
        assert_eq!(report.hook_id, hook);
        assert_eq!(report.event_type, "work");
        assert_eq!(report.id, DeliveryId::of(report.event_id, hook));
        let waits = state == DeliveryState::Pending;
        assert_eq!(report.next_attempt_at.is_some(), waits, "{state:?}");
        let ended_badly = state == DeliveryState::Failed;
        assert_eq!(report.reason.is_some(), ended_badly, "{state:?}");
    }
    let unknown = DeliveryId(Uuid::from_u128(7));
    let (delivery, attempts) = (
        t.store.delivery(unknown).await.map(drop),
        t.store.attempts(unknown).await.map(drop),
    );
    for answer in [delivery, attempts] {
        assert!(matches!(
            answer,
            Err(Error::NotFound {
                what: "delivery",
                ..
            })
        ));
    }
}

#[conformance]
async fn deliveries_are_listed_newest_first_wherever_they_are(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut expected = one_in_each_state(t, hook).await;
    expected.sort_by_key(|(_, id)| std::cmp::Reverse(*id));
    let listed = t.store.deliveries(deliveries()).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|d| (d.state, d.id)).collect();
    assert_eq!(listed, expected);
}

#[conformance]
async fn deliveries_are_listed_by_state(t: &TestStore) {
    let hook = t.hook("work").await;
    for (state, id) in one_in_each_state(t, hook).await {
        let filter = DeliveryFilter {
            state: Some(state),
            ..deliveries()
        };
        let listed = t.store.deliveries(filter).await.unwrap();
        assert_eq!(delivery_ids(&listed), [id], "{state:?}");
    }
    hold(t, hook).await;
    let held = DeliveryFilter {
        state: Some(DeliveryState::Held),
        ..deliveries()
    };
    assert_eq!(t.store.deliveries(held).await.unwrap().len(), 1);
    let pending = DeliveryFilter {
        state: Some(DeliveryState::Pending),
        ..deliveries()
    };
    assert!(t.store.deliveries(pending).await.unwrap().is_empty());
}

#[conformance]
async fn deliveries_are_listed_by_hook_and_by_event(t: &TestStore) {
    let hooks = [t.hook("*").await, t.hook("*").await];
    let ids = t.insert_many("a", 4).await;
    let started = t.fan_out().await.started;
    let settlements: Vec<_> = started
        .iter()
        .enumerate()
        .filter(|(number, _)| number % 2 == 0)
        .map(|(_, leased)| t.accepted(leased))
        .collect();
    t.settle(&settlements).await;

    for hook in hooks {
        let filter = DeliveryFilter {
            hook: Some(hook),
            ..deliveries()
        };
        let listed = t.store.deliveries(filter).await.unwrap();
        let mut expected: Vec<_> = ids.iter().map(|id| DeliveryId::of(*id, hook)).collect();
        expected.reverse();
        assert_eq!(delivery_ids(&listed), expected);
    }
    let filter = DeliveryFilter {
        event: Some(ids[2]),
        ..deliveries()
    };
    let listed = t.store.deliveries(filter).await.unwrap();
    let listed: BTreeSet<_> = delivery_ids(&listed).into_iter().collect();
    assert_eq!(
        listed,
        hooks.map(|hook| DeliveryId::of(ids[2], hook)).into()
    );
    let both = DeliveryFilter {
        event: Some(ids[2]),
        hook: Some(hooks[1]),
        ..deliveries()
    };
    let listed = t.store.deliveries(both).await.unwrap();
    assert_eq!(delivery_ids(&listed), [DeliveryId::of(ids[2], hooks[1])]);
}

#[conformance]
async fn deliveries_are_listed_page_by_page(t: &TestStore) {
    let hook = t.hook("work").await;
    let states = one_in_each_state(t, hook).await;
    let mut expected: Vec<_> = states.into_iter().map(|(_, id)| id).collect();
    expected.extend(t.waiting(hook, 4).await);
    expected.sort();
    expected.reverse();
    for of_hook in [None, Some(hook)] {
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let filter = DeliveryFilter {
                hook: of_hook,
                before,
                limit: 3,
                ..DeliveryFilter::default()
            };
            let page = t.store.deliveries(filter).await.unwrap();
            assert!(page.len() <= 3);
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            seen.extend(delivery_ids(&page));
        }
        assert_eq!(seen, expected);
    }
}

#[conformance]
async fn deliveries_of_several_days_are_listed_by_state_page_by_page(t: &TestStore) {
    use DeliveryState::{Delivered, Failed, InFlight, Pending};
    let hooks = [t.hook("work").await, t.hook("work").await];
    for _ in 0..3 {
        // Four events for two hooks: one delivered, one failed, one that waits, one in flight.
        let ids = &t.insert_many("work", 4).await;
        let started = t.fan_out().await.started;
        assert_eq!(started.len(), 8);
        let of = |n: usize| {
            started
                .iter()
                .filter(move |leased| leased.event.id == ids[n])
        };
        let delivered = of(0).map(|leased| t.accepted(leased));
        let failed = Step::Failed(Reason::Exhausted);
        let failed = of(1).map(|leased| t.settlement(leased, refusal(500), failed.clone()));
        let waiting = of(2).map(|leased| t.refused(leased, 1));
        let settlements: Vec<_> = delivered.chain(failed).chain(waiting).collect();
        t.settle(&settlements).await;
        t.advance(24 * 3600);
        t.store.upkeep(t.now(), 100).await.unwrap();
    }
    let all = t.store.deliveries(deliveries()).await.unwrap();
    assert_eq!(all.len(), 24);
    assert!(all.is_sorted_by(|one, next| one.id > next.id));
    for hook in [None, Some(hooks[0])] {
        for state in [Delivered, Failed, Pending, InFlight] {
            let wanted = |report: &&DeliveryReport| {
                report.state == state && hook.is_none_or(|hook| report.hook_id == hook)
            };
            let expected: Vec<_> = all.iter().filter(wanted).map(|report| report.id).collect();
            assert_eq!(expected.len(), if hook.is_some() { 3 } else { 6 });
            let mut seen = Vec::new();
            loop {
                let filter = DeliveryFilter {
                    hook,
                    state: Some(state),
                    before: seen.last().copied(),
                    limit: 2,
                    ..DeliveryFilter::default()
                };
                let page = t.store.deliveries(filter).await.unwrap();
                seen.extend(delivery_ids(&page));
                if page.len() < 2 {
                    break;
                }
            }
            assert_eq!(seen, expected, "{hook:?} {state:?}");
        }
    }
}

#[conformance]
async fn a_removed_hooks_deliveries_can_still_be_looked_up(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    t.settle(&[t.accepted(&leased)]).await;
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    let report = t.delivery(leased.id).await;
    assert_eq!(report.state, DeliveryState::Delivered);
    let filter = DeliveryFilter {
        event: Some(leased.event.id),
        ..deliveries()
    };
    let listed = t.store.deliveries(filter).await.unwrap();
    assert_eq!(delivery_ids(&listed), [leased.id]);
}

#[conformance]
async fn attempts_come_in_the_order_they_were_made(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut leased = t.started(hook, 1).await.remove(0);
    assert!(t.attempts(leased.id).await.is_empty());
    for status in [500, 404, 503] {
        let step = Step::Retry(t.now() + Duration::from_secs(1));
        t.settle(&[t.settlement(&leased, refusal(status), step)])
            .await;
        t.advance(1);
        leased = t.lease(&[hook]).await.remove(0);
    }
    t.settle(&[t.accepted(&leased)]).await;
    let told: Vec<_> = t
        .attempts(leased.id)
        .await
        .iter()
        .map(|attempt| (attempt.number, attempt.status))
        .collect();
    let expected = [(1, 500), (2, 404), (3, 503), (4, 200)];
    assert_eq!(
        told,
        expected.map(|(number, status)| (number, Some(status)))
    );
}

#[conformance]
async fn history_spans_the_slots(t: &TestStore) {
    let hook = t.hook("*").await;
    let mut events_made = Vec::new();
    for number in 0..24 {
        let keyed = event("a").ordering_key(format!("customer-{number}"));
        events_made.extend(t.store.enqueue(&[keyed]).await.unwrap());
    }
    let listed = t.store.events(events()).await.unwrap();
    assert_eq!(listed.len(), 24);
    drained(t).await;
    let listed = t.store.events(events()).await.unwrap();
    let mut expected = events_made.clone();
    expected.sort();
    expected.reverse();
    assert_eq!(event_ids(&listed), expected);
    let listed = t.store.deliveries(deliveries()).await.unwrap();
    assert_eq!(listed.len(), 24);
    for id in events_made {
        let report = t.delivery(DeliveryId::of(id, hook)).await;
        assert_eq!(report.state, DeliveryState::InFlight);
        assert_eq!(shown(t, id).await.state, EventState::FannedOut);
    }
}

/// Deliveries to `hook` that wait, are in flight, were delivered and have failed.
async fn one_in_each_state(t: &TestStore, hook: HookId) -> Vec<(DeliveryState, DeliveryId)> {
    let waits = t.waiting(hook, 1).await[0];
    let started = t.started(hook, 3).await;
    let failed = Step::Failed(Reason::Exhausted);
    t.settle(&[
        t.accepted(&started[1]),
        t.settlement(&started[2], refusal(500), failed),
    ])
    .await;
    vec![
        (DeliveryState::Pending, waits),
        (DeliveryState::InFlight, started[0].id),
        (DeliveryState::Delivered, started[1].id),
        (DeliveryState::Failed, started[2].id),
    ]
}

async fn hold(t: &TestStore, hook: HookId) {
    t.store
        .change_hook(hook, HookChange::Pause, "test", t.now())
        .await
        .unwrap();
}

async fn shown(t: &TestStore, id: EventId) -> EventReport {
    t.store.event(id).await.unwrap()
}

fn events() -> EventFilter {
    EventFilter {
        limit: 100,
        ..EventFilter::default()
    }
}

fn deliveries() -> DeliveryFilter {
    DeliveryFilter {
        limit: 100,
        ..DeliveryFilter::default()
    }
}

fn event_ids(reports: &[EventReport]) -> Vec<EventId> {
    reports.iter().map(|report| report.id).collect()
}

fn delivery_ids(reports: &[DeliveryReport]) -> Vec<DeliveryId> {
    reports.iter().map(|report| report.id).collect()
}

#[conformance]
async fn listings_keep_to_an_account_and_a_time(t: &TestStore) {
    for account in ["acme", "other"] {
        let hook = t.hook_of(account, "*").await;
        // One that ended, one in flight, and one that waits: each is found another way.
        for moment in 0..3 {
            let id = EventId::draw(t.now() + Duration::from_secs(10 * moment));
            t.insert_as(&[id], &[event("work").account(account)]).await;
            let started = match moment {
                2 => t.fan_out_without_room().await.started,
                _ => t.fan_out().await.started,
            };
            if moment == 0 {
                t.settle(&[t.accepted(&started[0])]).await;
            }
        }
        assert_eq!(t.shown(hook).await.account, account);
    }
    let at = |seconds| Some(t.now() + Duration::from_secs(seconds));
    for (account, since, until, expected) in [
        (Some("acme"), None, None, 3),
        (Some("nobody"), None, None, 0),
        (None, None, None, 6),
        (Some("acme"), at(10), None, 2),
        (Some("other"), None, at(10), 1),
        (None, at(10), at(20), 2),
        (None, at(21), None, 0),
    ] {
        let filter = DeliveryFilter {
            account: account.map(Into::into),
            since,
            until,
            ..deliveries()
        };
        let found = t.store.deliveries(filter).await.unwrap();
        assert_eq!(found.len(), expected, "{account:?} {since:?} {until:?}");
        assert!(found.iter().all(|d| account.is_none_or(|a| d.account == a)));
        let filter = EventFilter {
            account: account.map(Into::into),
            since,
            until,
            ..events()
        };
        let found = t.store.events(filter).await.unwrap();
        assert_eq!(found.len(), expected, "{account:?} {since:?} {until:?}");
    }
    let everything = t.store.deliveries(deliveries()).await.unwrap();
    for delivery in everything {
        for account in ["acme", "other"] {
            let filter = DeliveryFilter {
                account: Some(account.into()),
                event: Some(delivery.event_id),
                ..deliveries()
            };
            let found = t.store.deliveries(filter).await.unwrap();
            let expected = usize::from(delivery.account == account);
            assert_eq!(found.len(), expected, "{delivery:?}");
        }
    }
}
