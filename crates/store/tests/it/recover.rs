//! Leases that ended without a settlement.

use chrono::SubsecRound;
use postrider_core::{DeliveryId, HookId, HookSettings, RetrySchedule, Span, Timestamp};
use postrider_store::{DeliveryState, HookChange, HookReport, Leased, RecoverResult};
use postrider_tests::{TestStore, conformance, new_hook};

#[conformance]
async fn a_lease_that_has_not_ended_is_left_alone(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    t.advance(30);
    assert_eq!(recover(t).await, RecoverResult::default());
    assert_eq!(t.delivery(leased.id).await.state, DeliveryState::InFlight);
}

#[conformance]
async fn exactly_what_was_not_settled_comes_back(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 10).await;
    let settlements: Vec<_> = started[..6]
        .iter()
        .map(|leased| t.accepted(leased))
        .collect();
    t.settle(&settlements).await;
    t.outlive_leases();
    assert_eq!(recover(t).await.recovered, 4);
    let mut again: Vec<_> = t.lease(&[hook]).await.iter().map(|l| l.id).collect();
    again.sort();
    let mut expected: Vec<_> = started[6..].iter().map(|leased| leased.id).collect();
    expected.sort();
    assert_eq!(again, expected);
}

#[conformance]
async fn at_most_the_limit_is_recovered(t: &TestStore) {
    let hook = t.hook("work").await;
    t.started(hook, 5).await;
    t.outlive_leases();
    let schedule = RetrySchedule::default();
    for expected in [2, 2, 1, 0] {
        let done = t.store.recover(t.slot, t.now(), 2, &schedule).await;
        assert_eq!(done.unwrap().recovered, expected);
    }
}

#[conformance]
async fn two_that_recover_at_once_share_the_work(t: &TestStore) {
    let hook = t.hook("work").await;
    t.started(hook, 60).await;
    t.outlive_leases();
    let second = t.another().await;
    let mut callers = Vec::new();
    for store in [t.store.clone(), second.clone(), t.store.clone(), second] {
        let (slot, now) = (t.slot, t.now());
        callers.push(tokio::spawn(async move {
            let schedule = RetrySchedule::default();
            let done = store.recover(slot, now, 100, &schedule).await;
            done.unwrap().recovered
        }));
    }
    let mut all = 0;
    for caller in callers {
        all += caller.await.unwrap();
    }
    assert_eq!(all + recover(t).await.recovered, 60);
}

#[conformance]
async fn the_third_loss_in_a_row_is_an_attempt(t: &TestStore) {
    let hook = t.hook("work").await;
    let id = t.started(hook, 1).await[0].id;
    lose_three_workers(t, hook).await;

    let attempts = t.attempts(id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].number, attempts[0].late), (1, false));
    assert_eq!(attempts[0].outcome, "worker_lost");
    let report = t.delivery(id).await;
    assert_eq!((report.state, report.attempts), (DeliveryState::Pending, 1));
    let delay = schedule().delay_after(id, 1).unwrap();
    assert_eq!(report.next_attempt_at, Some(micros(t.now() + delay)));
    let health = t.shown(hook).await;
    assert_eq!(health.fail_count, 0, "not the hook's failure");

    t.clock.advance(delay);
    let again = t.lease(&[hook]).await.remove(0);
    assert_eq!(again.attempts, 1);
}

#[conformance]
async fn the_losses_are_counted_anew_after_an_attempt(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut leased = t.started(hook, 1).await.remove(0);
    for _ in 0..2 {
        t.outlive_leases();
        assert_eq!(recover(t).await.recovered, 1);
        leased = t.lease(&[hook]).await.remove(0);
    }
    t.settle(&[t.refused(&leased, 0)]).await;
    for _ in 0..2 {
        t.lease(&[hook]).await;
        t.outlive_leases();
        let expected = RecoverResult {
            recovered: 1,
            worker_lost: 0,
        };
        assert_eq!(recover(t).await, expected);
    }
    t.lease(&[hook]).await;
    t.outlive_leases();
    assert_eq!(recover(t).await.worker_lost, 1);
    let numbers: Vec<_> = t
        .attempts(leased.id)
        .await
        .iter()
        .map(|a| a.number)
        .collect();
    assert_eq!(numbers, [1, 2]);
}

#[conformance]
async fn a_hooks_own_schedule_counts(t: &TestStore) {
    let own = RetrySchedule::new(vec![Span::secs(7_000)]);
    let hook = hook_with_schedule(t, own.clone()).await;
    let id = t.started(hook.id, 1).await[0].id;
    lose_three_workers(t, hook.id).await;
    let expected = micros(t.now() + own.delay_after(id, 1).unwrap());
    assert_eq!(t.delivery(id).await.next_attempt_at, Some(expected));
}

#[conformance]
async fn a_lost_worker_uses_up_the_schedule_too(t: &TestStore) {
    let hook = hook_with_schedule(t, RetrySchedule::new(Vec::new())).await;
    let id: DeliveryId = t.started(hook.id, 1).await[0].id;
    lose_three_workers(t, hook.id).await;
    let report = t.delivery(id).await;
    assert_eq!(report.state, DeliveryState::Failed);
    assert_eq!(report.reason.as_deref(), Some("exhausted"));
    assert_eq!((report.attempts, report.next_attempt_at), (1, None));
    assert!(t.lease(&[hook.id]).await.is_empty());
}

#[conformance]
async fn a_lost_lease_of_a_hook_not_active_comes_back_held(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased: Leased = t.started(hook, 1).await.remove(0);
    t.store
        .change_hook(hook, HookChange::Pause, "test", t.now())
        .await
        .unwrap();
    t.outlive_leases();
    assert_eq!(recover(t).await.recovered, 1);
    assert_eq!(t.delivery(leased.id).await.state, DeliveryState::Held);
}

/// Ends the running lease and two more without a settlement.
async fn lose_three_workers(t: &TestStore, hook: HookId) {
    for loss in 1..=3 {
        t.outlive_leases();
        let done = recover(t).await;
        let (due, lost) = (done.recovered, done.worker_lost);
        assert_eq!((due, lost), if loss < 3 { (1, 0) } else { (0, 1) });
        if loss < 3 {
            assert_eq!(t.lease(&[hook]).await.len(), 1);
        }
    }
}

async fn recover(t: &TestStore) -> RecoverResult {
    let done = t.store.recover(t.slot, t.now(), 100, &schedule()).await;
    done.unwrap()
}

/// The moment as a store keeps it.
fn micros(at: Timestamp) -> Timestamp {
    at.trunc_subsecs(6)
}

fn schedule() -> RetrySchedule {
    RetrySchedule::new(vec![Span::secs(100), Span::secs(200), Span::secs(300)])
}

async fn hook_with_schedule(t: &TestStore, schedule: RetrySchedule) -> HookReport {
    let mut hook = new_hook("default", &["work"]);
    hook.settings = HookSettings {
        retry_schedule: Some(schedule),
        ..HookSettings::default()
    };
    t.register(hook).await
}
