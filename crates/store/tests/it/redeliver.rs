//! Sending one delivery again.

use postrider_core::{DeliveryId, Reason};
use postrider_store::{DeliveryFilter, DeliveryState, Error, HookChange, Step};
use postrider_tests::{TestStore, conformance, refusal};
use std::time::Duration;
use uuid::Uuid;

#[conformance]
async fn one_that_waits_is_due_now_with_its_schedule_begun_anew(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    t.settle(&[t.refused(&leased, 3_600)]).await;
    t.advance(10);
    let report = t.store.redeliver(leased.id, t.now()).await.unwrap();
    assert_eq!(
        (report.id, report.state),
        (leased.id, DeliveryState::Pending)
    );
    assert_eq!(report.next_attempt_at, Some(t.now()));
    let again = t.lease(&[hook]).await.remove(0);
    assert_eq!((again.attempts, again.earlier_attempts), (1, 1));
}

#[conformance]
async fn one_that_failed_is_sent_again(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    let step = Step::Failed(Reason::Exhausted);
    t.settle(&[t.settlement(&leased, refusal(500), step)]).await;
    again(t, leased.id).await;
    let report = t.delivery(leased.id).await;
    assert_eq!(report.state, DeliveryState::Delivered);
    assert_eq!((report.attempts, report.reason), (2, None));
    let numbers: Vec<_> = t
        .attempts(leased.id)
        .await
        .iter()
        .map(|a| a.number)
        .collect();
    assert_eq!(numbers, [1, 2]);
}

#[conformance]
async fn one_that_was_delivered_is_sent_again(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    t.settle(&[t.accepted(&leased)]).await;
    again(t, leased.id).await;
    assert_eq!(t.attempts(leased.id).await.len(), 2);
    again(t, leased.id).await;
    let report = t.delivery(leased.id).await;
    assert_eq!(
        (report.state, report.attempts),
        (DeliveryState::Delivered, 3)
    );
}

#[conformance]
async fn one_that_is_sent_again_is_listed_once(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    t.settle(&[t.accepted(&leased)]).await;
    t.store.redeliver(leased.id, t.now()).await.unwrap();
    for state in [None, Some(DeliveryState::Pending)] {
        let filter = DeliveryFilter {
            state,
            limit: 10,
            ..DeliveryFilter::default()
        };
        let listed = t.store.deliveries(filter).await.unwrap();
        let listed: Vec<_> = listed.iter().map(|d| (d.id, d.state)).collect();
        assert_eq!(listed, [(leased.id, DeliveryState::Pending)]);
    }
    let delivered = DeliveryFilter {
        state: Some(DeliveryState::Delivered),
        limit: 10,
        ..DeliveryFilter::default()
    };
    assert!(t.store.deliveries(delivered).await.unwrap().is_empty());
}

#[conformance]
async fn one_that_fails_again_keeps_its_latest_reason(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    let step = Step::Failed(Reason::Exhausted);
    t.settle(&[t.settlement(&leased, refusal(500), step)]).await;
    t.store.redeliver(leased.id, t.now()).await.unwrap();
    let leased = t.lease(&[hook]).await.remove(0);
    let step = Step::Failed(Reason::Gone);
    t.settle(&[t.settlement(&leased, refusal(410), step)]).await;
    let report = t.delivery(leased.id).await;
    assert_eq!(report.state, DeliveryState::Failed);
    assert_eq!(report.reason.as_deref(), Some("gone"));
    assert_eq!(report.attempts, 2);
}

#[conformance]
async fn one_in_flight_is_a_conflict(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    let error = t.store.redeliver(leased.id, t.now()).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    let settled = t.settle(&[t.accepted(&leased)]).await;
    assert_eq!(settled.settled, 1, "its lease still holds");
}

#[conformance]
async fn one_whose_lease_has_run_out_is_sent_again(t: &TestStore) {
    let hook = t.hook("work").await;
    let lost = t.started(hook, 1).await.remove(0);
    t.outlive_leases();
    t.store.redeliver(lost.id, t.now()).await.unwrap();
    let leased = t.lease(&[hook]).await.remove(0);
    assert_eq!(t.settle(&[t.accepted(&lost)]).await.late, [lost.id]);
    assert_eq!(t.settle(&[t.accepted(&leased)]).await.settled, 1);
}

#[conformance]
async fn one_whose_hook_was_deleted_is_a_conflict(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    let failed = Step::Failed(Reason::Exhausted);
    t.settle(&[
        t.accepted(&started[0]),
        t.settlement(&started[1], refusal(500), failed),
        t.refused(&started[2], 60),
    ])
    .await;
    t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    for leased in &started {
        let error = t.store.redeliver(leased.id, t.now()).await.unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    }
}

#[conformance]
async fn one_of_a_paused_hook_is_held(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    t.settle(&[t.accepted(&leased)]).await;
    t.store
        .change_hook(hook, HookChange::Pause, "test", t.now())
        .await
        .unwrap();
    let report = t.store.redeliver(leased.id, t.now()).await.unwrap();
    assert_eq!(report.state, DeliveryState::Held);
    assert!(t.lease(&[hook]).await.is_empty());
}

#[conformance]
async fn an_unknown_one_is_not_found(t: &TestStore) {
    let unknown = DeliveryId(Uuid::from_u128(7));
    let error = t.store.redeliver(unknown, t.now()).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::NotFound {
                what: "delivery",
                ..
            }
        ),
        "{error:?}"
    );
}

#[conformance]
async fn several_that_ask_at_once_make_one_delivery(t: &TestStore) {
    const DELIVERIES: usize = 21;
    let hook = t.hook("work").await;
    let started = t.started(hook, DELIVERIES).await;
    let settlements = started.iter().enumerate().map(|(n, leased)| match n % 3 {
        0 => t.accepted(leased),
        1 => t.settlement(leased, refusal(500), Step::Failed(Reason::Exhausted)),
        _ => t.refused(leased, 3_600),
    });
    t.settle(&settlements.collect::<Vec<_>>()).await;
    let second = t.another().await;
    let mut callers = Vec::new();
    for leased in &started {
        for store in [&t.store, &second, &t.store, &second] {
            let (store, id, now) = (store.clone(), leased.id, t.now());
            callers.push(tokio::spawn(async move { store.redeliver(id, now).await }));
        }
    }
    for caller in callers {
        let report = caller.await.unwrap().unwrap();
        assert_eq!(report.state, DeliveryState::Pending);
        assert_eq!(report.next_attempt_at, Some(t.now()));
    }
    let again = t.lease(&[hook]).await;
    assert_eq!(again.len(), DELIVERIES);
    assert!(again.iter().all(|leased| leased.attempts == 1));
}

#[conformance]
async fn one_that_ends_meanwhile_is_found(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 40).await;
    let second = t.another().await;
    for (number, leased) in started.iter().enumerate() {
        let failed = Step::Failed(Reason::Exhausted);
        let settlement = match number % 2 {
            0 => t.accepted(leased),
            _ => t.settlement(leased, refusal(500), failed),
        };
        let settling = {
            let (store, now) = (t.store.clone(), t.now());
            tokio::spawn(async move { store.settle(now, &[settlement]).await })
        };
        let asking = [&t.store, &second].map(|store| {
            let (store, id, now) = (store.clone(), leased.id, t.now());
            tokio::spawn(async move { store.redeliver(id, now).await })
        });
        assert_eq!(settling.await.unwrap().unwrap().settled, 1);
        let mut sent_again = false;
        for caller in asking {
            match caller.await.unwrap() {
                Ok(report) => sent_again |= report.state == DeliveryState::Pending,
                Err(error) => assert!(matches!(error, Error::Conflict(_)), "{error:?}"),
            }
        }
        // Whoever asked before the end was told of a conflict; whoever asked after it made
        // the delivery wait again, with its attempt counted.
        let report = t.delivery(leased.id).await;
        assert_eq!(report.state == DeliveryState::Pending, sent_again);
        assert_eq!(report.attempts, 1);
    }
}

#[conformance]
async fn one_that_is_cancelled_meanwhile_is_a_conflict(t: &TestStore) {
    for _ in 0..10 {
        let hook = t.hook("work").await;
        let id = t.waiting(hook, 1).await[0];
        t.store.remove_hook(hook, "test", t.now()).await.unwrap();
        let (store, second, now) = (t.store.clone(), t.another().await, t.now());
        let cancelling = tokio::spawn(async move { store.upkeep(now, 100).await });
        let asking = tokio::spawn(async move { second.redeliver(id, now).await });
        assert_eq!(cancelling.await.unwrap().unwrap().cancelled, 1);
        let error = asking.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error:?}");
        assert_eq!(t.delivery(id).await.state, DeliveryState::Cancelled);
    }
}

#[conformance]
async fn one_whose_event_is_gone_is_a_conflict(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 2).await;
    t.settle(&[t.accepted(&started[0]), t.refused(&started[1], 60)])
        .await;
    t.sql().await.run("DELETE FROM postrider_events").await;
    for leased in &started {
        let error = t.store.redeliver(leased.id, t.now()).await.unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    }
}

/// Redelivers and delivers.
async fn again(t: &TestStore, id: DeliveryId) {
    t.clock.advance(Duration::from_secs(3_600));
    let before = t.attempts(id).await.len() as u32;
    let report = t.store.redeliver(id, t.now()).await.unwrap();
    assert_eq!(report.state, DeliveryState::Pending);
    assert_eq!(report.next_attempt_at, Some(t.now()));
    assert_eq!(report.reason, None);
    let leased = t.lease(&[report.hook_id]).await.remove(0);
    assert_eq!((leased.id, leased.attempts), (id, before));
    assert_eq!(leased.earlier_attempts, before);
    let settled = t.settle(&[t.accepted(&leased)]).await;
    assert_eq!(settled.settled, 1);
}
