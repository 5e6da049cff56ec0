//! Listings over several days and all kinds of ends.

use super::*;
use crate::store::*;
use crate::{DeliveryFilter, DeliveryState, EventFilter, EventState};
use postrider_core::{DeliveryId, EventId, Reason};
use std::collections::HashSet;

/// Two hooks and 24 events, four on each of six days: one delivered, one failed, one leased
/// and one waiting for each hook.
async fn six_days() -> (TestFile, [HookId; 2]) {
    let file = TestFile::new().await;
    let hooks = [file.hook("*").await, file.hook("*").await];
    for day in 0..6 {
        let at = now() + TimeDelta::days(day);
        file.enqueue(4).await;
        let done = file
            .store
            .fan_out(FanOutRequest {
                now: at,
                until: at + TimeDelta::days(30),
                ..fan_out(100)
            })
            .await
            .unwrap();
        let mut batch = Vec::new();
        for pair in done.started.chunks(8) {
            for leased in pair {
                match leased.first().event.payload.as_str() {
                    "0" => batch.push(accepted(leased)),
                    "1" => batch.push(refused(leased, 500, Step::Failed(Reason::Exhausted))),
                    "2" => batch.push(refused(leased, 500, Step::Retry(later()))),
                    _ => {}
                }
            }
        }
        // One success after the failures, so that no hook is disabled.
        batch.sort_by_key(|settlement| settlement.attempts.first.outcome.is_accepted());
        for (n, settlement) in batch.iter_mut().enumerate() {
            settlement.attempts.first.at = at + TimeDelta::milliseconds(n as i64);
        }
        file.store.settle(at, &batch).await.unwrap();
    }
    (file, hooks)
}

fn everything() -> DeliveryFilter {
    DeliveryFilter {
        limit: 1_000,
        ..DeliveryFilter::default()
    }
}

#[tokio::test]
async fn deliveries_are_listed_newest_first_page_by_page() {
    let (file, hooks) = six_days().await;
    let all = file.store.deliveries(everything()).await.unwrap();
    assert_eq!(all.len(), 48);
    assert!(all.is_sorted_by(|a, b| a.id > b.id));
    let states: HashSet<_> = all.iter().map(|d| d.state).collect();
    assert_eq!(states.len(), 4);
    assert!(all.iter().all(|d| d.event_type == "order.paid"));
    for hook in [None, Some(hooks[0])] {
        for state in [
            None,
            Some(DeliveryState::Delivered),
            Some(DeliveryState::Pending),
        ] {
            let expected: Vec<DeliveryId> = all
                .iter()
                .filter(|d| hook.is_none_or(|hook| d.hook_id == hook))
                .filter(|d| state.is_none_or(|state| d.state == state))
                .map(|d| d.id)
                .collect();
            let mut listed = Vec::new();
            loop {
                let page = DeliveryFilter {
                    hook,
                    state,
                    before: listed.last().copied(),
                    limit: 5,
                    ..DeliveryFilter::default()
                };
                let page = file.store.deliveries(page).await.unwrap();
                listed.extend(page.iter().map(|d| d.id));
                if page.len() < 5 {
                    break;
                }
            }
            assert_eq!(listed, expected, "{hook:?} {state:?}");
        }
    }
}

#[tokio::test]
async fn every_state_can_be_asked_for() {
    use DeliveryState::{Cancelled, Delivered, Expired, Failed, Held, InFlight, Pending};
    let (file, hooks) = six_days().await;
    for (state, count) in [
        (Pending, 12),
        (InFlight, 12),
        (Delivered, 12),
        (Failed, 12),
        (Held, 0),
        (Cancelled, 0),
        (Expired, 0),
    ] {
        for hook in [None, Some(hooks[1])] {
            let filter = DeliveryFilter {
                state: Some(state),
                hook,
                ..everything()
            };
            let found = file.store.deliveries(filter).await.unwrap();
            assert!(found.iter().all(|d| d.state == state));
            let expected = if hook.is_some() { count / 2 } else { count };
            assert_eq!(found.len(), expected, "{state:?} {hook:?}");
        }
    }
}

#[tokio::test]
async fn an_event_shows_its_deliveries() {
    let (file, hooks) = six_days().await;
    let events = EventFilter {
        limit: 100,
        ..EventFilter::default()
    };
    for event in file.store.events(events).await.unwrap() {
        let filter = DeliveryFilter {
            event: Some(event.id),
            ..everything()
        };
        let found = file.store.deliveries(filter.clone()).await.unwrap();
        assert_eq!(found.len(), 2);
        let of_hook = DeliveryFilter {
            hook: Some(hooks[0]),
            ..filter
        };
        let found = file.store.deliveries(of_hook).await.unwrap();
        assert_eq!(found.len(), 1);
        let id = DeliveryId::of(event.id, hooks[0]);
        assert_eq!(found[0].id, id);
        assert_eq!(file.store.delivery(id).await.unwrap().state, found[0].state);
    }
}

#[tokio::test]
async fn events_are_listed_newest_first_with_those_in_the_outbox() {
    let (file, _) = six_days().await;
    file.enqueue(3).await;
    let mut listed: Vec<EventId> = Vec::new();
    let mut queued = 0;
    loop {
        let page = EventFilter {
            before: listed.last().copied(),
            limit: 4,
            event_type: Some("order.paid".into()),
            account: Some("default".into()),
            ..EventFilter::default()
        };
        let page = file.store.events(page).await.unwrap();
        queued += page
            .iter()
            .filter(|e| e.state == EventState::Queued)
            .count();
        listed.extend(page.iter().map(|e| e.id));
        if page.len() < 4 {
            break;
        }
    }
    assert_eq!((listed.len(), queued), (27, 3));
    assert!(listed.is_sorted_by(|a, b| a > b));
    let none = EventFilter {
        account: Some("other".into()),
        limit: 10,
        ..EventFilter::default()
    };
    assert!(file.store.events(none).await.unwrap().is_empty());
    for id in listed {
        let event = file.store.event(id).await.unwrap();
        assert!(event.payload.is_some() && event.occurred_at.is_some());
    }
    let unknown = EventId::draw(now());
    assert!(matches!(
        file.store.event(unknown).await,
        Err(crate::Error::NotFound { what: "event", .. })
    ));
    assert!(matches!(
        file.store.attempts(DeliveryId(unknown.0)).await,
        Err(crate::Error::NotFound {
            what: "delivery",
            ..
        })
    ));
}
