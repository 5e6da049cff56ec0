//! What is recorded of the changes of hooks, and of those that were warned of.

use postrider_core::{
    Filter, HealthPolicy, HookId, Reason, SettingsChange, SigningSecret, Timestamp,
};
use postrider_store::{
    Error, HistoryFilter, HookChange, HookChangeReport, Leased, SettleResult, Settlement, Step,
};
use postrider_tests::{TestStore, conformance, policy, refusal};
use std::time::Duration;
use uuid::Uuid;

/// Four failures in a row that span a minute; half of it are two that span half a minute.
fn strict() -> HealthPolicy {
    HealthPolicy {
        disable_after_failures: 4,
        disable_after: Duration::from_secs(60),
        ..policy()
    }
}

#[conformance]
async fn every_change_is_recorded_with_who_made_it_and_why(t: &TestStore) {
    let hook = t.hook("work").await;
    let filter: Filter = "a > 1".parse().unwrap();
    let changes = [
        HookChange::Pause,
        HookChange::Enable,
        HookChange::Disable,
        HookChange::Set(SettingsChange {
            filter: Some(Some(filter)),
            in_flight: Some(Some(3)),
            ..SettingsChange::default()
        }),
        HookChange::Rotate {
            secret: SigningSecret::generate(),
            overlap_until: t.now(),
        },
    ];
    for change in changes {
        t.advance(1);
        change_by(t, hook, change, "api").await;
    }
    t.advance(1);
    t.store.remove_hook(hook, "cli", t.now()).await.unwrap();

    let history = history(t, hook).await;
    let told: Vec<_> = history
        .iter()
        .map(|entry| {
            (
                entry.action.as_str(),
                entry.actor.as_str(),
                entry.reason.as_deref(),
            )
        })
        .collect();
    let expected = [
        ("created", "test", None),
        ("paused", "api", None),
        ("enabled", "api", None),
        ("disabled", "api", Some("manual")),
        ("changed", "api", Some("filter, in_flight")),
        ("secret_rotated", "api", None),
        ("removed", "cli", None),
    ];
    assert_eq!(told, expected);
    let times: Vec<_> = history.iter().map(|entry| entry.at).collect();
    let seconds = (0..7).rev().map(Duration::from_secs);
    let planned: Vec<Timestamp> = seconds.map(|ago| t.now() - ago).collect();
    assert_eq!(times, planned);
}

#[conformance]
async fn a_change_that_changes_nothing_is_not_recorded(t: &TestStore) {
    let hook = t.hook("work").await;
    for change in [
        HookChange::Pause,
        HookChange::Pause,
        HookChange::Disable,
        HookChange::Disable,
    ] {
        change_by(t, hook, change, "cli").await;
    }
    let actions = actions(t, hook).await;
    assert_eq!(actions, ["created", "paused", "disabled"]);
}

#[conformance]
async fn a_change_that_fails_is_not_recorded(t: &TestStore) {
    let hook = t.hook("work").await;
    let nothing = SettingsChange {
        in_flight: Some(Some(0)),
        ..SettingsChange::default()
    };
    let refused = t
        .store
        .change_hook(hook, HookChange::Set(nothing), "cli", t.now())
        .await;
    assert!(matches!(refused, Err(Error::Hook(_))), "{refused:?}");
    assert_eq!(actions(t, hook).await, ["created"]);
}

#[conformance]
async fn disabling_is_recorded_with_the_failures(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 4).await;
    disable(t, &started).await;
    let history = history(t, hook).await;
    let last = history.last().unwrap();
    assert_eq!(
        (last.action.as_str(), last.actor.as_str()),
        ("disabled", "postrider")
    );
    assert_eq!(
        (last.reason.as_deref(), last.fail_count),
        (Some("failures"), 4)
    );
    assert_eq!(last.last_error.as_deref(), Some("answered 500"));
    assert_eq!(last.at, t.now());

    // What is forgotten is told once more by who forgets it.
    change_by(t, hook, HookChange::Enable, "cli").await;
    let history = self::history(t, hook).await;
    let last = history.last().unwrap();
    assert_eq!((last.action.as_str(), last.fail_count), ("enabled", 4));
    assert_eq!(last.last_error.as_deref(), Some("answered 500"));
}

#[conformance]
async fn half_of_the_way_is_warned_of_once_in_a_row_of_failures(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 8).await;
    assert_eq!(fail(t, &started[0]).await.warned, []);
    t.advance(30);
    let warned = fail(t, &started[1]).await.warned;
    assert_eq!(warned.len(), 1);
    assert_eq!((warned[0].hook, warned[0].fail_count), (hook, 2));
    assert_eq!(warned[0].last_error, "answered 500");
    assert_eq!(fail(t, &started[2]).await.warned, [], "once");

    // A success ends the row, and the next is warned of anew.
    t.settle(&[strictly(t.accepted(&started[3]))]).await;
    t.advance(1);
    fail(t, &started[4]).await;
    t.advance(20);
    assert_eq!(
        fail(t, &started[5]).await.warned,
        [],
        "half of the count alone"
    );
    t.advance(10);
    assert_eq!(fail(t, &started[6]).await.warned.len(), 1);
    t.outlive_leases();
    assert_eq!(actions(t, hook).await, ["created", "warned", "warned"]);
}

#[conformance]
async fn enabling_begins_a_new_row_that_may_be_warned_of(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 4).await;
    fail(t, &started[0]).await;
    t.advance(30);
    assert_eq!(fail(t, &started[1]).await.warned.len(), 1);
    change_by(t, hook, HookChange::Enable, "cli").await;
    fail(t, &started[2]).await;
    t.advance(29);
    assert_eq!(fail(t, &started[3]).await.warned, []);
    t.advance(1);
    let again = t.lease(&[hook]).await.remove(0);
    assert_eq!(fail(t, &again).await.warned.len(), 1);
}

#[conformance]
async fn a_hook_that_is_not_active_is_not_warned_of(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 2).await;
    fail(t, &started[0]).await;
    change_by(t, hook, HookChange::Pause, "cli").await;
    t.advance(30);
    assert_eq!(fail(t, &started[1]).await.warned, []);
    assert_eq!(actions(t, hook).await, ["created", "paused"]);
}

#[conformance]
async fn what_is_disabled_in_the_same_batch_is_not_warned_of(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    let gone = t.settlement(&leased, refusal(410), Step::Failed(Reason::Gone));
    let settled = t.settle(&[strictly(gone)]).await;
    assert_eq!((settled.warned, settled.disabled.len()), (vec![], 1));
    assert_eq!(actions(t, hook).await, ["created", "disabled"]);
}

#[conformance]
async fn those_who_disable_and_enable_at_once_leave_one_trail(t: &TestStore) {
    let second = t.another().await;
    for _ in 0..8 {
        let hook = t.hook("work").await;
        let started = t.started(hook, 12).await;
        for leased in &started[..3] {
            fail(t, leased).await;
        }
        // From now on any of the other failures disables it, unless a person was quicker.
        t.advance(60);
        let mut callers = Vec::new();
        for (number, leased) in started[3..].iter().enumerate() {
            let store = if number % 2 == 0 { &t.store } else { &second };
            let (store, now) = (store.clone(), t.now());
            let settlement = strictly(t.refused(leased, 0));
            callers.push(tokio::spawn(async move {
                store
                    .settle(now, &[settlement])
                    .await
                    .unwrap()
                    .disabled
                    .len()
            }));
        }
        let (store, now) = (second.clone(), t.now());
        let person = tokio::spawn(async move {
            let change = HookChange::Enable;
            store.change_hook(hook, change, "cli", now).await.unwrap();
        });
        let mut disabled = 0;
        for caller in callers {
            disabled += caller.await.unwrap();
        }
        person.await.unwrap();

        let mut trail = actions(t, hook).await;
        trail.retain(|action| action != "warned");
        let told = match disabled {
            0 => vec!["created", "enabled"],
            _ => vec!["created", "disabled", "enabled"],
        };
        assert_eq!(trail, told, "disabled {disabled} times");
        assert_eq!(t.shown(hook).await.status, "active");
        t.outlive_leases();
        t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    }
}

#[conformance]
async fn history_is_listed_newest_first_page_by_page(t: &TestStore) {
    let (hook, other) = (t.hook("work").await, t.hook("other").await);
    for _ in 0..3 {
        change_by(t, hook, HookChange::Pause, "cli").await;
        change_by(t, other, HookChange::Pause, "cli").await;
        change_by(t, hook, HookChange::Enable, "cli").await;
    }
    let whole = page(t, hook, None, 100).await;
    assert_eq!(whole.len(), 7);
    assert!(whole.is_sorted_by(|a, b| a.number > b.number));
    let first = page(t, hook, None, 4).await;
    let second = page(t, hook, Some(first[3].number), 4).await;
    assert_eq!([first, second].concat(), whole);
}

#[conformance]
async fn the_newest_500_changes_of_a_hook_are_kept(t: &TestStore) {
    let (hook, other) = (t.hook("work").await, t.hook("other").await);
    for _ in 0..251 {
        change_by(t, hook, HookChange::Pause, "cli").await;
        change_by(t, hook, HookChange::Enable, "cli").await;
    }
    let kept = actions(t, hook).await;
    assert_eq!(kept.len(), 500);
    assert_eq!(
        (kept[0].as_str(), kept[499].as_str()),
        ("paused", "enabled")
    );
    assert_eq!(actions(t, other).await, ["created"]);
}

#[conformance]
async fn an_unknown_hook_has_no_history(t: &TestStore) {
    let unknown = HookId(Uuid::from_u128(7));
    let filter = HistoryFilter {
        before: None,
        limit: 10,
    };
    let error = t.store.hook_history(unknown, filter).await.unwrap_err();
    assert!(
        matches!(error, Error::NotFound { what: "hook", .. }),
        "{error:?}"
    );
}

async fn change_by(t: &TestStore, hook: HookId, change: HookChange, by: &str) {
    let changed = t.store.change_hook(hook, change, by, t.now()).await;
    changed.unwrap();
}

async fn page(
    t: &TestStore,
    hook: HookId,
    before: Option<i64>,
    limit: u32,
) -> Vec<HookChangeReport> {
    let filter = HistoryFilter { before, limit };
    t.store.hook_history(hook, filter).await.unwrap()
}

/// All of a hook's history, oldest first.
async fn history(t: &TestStore, hook: HookId) -> Vec<HookChangeReport> {
    let mut history = page(t, hook, None, 1_000).await;
    history.reverse();
    history
}

async fn actions(t: &TestStore, hook: HookId) -> Vec<String> {
    let history = history(t, hook).await;
    history.into_iter().map(|entry| entry.action).collect()
}

fn strictly(settlement: Settlement) -> Settlement {
    Settlement {
        policy: strict(),
        ..settlement
    }
}

/// Settles a failure under the strict policy; the delivery is due again at once.
async fn fail(t: &TestStore, leased: &Leased) -> SettleResult {
    let settled = t.settle(&[strictly(t.refused(leased, 0))]).await;
    assert_eq!(settled.settled, 1);
    settled
}

/// Lets the hook of these four fail until it is disabled.
async fn disable(t: &TestStore, started: &[Leased]) {
    for leased in &started[..3] {
        fail(t, leased).await;
    }
    t.advance(60);
    assert_eq!(fail(t, &started[3]).await.disabled.len(), 1);
}
