//! Gated hooks, whose deliveries only their owner starts, and how they are throttled.

use crate::support::drained;
use postrider_core::{
    DeliveryId, HookError, HookId, HookSettings, Outcome, Phase, SettingsChange, WorkerId,
};
use postrider_store::{Error, HookChange, HookPhase, HookRequest, Settlement, Step};
use postrider_tests::{TestStore, conformance, new_hook, refusal};
use std::time::Duration;

#[conformance]
async fn fan_out_starts_nothing_of_a_gated_hook(t: &TestStore) {
    let (limited, free) = (limited(t).await, t.hook("work").await);
    t.insert_many("work", 3).await;
    let done = t.fan_out().await;
    assert_eq!(done.deliveries, 6);
    assert_eq!(done.waiting, [limited], "it has something for its owner");
    assert!(done.started.iter().all(|leased| leased.hook.id == free));
    assert_eq!(done.started.len(), 3);
    assert_eq!(t.lease(&[limited]).await.len(), 3);
}

#[conformance]
async fn failures_in_a_row_back_a_hook_off(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 6).await;
    fail(t, &started[..4]).await;
    assert_eq!(t.shown(hook).await.phase, None);
    let version = t.store.peek().await.unwrap().hooks_version;
    let standing = fail(t, &started[4..5]).await;
    assert_eq!(standing.phase, Some(Phase::BackedOff));
    assert_eq!(standing.version, Some(version + 1));
    let peek = t.store.peek().await.unwrap();
    assert_eq!(peek.hooks_version, version + 1, "every worker learns of it");
    let known = t.store.hook_cache().get(hook).unwrap().phase;
    assert_eq!(known, Some(Phase::BackedOff));
    let shown = t.shown(hook).await;
    assert_eq!(shown.phase, Some(Phase::BackedOff));
    assert_eq!(shown.not_before, standing.not_before);
    assert_eq!(shown.status, "active");

    // What was in flight when it was backed off is no probe, and no news.
    let standing = fail(t, &started[5..]).await;
    assert_eq!(
        (standing.version, standing.not_before),
        (None, shown.not_before)
    );
    assert_eq!(t.store.peek().await.unwrap().hooks_version, version + 1);
}

#[conformance]
async fn a_hook_that_is_busy_is_left_alone_at_once(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 1).await;
    let busy = Outcome::refused(429, Some(Duration::from_secs(30)));
    let again = Step::Retry(t.now() + Duration::from_secs(300));
    let settlement = t.settlement(&started[0], busy, again);
    let ended = settlement.attempts.first.at + settlement.attempts.first.duration;
    t.settle(&[settlement]).await;
    let shown = t.shown(hook).await;
    assert_eq!(shown.phase, Some(Phase::BackedOff));
    assert_eq!(shown.not_before, Some(ended + Duration::from_secs(30)));
    assert_eq!(shown.fail_count, 1);
}

#[conformance]
async fn an_accepted_probe_starts_the_ramp(t: &TestStore) {
    let hook = t.hook("work").await;
    backed_off(t, hook).await;
    t.advance(2);
    let probe = t.lease(&[hook]).await.remove(0);
    let settled = t.settle(&[t.accepted(&probe)]).await;
    assert_eq!(settled.phases[0].phase, Some(Phase::Ramping));
    let shown = t.shown(hook).await;
    assert_eq!(
        (shown.phase, shown.not_before),
        (Some(Phase::Ramping), None)
    );

    // It stays gated until its owner says that it has ramped up.
    let version = t.store.peek().await.unwrap().hooks_version;
    t.store.end_ramps(&[hook]).await.unwrap();
    assert_eq!(t.shown(hook).await.phase, None);
    assert_eq!(t.store.peek().await.unwrap().hooks_version, version + 1);
    t.store.end_ramps(&[hook]).await.unwrap();
    assert_eq!(t.store.peek().await.unwrap().hooks_version, version + 1);
}

#[conformance]
async fn a_ramp_that_failed_meanwhile_does_not_end(t: &TestStore) {
    let hook = t.hook("work").await;
    backed_off(t, hook).await;
    t.store.end_ramps(&[hook]).await.unwrap();
    assert_eq!(t.shown(hook).await.phase, Some(Phase::BackedOff));
}

#[conformance]
async fn enabling_begins_with_a_probe(t: &TestStore) {
    let hook = t.hook("work").await;
    let change = |change| t.store.change_hook(hook, change, "test", t.now());
    let shown = change(HookChange::Enable).await.unwrap();
    assert_eq!(shown.phase, None, "it was active");
    change(HookChange::Pause).await.unwrap();
    let shown = change(HookChange::Enable).await.unwrap();
    assert_eq!(shown.phase, Some(Phase::BackedOff));
    assert_eq!(shown.not_before, Some(t.now()), "at once");
    let id = t.waiting(hook, 1).await[0];
    let probe = t.lease(&[hook]).await.remove(0);
    assert_eq!(probe.first().id, id);
    t.settle(&[t.accepted(&probe)]).await;
    assert_eq!(t.shown(hook).await.phase, Some(Phase::Ramping));
}

#[conformance]
async fn limits_are_set_and_taken_back(t: &TestStore) {
    let hook = t.hook("work").await;
    let set = |limits| {
        t.store
            .change_hook(hook, HookChange::Set(limits), "test", t.now())
    };
    let limits = SettingsChange {
        in_flight: Some(Some(8)),
        rate: Some("20/s".parse().ok()),
        back_off_after: Some(Some(2)),
        ..SettingsChange::default()
    };
    let shown = set(limits).await.unwrap();
    assert_eq!(
        (shown.settings.in_flight, shown.settings.rate),
        (Some(8), "20/s".parse().ok())
    );
    assert_eq!(shown.settings.back_off_after, Some(2));
    t.waiting(hook, 1).await;
    assert!(t.store.hook_cache().get(hook).unwrap().is_gated());

    let none = SettingsChange {
        in_flight: Some(Some(0)),
        ..SettingsChange::default()
    };
    let refused = set(none).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Hook(HookError::Setting(error)) if error.field == "in_flight"),
        "{refused}"
    );
    assert_eq!(t.shown(hook).await.settings.in_flight, Some(8));

    let back = SettingsChange {
        filter: Some("n == 1".parse().ok()),
        in_flight: Some(None),
        rate: Some(None),
        ..SettingsChange::default()
    };
    let shown = set(back).await.unwrap();
    assert_eq!(
        (shown.settings.in_flight, shown.settings.rate),
        (None, None)
    );
    assert_eq!(shown.filter, "n == 1".parse().ok());
    assert_eq!(shown.settings.back_off_after, Some(2));
    let unowned = t.store.lease(t.lease_request(&[hook])).await.unwrap();
    assert_eq!(unowned.len(), 1, "it is gated no more");
}

#[conformance]
async fn attempts_settled_out_of_order_undo_nothing(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 4).await;
    let ended = |mut settlement: Settlement, seconds| {
        settlement.attempts.first.duration = Duration::from_secs(seconds);
        settlement
    };
    t.settle(&[ended(t.refused(&started[0], 10), 1)]).await;
    t.settle(&[ended(t.accepted(&started[1]), 5)]).await;
    t.settle(&[ended(t.refused(&started[2], 10), 4)]).await;
    assert_eq!(
        t.shown(hook).await.fail_count,
        0,
        "it failed before it was taken"
    );
    t.settle(&[ended(t.refused(&started[3], 10), 6)]).await;
    assert_eq!(t.shown(hook).await.fail_count, 1);
}

#[conformance]
async fn enabling_forgets_no_success(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    let ended = |mut settlement: Settlement, seconds| {
        settlement.attempts.first.duration = Duration::from_secs(seconds);
        settlement
    };
    t.settle(&[ended(t.refused(&started[0], 10), 1)]).await;
    t.settle(&[ended(t.accepted(&started[1]), 5)]).await;
    let enable = HookChange::Enable;
    let enabled = t.store.change_hook(hook, enable, "test", t.now()).await;
    assert_eq!(enabled.unwrap().fail_count, 0);
    t.settle(&[ended(t.refused(&started[2], 10), 4)]).await;
    let shown = t.shown(hook).await;
    assert_eq!(shown.fail_count, 0, "it failed before it was taken");
}

// ---- several workers

#[conformance(postgres)]
async fn a_gated_hook_gives_nothing_to_a_worker_that_does_not_own_it(t: &TestStore) {
    let hook = limited(t).await;
    waiting(t, hook, 2).await;
    assert!(
        t.store
            .lease(t.lease_request(&[hook]))
            .await
            .unwrap()
            .is_empty()
    );
    let other = WorkerId::draw(t.now());
    assert!(t.own(other, &[hook]).await[0].owned);
    assert!(
        t.store
            .lease(t.lease_request(&[hook]))
            .await
            .unwrap()
            .is_empty()
    );
    let mut request = t.lease_request(&[hook]);
    request.worker = other;
    assert_eq!(t.store.lease(request).await.unwrap().len(), 2);
}

#[conformance(postgres)]
async fn a_hook_has_one_owner_until_its_time_has_run_out(t: &TestStore) {
    let hook = limited(t).await;
    let [one, other] = [(); 2].map(|()| WorkerId::draw(t.now()));
    assert!(t.own(one, &[hook]).await[0].owned);
    assert!(!t.own(other, &[hook]).await[0].owned);
    t.advance(9);
    assert!(t.own(one, &[hook]).await[0].owned, "it is renewed");
    t.advance(9);
    assert!(!t.own(other, &[hook]).await[0].owned);
    t.advance(1);
    assert!(t.own(other, &[hook]).await[0].owned);
    assert!(!t.own(one, &[hook]).await[0].owned);
}

#[conformance(postgres)]
async fn of_many_that_ask_at_once_one_owns_each_hook(t: &TestStore) {
    let mut hooks = Vec::new();
    for _ in 0..8 {
        hooks.push(limited(t).await);
    }
    let second = t.another().await;
    let mut callers = Vec::new();
    for number in 0..8 {
        let store = if number % 2 == 0 { &t.store } else { &second };
        let (store, mut hooks, now) = (store.clone(), hooks.clone(), t.now());
        hooks.rotate_left(number);
        callers.push(tokio::spawn(async move {
            let request = postrider_store::OwnershipRequest {
                worker: WorkerId::draw(now),
                now,
                until: now + Duration::from_secs(10),
                hooks,
            };
            let answers = store.own_gates(request).await.unwrap();
            answers.into_iter().filter(|answer| answer.owned).count()
        }));
    }
    let mut owned = 0;
    for caller in callers {
        owned += caller.await.unwrap();
    }
    assert_eq!(owned, hooks.len());
}

#[conformance(postgres)]
async fn what_is_disowned_is_free_at_once(t: &TestStore) {
    let hook = limited(t).await;
    let [one, other] = [(); 2].map(|()| WorkerId::draw(t.now()));
    t.own(one, &[hook]).await;
    t.store.disown_gates(other, &[hook]).await.unwrap();
    assert!(
        !t.own(other, &[hook]).await[0].owned,
        "it was not its to give"
    );
    t.store.disown_gates(one, &[hook]).await.unwrap();
    assert!(t.own(other, &[hook]).await[0].owned);
}

#[conformance(postgres)]
async fn nobody_owns_a_hook_before_it_may_be_probed(t: &TestStore) {
    let hook = t.hook("work").await;
    let not_before = backed_off(t, hook).await.not_before;
    let answer = t.own(t.worker, &[hook]).await.remove(0);
    assert_eq!((answer.owned, answer.not_before), (false, not_before));
    t.advance(2);
    assert!(t.own(t.worker, &[hook]).await[0].owned);
}

async fn limited(t: &TestStore) -> HookId {
    let mut hook = new_hook("default", &["work"]);
    hook.settings = HookSettings {
        in_flight: Some(8),
        ..HookSettings::default()
    };
    t.register(hook).await.id
}

/// `count` deliveries that wait for the hook.
async fn waiting(t: &TestStore, hook: HookId, count: usize) -> Vec<DeliveryId> {
    let events = t.insert_many("work", count).await;
    assert!(drained(t).await.started.is_empty());
    events
        .into_iter()
        .map(|event| DeliveryId::of(event, hook))
        .collect()
}

/// Settles failures, and tells how the hook then stands.
async fn fail(t: &TestStore, leased: &[HookRequest]) -> HookPhase {
    let again = Step::Retry(t.now());
    let settlements: Vec<_> = leased
        .iter()
        .map(|leased| t.settlement(leased, refusal(500), again))
        .collect();
    let settled = t.settle(&settlements).await;
    assert_eq!(settled.settled as usize, leased.len());
    settled.phases[0]
}

/// Lets a hook fail until it is backed off; its deliveries are due.
async fn backed_off(t: &TestStore, hook: HookId) -> HookPhase {
    let started = t.started(hook, 5).await;
    let standing = fail(t, &started).await;
    assert_eq!(standing.phase, Some(Phase::BackedOff));
    standing
}
