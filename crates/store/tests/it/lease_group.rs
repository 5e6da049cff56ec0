//! Deliveries that start at their fan-out and share one lease: each settles, is given back or
//! is lost by itself.

use postrider_core::{DeliveryId, HookId, LeaseToken, Reason, RetrySchedule};
use postrider_store::{DeliveryFilter, DeliveryState, Error, Leased, SettleResult, Step};
use postrider_tests::{TestStore, conformance, refusal};
use std::collections::BTreeSet;
use std::time::Duration;

#[conformance]
async fn an_expired_lease_comes_back_in_parts(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 7).await;
    t.settle(&[t.accepted(&started[3])]).await;
    t.outlive_leases();
    let mut seen = Vec::new();
    for expected in [4, 2, 0] {
        assert_eq!(recover(t, 4).await, expected);
        let leased = t.lease(&[hook]).await;
        assert_eq!(leased.len(), expected as usize);
        assert!(leased.iter().all(|leased| leased.attempts == 0));
        let settlements: Vec<_> = leased.iter().map(|leased| t.accepted(leased)).collect();
        assert_eq!(t.settle(&settlements).await.settled, expected);
        seen.extend(ids(&leased));
    }
    let mut expected = ids(&started);
    expected.remove(3);
    assert_eq!(sorted(seen), sorted(expected), "each once");
    assert!(t.store.slots().await.unwrap().is_empty());
}

#[conformance]
async fn a_lease_that_comes_back_in_parts_holds_for_none(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 5).await;
    t.outlive_leases();
    assert_eq!(recover(t, 2).await, 2);
    let settlements: Vec<_> = started.iter().map(|leased| t.accepted(leased)).collect();
    let settled = t.settle(&settlements).await;
    assert_eq!((settled.settled, settled.late.len()), (0, 5));
    assert_eq!(recover(t, 10).await, 3, "none is lost by it");
    assert_eq!(t.lease(&[hook]).await.len(), 5);
}

#[conformance]
async fn at_the_moment_it_runs_out_a_lease_holds_for_all_or_for_none(t: &TestStore) {
    let hook = t.hook("work").await;
    let second = t.another().await;
    for _ in 0..20 {
        let started = t.started(hook, 10).await;
        t.advance(60);
        assert_eq!(started[0].expires_at, t.now());
        let settlements: Vec<_> = started.iter().map(|leased| t.accepted(leased)).collect();
        let settling = {
            let (store, now) = (t.store.clone(), t.now());
            tokio::spawn(async move { store.settle(now, &settlements).await.unwrap() })
        };
        let recovering = {
            let (store, slot, now) = (second.clone(), t.slot, t.now());
            tokio::spawn(async move {
                let schedule = RetrySchedule::default();
                store.recover(slot, now, 100, &schedule).await.unwrap()
            })
        };
        let (settled, recovered) = (settling.await.unwrap(), recovering.await.unwrap());
        let outcome = (settled.settled, settled.late.len(), recovered.recovered);
        assert!(
            matches!(outcome, (10, 0, 0) | (0, 10, 10)),
            "settled, late, recovered: {outcome:?}"
        );
        let again = t.lease(&[hook]).await;
        assert_eq!(again.len(), recovered.recovered as usize);
        let again: Vec<_> = again.iter().map(|leased| t.accepted(leased)).collect();
        t.settle(&again).await;
    }
}

#[conformance]
async fn one_given_back_and_delivered_by_another_is_not_made_again(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 6).await;
    assert_eq!(give_back(t, &started[..4]).await, 4);
    // Another worker delivers one, fails with one, has one in flight, and has not come to one.
    let mut elsewhere = t.lease(&[hook]).await;
    elsewhere.sort_by_key(|leased| leased.event.id);
    let delivered = t.accepted(&elsewhere[0]);
    let failed = t.settlement(&elsewhere[1], refusal(500), Step::Failed(Reason::Exhausted));
    assert_eq!(t.settle(&[delivered, failed]).await.settled, 2);
    give_back(t, &elsewhere[3..]).await;
    t.advance(30);
    let still = t.lease(&[hook]).await;
    assert_eq!(still.len(), 1);
    give_back(t, &elsewhere[2..3]).await;
    let running = t.lease(&[hook]).await;
    assert_eq!(ids(&running), [elsewhere[2].id]);
    t.advance(31);
    assert_eq!(recover(t, 10).await, 2, "only the rest of the lease");
    let again = t.lease(&[hook]).await;
    assert_eq!(sorted(ids(&again)), sorted(ids(&started[4..])));
    let states = [&elsewhere[0], &elsewhere[1], &running[0], &still[0]].map(|leased| leased.id);
    let expected = [
        DeliveryState::Delivered,
        DeliveryState::Failed,
        DeliveryState::InFlight,
        DeliveryState::InFlight,
    ];
    for (id, expected) in states.into_iter().zip(expected) {
        assert_eq!(t.delivery(id).await.state, expected);
    }
}

#[conformance]
async fn a_settlement_of_one_given_back_is_late(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    assert_eq!(give_back(t, &started[..1]).await, 1);
    let elsewhere = t.lease(&[hook]).await.remove(0);
    let settled = t
        .settle(&[t.accepted(&started[0]), t.accepted(&started[1])])
        .await;
    assert_eq!((settled.settled, settled.late), (1, vec![started[0].id]));
    assert_eq!(
        t.delivery(started[0].id).await.state,
        DeliveryState::InFlight
    );
    let rest = [t.accepted(&elsewhere), t.accepted(&started[2])];
    assert_eq!(t.settle(&rest).await.settled, 2);
}

#[conformance]
async fn only_open_ones_are_given_back(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 4).await;
    t.settle(&[t.accepted(&started[0]), t.refused(&started[1], 300)])
        .await;
    assert_eq!(give_back(t, &started[..3]).await, 1);
    assert_eq!(give_back(t, &started[..3]).await, 0);
    assert_eq!(ids(&t.lease(&[hook]).await), [started[2].id]);
    let due = t.delivery(started[1].id).await.next_attempt_at;
    assert_eq!(due, Some(t.now() + Duration::from_secs(300)));
}

#[conformance]
async fn one_given_back_and_cancelled_is_not_made_again(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 2).await;
    give_back(t, &started[..1]).await;
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    assert_eq!(t.store.upkeep(t.now(), 10).await.unwrap().cancelled, 1);
    t.outlive_leases();
    assert_eq!(recover(t, 10).await, 1);
    assert_eq!(t.store.upkeep(t.now(), 10).await.unwrap().cancelled, 1);
    for leased in &started {
        let report = t.delivery(leased.id).await;
        assert_eq!(report.state, DeliveryState::Cancelled);
    }
}

#[conformance]
async fn a_settled_one_never_comes_back(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 4).await;
    let settlements = [
        t.accepted(&started[0]),
        t.settlement(&started[1], refusal(500), Step::Failed(Reason::Exhausted)),
        t.refused(&started[2], 3_600),
    ];
    assert_eq!(t.settle(&settlements).await.settled, 3);
    let due = t.now() + Duration::from_secs(3_600);
    t.outlive_leases();
    assert_eq!(recover(t, 10).await, 1);
    assert_eq!(ids(&t.lease(&[hook]).await), [started[3].id]);
    let states = started.iter().map(|leased| leased.id);
    let expected = [
        (DeliveryState::Delivered, 1, None),
        (DeliveryState::Failed, 1, None),
        (DeliveryState::Pending, 1, Some(due)),
        (DeliveryState::InFlight, 0, None),
    ];
    for (id, expected) in states.zip(expected) {
        let report = t.delivery(id).await;
        let shown = (report.state, report.attempts, report.next_attempt_at);
        assert_eq!(shown, expected);
    }
    assert_eq!(recover(t, 10).await, 0);
}

#[conformance]
async fn a_retry_outlives_the_lease_it_began_under(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    t.settle(&[t.refused(&started[0], 50), t.refused(&started[1], 50)])
        .await;
    t.advance(50);
    let again = t.lease(&[hook]).await;
    assert_eq!(sorted(ids(&again)), sorted(ids(&started[..2])));
    assert_eq!(t.settle(&[t.refused(&again[0], 5)]).await.settled, 1);
    t.advance(11);
    assert_eq!(recover(t, 10).await, 1, "the one that was never attempted");
    assert_eq!(t.delivery(again[1].id).await.state, DeliveryState::InFlight);
    let report = t.delivery(again[0].id).await;
    assert_eq!((report.state, report.attempts), (DeliveryState::Pending, 2));
    assert_eq!(t.settle(&[t.accepted(&again[1])]).await.settled, 1);
    let attempts = t.attempts(again[1].id).await;
    assert_eq!(attempts.len(), 2);
}

#[conformance]
async fn a_batch_settled_before_changes_nothing_while_others_are_open(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 6).await;
    let settlements = [
        t.accepted(&started[0]),
        t.refused(&started[1], 0),
        t.settlement(&started[2], refusal(500), Step::Failed(Reason::Exhausted)),
    ];
    assert_eq!(t.settle(&settlements).await.settled, 3);
    let counted = t.shown(hook).await.fail_count;
    let again = t.lease(&[hook]).await.remove(0);
    for _ in 0..3 {
        let settled = t.settle(&settlements).await;
        let replayed = SettleResult {
            replayed: 3,
            ..SettleResult::default()
        };
        assert_eq!(settled, replayed);
    }
    assert_eq!(t.shown(hook).await.fail_count, counted);
    for leased in &started[..3] {
        assert_eq!(t.attempts(leased.id).await.len(), 1);
    }
    assert_eq!(t.delivery(again.id).await.state, DeliveryState::InFlight);

    // Together with new ones, too; and what is open then is still known.
    let mut batch = settlements.to_vec();
    batch.push(t.accepted(&started[3]));
    let settled = t.settle(&batch).await;
    assert_eq!((settled.settled, settled.replayed), (1, 3));
    t.settle(&[t.accepted(&again)]).await;
    t.outlive_leases();
    assert_eq!(recover(t, 10).await, 2);
    let left = t.lease(&[hook]).await;
    assert_eq!(sorted(ids(&left)), sorted(ids(&started[4..])));
}

#[conformance]
async fn a_second_attempt_under_the_lease_is_late(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    t.settle(&[t.accepted(&started[0])]).await;
    for _ in 0..2 {
        let settled = t.settle(&[t.refused(&started[0], 0)]).await;
        assert_eq!((settled.settled, settled.late), (0, vec![started[0].id]));
    }
    let report = t.delivery(started[0].id).await;
    assert_eq!(
        (report.state, report.attempts),
        (DeliveryState::Delivered, 1)
    );
    assert_eq!(t.shown(hook).await.fail_count, 0);
    t.outlive_leases();
    assert_eq!(recover(t, 10).await, 2, "the others are still known");
}

#[conformance]
async fn a_late_attempt_leaves_it_open(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 2).await;
    let mut late = t.accepted(&started[0]);
    late.leased.token = LeaseToken::draw(t.now());
    assert_eq!(t.settle(&[late]).await.late, [started[0].id]);
    assert_eq!(
        t.delivery(started[0].id).await.state,
        DeliveryState::InFlight
    );
    t.outlive_leases();
    assert_eq!(recover(t, 10).await, 2);
    let again = t.lease(&[hook]).await;
    assert_eq!(sorted(ids(&again)), sorted(ids(&started)));
}

#[conformance]
async fn an_open_one_is_not_sent_again(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    t.settle(&[t.accepted(&started[0])]).await;
    let error = t.store.redeliver(started[1].id, t.now()).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    let report = t.store.redeliver(started[0].id, t.now()).await.unwrap();
    assert_eq!((report.state, report.attempts), (DeliveryState::Pending, 1));
    let rest = [t.accepted(&started[1]), t.accepted(&started[2])];
    assert_eq!(t.settle(&rest).await.settled, 2, "their lease still holds");
}

#[conformance]
async fn one_of_several_whose_lease_has_run_out_is_sent_again(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    t.outlive_leases();
    let report = t.store.redeliver(started[0].id, t.now()).await.unwrap();
    assert_eq!((report.state, report.attempts), (DeliveryState::Pending, 0));
    let again = t.lease(&[hook]).await;
    assert_eq!(ids(&again), [started[0].id]);
    assert_eq!(
        t.settle(&[t.accepted(&started[0])]).await.late,
        [started[0].id]
    );
    assert_eq!(recover(t, 10).await, 2);
    assert_eq!(t.settle(&[t.accepted(&again[0])]).await.settled, 1);
    assert_eq!(t.lease(&[hook]).await.len(), 2);
}

#[conformance]
async fn open_ones_are_listed_as_in_flight(t: &TestStore) {
    let hook = t.hook("work").await;
    let other = t.hook("work").await;
    let events = t.insert_many("work", 5).await;
    let started = t.fan_out().await.started;
    assert_eq!(started.len(), 10);
    let settlements: Vec<_> = started
        .iter()
        .filter(|leased| leased.event.id == events[1])
        .map(|leased| t.accepted(leased))
        .collect();
    assert_eq!(t.settle(&settlements).await.settled, 2);
    let in_flight = |hook: Option<HookId>, limit| DeliveryFilter {
        hook,
        state: Some(DeliveryState::InFlight),
        limit,
        ..DeliveryFilter::default()
    };
    let listed = |filter: DeliveryFilter| async {
        let found = t.store.deliveries(filter).await.unwrap();
        assert!(found.is_sorted_by(|a, b| a.id > b.id));
        assert!(found.iter().all(|d| d.event_type == "work"));
        found
    };
    assert_eq!(listed(in_flight(None, 100)).await.len(), 8);
    let of_hook = listed(in_flight(Some(other), 100)).await;
    let expected = [4, 3, 2, 0].map(|n| DeliveryId::of(events[n], other));
    assert_eq!(
        of_hook.iter().map(|d| d.id).collect::<Vec<_>>(),
        expected,
        "what is settled is in flight no more"
    );
    let mut pages = Vec::new();
    loop {
        let page = DeliveryFilter {
            before: pages.last().copied(),
            ..in_flight(Some(other), 3)
        };
        let page = listed(page).await;
        pages.extend(page.iter().map(|d| d.id));
        if page.len() < 3 {
            break;
        }
    }
    assert_eq!(pages, expected);
    let of_event = DeliveryFilter {
        event: Some(events[0]),
        limit: 10,
        ..DeliveryFilter::default()
    };
    let of_event = listed(of_event).await;
    let expected = [hook, other].map(|hook| DeliveryId::of(events[0], hook));
    let found: BTreeSet<_> = of_event.iter().map(|d| d.id).collect();
    assert_eq!(found, BTreeSet::from(expected));
    assert!(of_event.iter().all(|d| d.state == DeliveryState::InFlight));
    let everything = DeliveryFilter {
        limit: 100,
        ..DeliveryFilter::default()
    };
    assert_eq!(listed(everything).await.len(), 10, "each once");
    assert!(t.attempts(expected[0]).await.is_empty());
}

async fn give_back(t: &TestStore, leased: &[Leased]) -> u32 {
    let released = t
        .store
        .release(t.slot, leased[0].token, &ids(leased), t.now())
        .await;
    released.unwrap()
}

async fn recover(t: &TestStore, limit: u32) -> u32 {
    let schedule = RetrySchedule::default();
    let done = t.store.recover(t.slot, t.now(), limit, &schedule).await;
    done.unwrap().recovered
}

fn ids(leased: &[Leased]) -> Vec<DeliveryId> {
    leased.iter().map(|leased| leased.id).collect()
}

fn sorted(mut ids: Vec<DeliveryId>) -> Vec<DeliveryId> {
    ids.sort();
    ids
}
