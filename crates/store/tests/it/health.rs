//! A hook's consecutive failures, and how they disable it.

use postrider_core::{DeliveryId, HealthPolicy, Hook, HookId, Outcome, Reason};
use postrider_store::{
    DeliveryState, Disabling, HookChange, HookRequest, SettleResult, Settlement, Step,
};
use postrider_tests::{TestStore, conformance, policy, refusal};
use std::time::Duration;

/// Three failures in a row that span a minute.
fn strict() -> HealthPolicy {
    HealthPolicy {
        disable_after_failures: 3,
        disable_after: Duration::from_secs(60),
        ..policy()
    }
}

#[conformance]
async fn the_fail_count_goes_one_two_zero(t: &TestStore) {
    let hook = t.hook("work").await;
    let mut leased = t.started(hook, 1).await.remove(0);
    let first_failure = t.now() + Duration::from_millis(20);
    for count in [1, 2] {
        t.settle(&[t.refused(&leased, 10)]).await;
        let shown = t.shown(hook).await;
        assert_eq!(shown.fail_count, count);
        assert_eq!(shown.first_failure_at, Some(first_failure));
        assert_eq!(shown.last_error.as_deref(), Some("answered 500"));
        t.advance(10);
        leased = t.lease(&[hook]).await.remove(0);
    }
    t.settle(&[t.accepted(&leased)]).await;
    let shown = t.shown(hook).await;
    assert_eq!((shown.fail_count, shown.first_failure_at), (0, None));
    assert_eq!(shown.last_error, None);
    assert_eq!(t.delivery(leased.first().id).await.attempts, 3);
}

#[conformance]
async fn a_success_that_finds_no_failures_writes_no_health(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 5).await;
    t.forbid_changes_of("postrider_hook_health").await;
    let settlements: Vec<_> = started.iter().map(|leased| t.accepted(leased)).collect();
    let settled = t.settle(&settlements).await;
    assert_eq!((settled.settled, settled.scrubbed), (5, 0));
}

#[conformance]
async fn a_success_after_a_reset_writes_no_health(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    t.settle(&[t.refused(&started[0], 10)]).await;
    t.settle(&[t.accepted(&started[1])]).await;
    t.forbid_changes_of("postrider_hook_health").await;
    let settled = t.settle(&[t.accepted(&started[2])]).await;
    assert_eq!((settled.settled, settled.scrubbed), (1, 0));
}

#[conformance]
async fn settling_never_writes_the_hook_itself(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    t.forbid_changes_of("postrider_hooks").await;
    let settlements = [
        t.accepted(&started[0]),
        t.refused(&started[1], 10),
        t.accepted(&started[2]),
    ];
    let settled = t.settle(&settlements).await;
    assert_eq!((settled.settled, settled.scrubbed), (3, 0));
}

#[conformance]
async fn attempts_count_in_the_order_they_ended(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    let mut settlements = [
        t.refused(&started[0], 10),
        t.refused(&started[1], 10),
        t.accepted(&started[2]),
    ];
    for (settlement, seconds) in settlements.iter_mut().zip([9, 8, 5]) {
        settlement.attempts.first.duration = Duration::from_secs(seconds);
    }
    t.settle(&settlements).await;
    let shown = t.shown(hook).await;
    assert_eq!(shown.fail_count, 2, "the success came first");
    let first_failure = t.now() + Duration::from_secs(8);
    assert_eq!(shown.first_failure_at, Some(first_failure));
}

#[conformance]
async fn failures_are_each_hooks_own(t: &TestStore) {
    let (failing, healthy) = (t.hook("*").await, t.hook("*").await);
    t.insert_many("a", 4).await;
    let started = t.fan_out().await.started;
    let settlements: Vec<_> = started
        .iter()
        .map(|leased| match leased.hook.id == failing {
            true => t.refused(leased, 10),
            false => t.accepted(leased),
        })
        .collect();
    t.settle(&settlements).await;
    assert_eq!(t.shown(failing).await.fail_count, 4);
    assert_eq!(t.shown(healthy).await.fail_count, 0);
}

#[conformance]
async fn count_and_span_together_disable(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    assert_eq!(fail(t, &started[0]).await.disabled, []);
    t.advance(30);
    assert_eq!(fail(t, &started[1]).await.disabled, []);
    t.advance(30);
    let disabled = fail(t, &started[2]).await.disabled;
    assert_eq!(disabled.len(), 1);
    let Disabling {
        hook: which,
        fail_count,
        last_error,
        ..
    } = &disabled[0];
    assert_eq!((*which, *fail_count), (hook, 3));
    assert_eq!(last_error, "answered 500");

    let shown = t.shown(hook).await;
    assert_eq!(shown.status, "disabled");
    assert_eq!(shown.disabled_reason.as_deref(), Some("failures"));
    assert_eq!(shown.disabled_at, Some(t.now()));
    assert_eq!(shown.disabled_by.as_deref(), Some("postrider"));
    assert_eq!(shown.fail_count, 3);
    assert_eq!(shown.held, 3, "its deliveries are held, not lost");
}

#[conformance]
async fn the_count_without_the_span_disables_nothing(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 50).await;
    let policy = HealthPolicy {
        disable_after_failures: 20,
        disable_after: Duration::from_secs(3600),
        ..policy()
    };
    let settlements: Vec<_> = started
        .iter()
        .map(|leased| Settlement {
            policy,
            ..t.refused(leased, 10)
        })
        .collect();
    let settled = t.settle(&settlements).await;
    assert_eq!((settled.settled, settled.disabled), (50, vec![]));
    let shown = t.shown(hook).await;
    assert_eq!((shown.fail_count, shown.status.as_str()), (50, "active"));
}

#[conformance]
async fn the_span_without_the_count_disables_nothing(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 2).await;
    fail(t, &started[0]).await;
    t.outlive_leases();
    t.advance(7 * 24 * 3600);
    let settled = fail(t, &started[1]).await;
    assert_eq!((settled.settled, settled.disabled), (1, vec![]));
    assert_eq!(t.shown(hook).await.status, "active");
}

#[conformance]
async fn a_success_in_the_same_batch_spares_the_hook(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 4).await;
    fail(t, &started[0]).await;
    fail(t, &started[1]).await;
    t.advance(50);
    let mut failure = t.refused(&started[2], 10);
    failure.policy = strict();
    failure.attempts.first.duration = Duration::from_secs(12);
    let mut success = t.accepted(&started[3]);
    success.policy = strict();
    success.attempts.first.duration = Duration::from_secs(13);
    let settled = t.settle(&[success, failure]).await;
    assert_eq!(settled.disabled, []);
    assert_eq!(t.shown(hook).await.status, "active");
}

#[conformance]
async fn the_policy_of_the_latest_version_decides(t: &TestStore) {
    for newest_first in [false, true] {
        let hook = t.hook("work").await;
        let started = t.started(hook, 4).await;
        fail(t, &started[0]).await;
        fail(t, &started[1]).await;
        t.advance(60);
        // One was sent by the lenient policy of an older version.
        let older = t.refused(&started[2], 0);
        let mut newer = t.refused(&started[3], 0);
        newer.policy = strict();
        let mut changed = Hook::clone(&newer.request.hook);
        changed.version += 1;
        newer.request.hook = changed.into();
        let mut settlements = [older, newer];
        if newest_first {
            settlements.reverse();
        }
        assert_eq!(t.settle(&settlements).await.disabled.len(), 1);
        t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    }
}

#[conformance]
async fn a_failure_known_too_late_tells_how_the_hook_stands(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    fail(t, &started[0]).await;
    let mut late = t.refused(&started[1], 10);
    late.attempts.first.duration = Duration::from_secs(1);
    t.advance(5);
    t.settle(&[t.accepted(&started[2])]).await;
    let settled = t.settle(&[late]).await;
    assert_eq!(
        t.shown(hook).await.fail_count,
        0,
        "the success came after it"
    );
    let told: Vec<_> = settled.phases.iter().map(|s| (s.hook, s.phase)).collect();
    assert_eq!(told, [(hook, None)]);
}

#[conformance]
async fn an_answer_of_410_disables_at_once_as_gone(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    let settlement = t.settlement(&leased, refusal(410), Step::Failed(Reason::Gone));
    let settled = t.settle(&[settlement]).await;
    assert_eq!(settled.disabled.len(), 1);
    let shown = t.shown(hook).await;
    assert_eq!(shown.status, "disabled");
    assert_eq!(shown.disabled_reason.as_deref(), Some("gone"));
    let report = t.delivery(leased.first().id).await;
    assert_eq!(report.reason.as_deref(), Some("gone"));
}

#[conformance]
async fn a_hook_that_is_gone_still_gets_deliveries(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    let settlement = t.settlement(&leased, refusal(410), Step::Failed(Reason::Gone));
    t.settle(&[settlement]).await;
    holds_what_comes(t, hook).await;
}

#[conformance]
async fn a_hook_disabled_for_failures_still_gets_deliveries(t: &TestStore) {
    let hook = t.hook("work").await;
    disable(t, hook).await;
    holds_what_comes(t, hook).await;
}

/// Events that come while the hook is disabled are held, and go on when it is enabled.
async fn holds_what_comes(t: &TestStore, hook: HookId) {
    let events = t.insert_many("work", 2).await;
    let done = t.fan_out().await;
    assert_eq!((done.deliveries, done.started.len()), (2, 0));
    let ids: Vec<_> = events
        .iter()
        .map(|event| DeliveryId::of(*event, hook))
        .collect();
    for id in &ids {
        assert_eq!(t.delivery(*id).await.state, DeliveryState::Held);
    }
    assert!(t.lease(&[hook]).await.is_empty());
    let enable = HookChange::Enable;
    let enabled = t.store.change_hook(hook, enable, "test", t.now()).await;
    enabled.unwrap();
    let leased = t.lease(&[hook]).await;
    let leased: Vec<_> = leased.iter().map(|leased| leased.first().id).collect();
    assert!(ids.iter().all(|id| leased.contains(id)), "{leased:?}");
}

#[conformance]
async fn a_hook_is_disabled_once(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 12).await;
    fail(t, &started[0]).await;
    fail(t, &started[1]).await;
    t.advance(60);
    let second = t.another().await;
    let mut callers = Vec::new();
    for (number, leased) in started[2..].iter().enumerate() {
        let store = if number % 2 == 0 { &t.store } else { &second };
        let (store, now) = (store.clone(), t.now());
        let settlement = Settlement {
            policy: strict(),
            ..t.refused(leased, 10)
        };
        callers.push(tokio::spawn(async move {
            let settled = store.settle(now, &[settlement]).await.unwrap();
            assert_eq!(settled.settled, 1);
            settled.disabled.len()
        }));
    }
    let mut disabled = 0;
    for caller in callers {
        disabled += caller.await.unwrap();
    }
    assert_eq!(disabled, 1);
    let shown = t.shown(hook).await;
    assert_eq!((shown.fail_count, shown.status.as_str()), (12, "disabled"));
}

#[conformance]
async fn only_an_active_hook_is_disabled(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 3).await;
    t.store
        .change_hook(hook, HookChange::Pause, "test", t.now())
        .await
        .unwrap();
    fail(t, &started[0]).await;
    fail(t, &started[1]).await;
    t.advance(60);
    let settled = fail(t, &started[2]).await;
    assert_eq!((settled.settled, settled.disabled), (1, vec![]));
    assert_eq!(t.shown(hook).await.status, "paused");
}

#[conformance]
async fn enabling_delivers_what_was_held(t: &TestStore) {
    let hook = t.hook("work").await;
    let ids = disable(t, hook).await;
    t.advance(3600);
    assert!(t.lease(&[hook]).await.is_empty());
    let shown = t
        .store
        .change_hook(hook, HookChange::Enable, "test", t.now())
        .await
        .unwrap();
    assert_eq!((shown.status.as_str(), shown.fail_count), ("active", 0));
    assert_eq!(
        (shown.disabled_reason, shown.first_failure_at),
        (None, None)
    );
    let mut leased: Vec<_> = t
        .lease(&[hook])
        .await
        .iter()
        .map(|l| l.first().id)
        .collect();
    leased.sort();
    assert_eq!(leased, ids, "every one of them");
}

#[conformance]
async fn a_blocked_address_counts_as_a_failure(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    let outcome = Outcome::Blocked {
        address: [127, 0, 0, 1].into(),
    };
    let settlement = t.settlement(&leased, outcome, Step::Retry(t.now()));
    t.settle(&[settlement]).await;
    assert_eq!(t.shown(hook).await.fail_count, 1);
    assert_eq!(t.attempts(leased.first().id).await[0].outcome, "blocked");
}

#[conformance]
async fn settling_many_hooks_at_once_does_not_deadlock(t: &TestStore) {
    const HOOKS: usize = 12;
    const EVENTS: usize = 16;
    let mut hooks = Vec::new();
    for _ in 0..HOOKS {
        hooks.push(t.hook("work").await);
    }
    t.insert_many("work", EVENTS).await;
    let mut started = t.fan_out().await.started;
    assert_eq!(started.len(), HOOKS * EVENTS);
    started.sort_by_key(|leased| leased.first().event.id);

    let second = t.another().await;
    let mut callers = Vec::new();
    for (number, of_event) in started.chunks(HOOKS).enumerate() {
        let store = if number % 2 == 0 { &t.store } else { &second };
        let (store, now) = (store.clone(), t.now());
        let mut settlements: Vec<_> = of_event.iter().map(|l| t.refused(l, 10)).collect();
        // Each caller settles the hooks in another order.
        settlements.rotate_left(number % HOOKS);
        if number % 2 == 1 {
            settlements.reverse();
        }
        callers.push(tokio::spawn(async move {
            store.settle(now, &settlements).await.unwrap()
        }));
    }
    for caller in callers {
        assert_eq!(caller.await.unwrap().settled as usize, HOOKS);
    }
    for hook in hooks {
        assert_eq!(t.shown(hook).await.fail_count as usize, EVENTS);
    }
}

/// Settles a failure under the strict policy; the delivery is due again at once.
async fn fail(t: &TestStore, leased: &HookRequest) -> SettleResult {
    let settlement = Settlement {
        policy: strict(),
        ..t.refused(leased, 0)
    };
    let settled = t.settle(&[settlement]).await;
    assert_eq!(settled.settled, 1);
    settled
}

/// Lets `hook` fail until it is disabled; returns the deliveries it then holds.
async fn disable(t: &TestStore, hook: HookId) -> Vec<DeliveryId> {
    let started = t.started(hook, 3).await;
    fail(t, &started[0]).await;
    fail(t, &started[1]).await;
    t.advance(60);
    assert_eq!(fail(t, &started[2]).await.disabled.len(), 1);
    let mut ids: Vec<_> = started.iter().map(|leased| leased.first().id).collect();
    ids.sort();
    ids
}
