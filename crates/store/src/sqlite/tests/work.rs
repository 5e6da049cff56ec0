//! The life of deliveries, once around, so that every statement has run.

use super::*;
use crate::store::*;
use crate::{DeliveryFilter, DeliveryState, HookChange, Upkeep};
use postrider_core::{DisabledReason, Reason, RetrySchedule, Span};

#[tokio::test]
async fn a_delivery_is_leased_retried_delivered_and_sent_again() {
    let file = TestFile::new().await;
    let hook = file.hook("order.*").await;
    file.enqueue(3).await;
    assert_eq!(file.store.peek().await.unwrap().outbox, [0]);
    let done = file.fan_out(2).await;
    assert_eq!((done.events, done.deliveries, done.more), (3, 3, false));
    assert_eq!(
        (done.started.len(), done.waiting.as_slice()),
        (2, &[hook][..])
    );
    assert_eq!(done.started[0].first().event.payload.as_str(), "0");
    assert_eq!(file.store.slots().await.unwrap(), [0]);
    let due = file.store.due_hooks(0, None, 10).await.unwrap();
    assert_eq!((due.len(), due[0].hook, due[0].first_due), (1, hook, now()));
    assert_eq!(file.store.due_hooks(0, Some(hook), 10).await.unwrap(), []);

    let settled = file
        .store
        .settle(
            now(),
            &[
                accepted(&done.started[0]),
                refused(&done.started[1], 500, Step::Retry(later())),
            ],
        )
        .await
        .unwrap();
    assert_eq!((settled.settled, settled.replayed), (2, 0));
    assert_eq!(file.store.hook(hook).await.unwrap().fail_count, 1);
    let leased = file.store.lease(lease(hook, 10, later())).await.unwrap();
    assert_eq!(leased.len(), 2);
    assert_eq!((leased[0].attempts, leased[1].attempts), (0, 1));
    assert_eq!(leased[1].first().event.payload.as_str(), "1");
    let failed = refused(&leased[1], 500, Step::Failed(Reason::Exhausted));
    file.store
        .settle(later(), &[accepted(&leased[0]), failed])
        .await
        .unwrap();

    let again = file
        .store
        .redeliver(leased[1].first().id, later())
        .await
        .unwrap();
    assert_eq!((again.state, again.attempts), (DeliveryState::Pending, 2));
    let again = file
        .store
        .redeliver(done.started[0].first().id, later())
        .await
        .unwrap();
    assert_eq!((again.state, again.attempts), (DeliveryState::Pending, 1));
    let leased = file.store.lease(lease(hook, 10, later())).await.unwrap();
    assert_eq!(leased.len(), 2);
    assert!(leased.iter().all(|l| l.attempts == l.earlier_attempts));
    let conflict = file.store.redeliver(leased[0].first().id, later()).await;
    assert!(matches!(conflict, Err(crate::Error::Conflict(_))));
    let ids = [leased[0].first().id, leased[1].first().id];
    let released = file
        .store
        .release(0, leased[0].lease.token, &ids, now())
        .await;
    assert_eq!(released.unwrap(), 2);
    let attempts = file.store.attempts(leased[1].first().id).await.unwrap();
    assert!(!attempts.is_empty());
}

#[tokio::test]
async fn a_replayed_settlement_changes_nothing_and_a_stale_one_only_leaves_its_attempt() {
    let file = TestFile::new().await;
    let hook = file.hook("*").await;
    file.enqueue(1).await;
    let first = file.fan_out(1).await.started.remove(0);
    let recovered = file
        .store
        .recover(0, later(), 10, &RetrySchedule::default())
        .await;
    assert_eq!(recovered.unwrap().recovered, 1);
    let second = file
        .store
        .lease(lease(hook, 1, later()))
        .await
        .unwrap()
        .remove(0);
    let stale = refused(&first, 500, Step::Retry(later()));
    let settled = file
        .store
        .settle(later(), std::slice::from_ref(&stale))
        .await
        .unwrap();
    assert_eq!((settled.settled, settled.late.len()), (0, 1));
    let settled = file
        .store
        .settle(later(), std::slice::from_ref(&stale))
        .await
        .unwrap();
    assert_eq!((settled.settled, settled.replayed), (0, 1));
    assert_eq!(file.store.hook(hook).await.unwrap().fail_count, 0);
    let good = accepted(&second);
    let twice = [good.clone(), good];
    let settled = file.store.settle(later(), &twice).await.unwrap();
    assert_eq!((settled.settled, settled.replayed), (1, 1));
    let report = file.store.delivery(first.first().id).await.unwrap();
    assert_eq!(
        (report.state, report.attempts),
        (DeliveryState::Delivered, 1)
    );
    assert_eq!(
        file.count("SELECT count(*) FROM postrider_deliveries")
            .await,
        0
    );
}

#[tokio::test]
async fn a_hook_that_keeps_failing_is_disabled_once() {
    let file = TestFile::new().await;
    let hook = file.hook("*").await;
    file.enqueue(4).await;
    let started = file.fan_out(4).await.started;
    let batch: Vec<_> = started
        .iter()
        .map(|leased| refused(leased, 500, Step::Retry(later())))
        .collect();
    let settled = file.store.settle(now(), &batch).await.unwrap();
    assert_eq!(settled.disabled.len(), 1);
    assert_eq!(settled.disabled[0].reason, DisabledReason::Failures);
    let report = file.store.hook(hook).await.unwrap();
    assert_eq!(
        (report.status.as_str(), report.fail_count, report.held),
        ("disabled", 4, 4)
    );
    assert_eq!(report.disabled_by.as_deref(), Some("postrider"));
    assert!(
        file.store
            .lease(lease(hook, 4, later()))
            .await
            .unwrap()
            .is_empty()
    );
    let held = DeliveryFilter {
        state: Some(DeliveryState::Held),
        limit: 10,
        ..Default::default()
    };
    assert_eq!(file.store.deliveries(held).await.unwrap().len(), 4);
    let report = file
        .store
        .change_hook(hook, HookChange::Enable, "cli", later())
        .await
        .unwrap();
    assert_eq!((report.status.as_str(), report.fail_count), ("active", 0));
    assert_eq!(
        file.store
            .lease(lease(hook, 4, later()))
            .await
            .unwrap()
            .len(),
        4
    );
}

#[tokio::test]
async fn a_delivery_that_loses_its_worker_three_times_has_made_an_attempt() {
    let file = TestFile::new().await;
    let hook = file.hook("*").await;
    file.enqueue(1).await;
    let leased = file.fan_out(1).await.started.remove(0);
    let schedule = RetrySchedule::new(vec![Span::secs(100)]);
    let mut at = now();
    for round in 1..=6 {
        at += TimeDelta::minutes(1);
        let done = file.store.recover(0, at, 10, &schedule).await.unwrap();
        assert_eq!(done.worker_lost, u32::from(round % 3 == 0), "round {round}");
        if round == 3 {
            at += TimeDelta::minutes(2);
        }
        if round < 6 {
            assert_eq!(file.store.lease(lease(hook, 1, at)).await.unwrap().len(), 1);
        }
    }
    let report = file.store.delivery(leased.first().id).await.unwrap();
    assert_eq!((report.state, report.attempts), (DeliveryState::Failed, 2));
    assert_eq!(report.reason.as_deref(), Some("exhausted"));
    let attempts = file.store.attempts(leased.first().id).await.unwrap();
    assert_eq!(
        attempts.iter().map(|a| a.number).collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(attempts.iter().all(|a| a.outcome == "worker_lost"));
}

#[tokio::test]
async fn deliveries_of_a_deleted_hook_are_cancelled() {
    let file = TestFile::new().await;
    let (hook, other) = (file.hook("*").await, file.hook("*").await);
    file.enqueue(5).await;
    file.fan_out(0).await;
    let idle = file.store.upkeep(now(), 3).await.unwrap();
    assert_eq!(idle, Upkeep::default());
    file.store.remove_hook(hook, "test", now()).await.unwrap();
    let first = file.store.upkeep(now(), 3).await.unwrap();
    assert_eq!((first.cancelled, first.more), (3, true));
    let second = file.store.upkeep(now(), 3).await.unwrap();
    assert_eq!((second.cancelled, second.more), (2, false));
    let cancelled = DeliveryFilter {
        state: Some(DeliveryState::Cancelled),
        limit: 10,
        ..Default::default()
    };
    let cancelled = file.store.deliveries(cancelled).await.unwrap();
    assert_eq!(cancelled.len(), 5);
    assert!(cancelled.iter().all(|d| d.hook_id == hook));
    let conflict = file.store.redeliver(cancelled[0].id, now()).await;
    assert!(matches!(conflict, Err(crate::Error::Conflict(_))));
    assert_eq!(
        file.store
            .lease(lease(other, 10, now()))
            .await
            .unwrap()
            .len(),
        5
    );
}

#[tokio::test]
async fn a_hook_that_another_process_changed_is_seen_before_the_next_match() {
    let file = TestFile::new().await;
    let hook = file.hook("order.*").await;
    let other = file.again().await;
    file.enqueue(1).await;
    assert_eq!(file.fan_out(1).await.started.len(), 1);
    other
        .change_hook(hook, HookChange::Pause, "cli", now())
        .await
        .unwrap();
    file.enqueue(1).await;
    let done = file.fan_out(1).await;
    assert_eq!((done.deliveries, done.started.len()), (1, 0));
    other.remove_hook(hook, "test", now()).await.unwrap();
    file.store.peek().await.unwrap();
    assert!(file.store.hook_cache().is_empty());
}

#[tokio::test]
async fn a_secret_is_shown_when_it_is_made_and_opened_with_the_key() {
    let file = TestFile::new().await;
    let made = file
        .store
        .create_hook(new_hook("*"), "test", now())
        .await
        .unwrap();
    let secret = SigningSecret::generate();
    let change = HookChange::Rotate {
        secret: secret.clone(),
        overlap_until: later(),
    };
    let rotated = file
        .store
        .change_hook(made.id, change, "cli", now())
        .await
        .unwrap();
    assert_eq!(rotated.secret, Some(secret.reveal()));
    assert_ne!(rotated.secret, made.secret);
    assert_eq!(file.store.hook(made.id).await.unwrap().secret, None);
    let hook = file.store.hook_with_credentials(made.id).await.unwrap();
    assert_eq!(hook.credentials.secrets.len(), 2);

    let stranger = open(&file.folder, &KeyRing::generate_key()).await;
    file.enqueue(1).await;
    let done = stranger.fan_out(fan_out(1)).await.unwrap();
    assert_eq!((done.deliveries, done.started.len()), (1, 0));
    assert!(
        stranger
            .lease(lease(made.id, 1, now()))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        file.store
            .lease(lease(made.id, 1, now()))
            .await
            .unwrap()
            .len(),
        1
    );
}
