//! Events of our own: for whom they are made, and that they do not feed on themselves.

use crate::support::drained;
use postrider_core::{HealthPolicy, HookId, Reason};
use postrider_store::{HookChange, HookReport, Leased, SettleResult, Settlement, Step};
use postrider_tests::{TestStore, conformance, new_hook, policy, refusal};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Four failures in a row that span a minute.
fn strict() -> HealthPolicy {
    HealthPolicy {
        disable_after_failures: 4,
        disable_after: Duration::from_secs(60),
        ..policy()
    }
}

#[conformance]
async fn a_warning_and_a_disabling_reach_those_who_ask_for_them(t: &TestStore) {
    let hook = t.hook("work").await;
    let by_prefix = t.hook("postrider.*").await;
    let by_name = t.hook("postrider.hook.disabled").await;
    let started = t.started(hook, 4).await;
    let first_failure = t.now() + Duration::from_millis(20);
    fail(t, &started[0]).await;
    assert!(announced(t).await.is_empty());
    t.advance(30);
    fail(t, &started[1]).await;
    let warning = announced(t).await;
    assert_eq!(whom(&warning), [(by_prefix, "postrider.hook.warning")]);
    let told = payload(&warning[0]);
    assert_eq!(told["hook_id"], hook.to_string());
    assert_eq!(told["url"], "https://receiver.example/hook");
    assert_eq!(
        (&told["reason"], &told["fail_count"]),
        (&"failures".into(), &2.into())
    );
    assert_eq!(told["last_error"], "answered 500");
    assert_eq!(told["by"], "postrider");
    let time = |name: &str| told[name].as_str().unwrap().parse().ok();
    assert_eq!(time("first_failure_at"), Some(first_failure));
    assert_eq!(time("at"), Some(t.now()));

    t.advance(30);
    fail(t, &started[2]).await;
    fail(t, &started[3]).await;
    let disabled = announced(t).await;
    let name = "postrider.hook.disabled";
    let told: BTreeSet<_> = whom(&disabled).into_iter().collect();
    assert_eq!(told, BTreeSet::from([(by_prefix, name), (by_name, name)]));
    assert_eq!(payload(&disabled[0])["fail_count"], 4);
}

#[conformance]
async fn a_delivery_that_failed_for_good_is_announced(t: &TestStore) {
    let hook = t.hook("work").await;
    let watcher = t.hook("postrider.delivery.failed").await;
    let started = t.started(hook, 3).await;
    let settlements = [
        t.settlement(&started[0], refusal(500), Step::Failed(Reason::Exhausted)),
        t.settlement(&started[1], refusal(410), Step::Failed(Reason::Gone)),
        t.refused(&started[2], 10),
    ];
    t.settle(&settlements).await;
    let mut told = announced(t).await;
    told.sort_by_key(|leased| payload(leased)["reason"].to_string());
    let name = "postrider.delivery.failed";
    assert_eq!(whom(&told), [(watcher, name), (watcher, name)]);
    let exhausted = payload(&told[0]);
    assert_eq!(exhausted["reason"], "exhausted");
    assert_eq!(exhausted["delivery_id"], started[0].id.to_string());
    assert_eq!(exhausted["event_id"], started[0].event.id.to_string());
    assert_eq!(exhausted["event_type"], "work");
    assert_eq!(exhausted["hook_id"], hook.to_string());
    assert_eq!(
        (&exhausted["attempts"], &exhausted["last_error"]),
        (&1.into(), &"answered 500".into())
    );
    assert_eq!(payload(&told[1])["reason"], "gone");
}

#[conformance]
async fn a_delivery_that_lost_its_workers_for_good_is_announced(t: &TestStore) {
    let hook = t.hook("work").await;
    t.hook("postrider.delivery.failed").await;
    let lost = t.started(hook, 1).await.remove(0);
    let none = postrider_core::RetrySchedule::new(Vec::new());
    for _ in 0..3 {
        t.outlive_leases();
        t.store.recover(t.slot, t.now(), 10, &none).await.unwrap();
        t.lease(&[hook]).await;
    }
    let told = announced(t).await;
    assert_eq!(told.len(), 1);
    let told = payload(&told[0]);
    assert_eq!(told["delivery_id"], lost.id.to_string());
    assert_eq!(
        (&told["reason"], &told["event_type"]),
        (&"exhausted".into(), &"work".into())
    );
}

#[conformance]
async fn a_person_who_disables_and_enables_is_announced(t: &TestStore) {
    let hook = t.hook("work").await;
    let watcher = t.hook("postrider.hook.*").await;
    change(t, hook, HookChange::Disable).await;
    change(t, hook, HookChange::Disable).await;
    let told = announced(t).await;
    assert_eq!(whom(&told), [(watcher, "postrider.hook.disabled")]);
    let payload_of = payload(&told[0]);
    assert_eq!(
        (&payload_of["reason"], &payload_of["by"]),
        (&"manual".into(), &"cli".into())
    );

    change(t, hook, HookChange::Enable).await;
    change(t, hook, HookChange::Enable).await;
    let told = announced(t).await;
    assert_eq!(whom(&told), [(watcher, "postrider.hook.enabled")]);
    assert_eq!(payload(&told[0])["reason"], Value::Null);
}

#[conformance]
async fn nothing_is_made_where_nobody_asks_for_it(t: &TestStore) {
    let hook = t.hook("work").await;
    t.hook("*").await;
    t.hook_of("another", "postrider.*").await;
    let started = started_of(t, hook, "work", 5).await;
    t.forbid_changes_of("postrider_outbox").await;
    fail(t, &started[0]).await;
    t.advance(30);
    assert_eq!(fail(t, &started[1]).await.warned.len(), 1);
    t.advance(30);
    fail(t, &started[2]).await;
    let failed = Step::Failed(Reason::Exhausted);
    let last = strictly(t.settlement(&started[3], refusal(500), failed));
    let settled = t.settle(&[last]).await;
    assert_eq!((settled.disabled.len(), settled.scrubbed), (1, 0));
    change(t, hook, HookChange::Enable).await;
}

#[conformance]
async fn a_hook_never_gets_what_is_about_itself(t: &TestStore) {
    let hook = watching(t, "work").await.id;
    let other = t.hook("postrider.*").await;
    let started = started_of(t, hook, "work", 4).await;
    fail(t, &started[0]).await;
    t.advance(60);
    fail(t, &started[1]).await;
    fail(t, &started[2]).await;
    let failed = Step::Failed(Reason::Exhausted);
    t.settle(&[strictly(t.settlement(&started[3], refusal(500), failed))])
        .await;
    change(t, hook, HookChange::Enable).await;
    let done = drained(t).await;
    assert_eq!((done.events, done.deliveries), (4, 4));
    assert!(done.started.iter().all(|leased| leased.hook.id == other));

    // Where it alone asks for them, none is made.
    t.store.remove_hook(other, "test", t.now()).await.unwrap();
    t.store.peek().await.unwrap();
    change(t, hook, HookChange::Disable).await;
    assert_eq!(drained(t).await.events, 0);
}

#[conformance]
async fn failures_of_our_own_events_make_no_others(t: &TestStore) {
    let (one, two) = (watching(t, "one").await.id, watching(t, "two").await.id);
    // The first goes wrong in earnest: the second is told.
    let started = started_of(t, one, "one", 2).await;
    fail(t, &started[0]).await;
    t.advance(30);
    fail(t, &started[1]).await;
    let told = announced(t).await;
    assert_eq!(whom(&told), [(two, "postrider.hook.warning")]);
    // Nothing but what it is told goes wrong at the second: it is warned of, and nobody told.
    fail(t, &told[0]).await;
    t.advance(30);
    let again = t.lease(&[two]).await;
    let settled = fail(t, &again[0]).await;
    assert_eq!(settled.warned.len(), 1);
    assert!(announced(t).await.is_empty());
    let again = t.lease(&[two]).await;
    let failed = Step::Failed(Reason::Exhausted);
    let last = strictly(t.settlement(&again[0], refusal(500), failed));
    assert_eq!(t.settle(&[last]).await.settled, 1);
    assert!(announced(t).await.is_empty());
}

#[conformance]
async fn our_own_types_are_refused_from_applications(t: &TestStore) {
    t.hook("postrider.*").await;
    t.insert_many("postrider.hook.disabled", 2).await;
    let done = drained(t).await;
    assert_eq!((done.events, done.rejected), (0, 2));
}

#[conformance]
async fn hundreds_are_announced_by_one_settlement(t: &TestStore) {
    let hook = t.hook("work").await;
    let watcher = t.hook("postrider.delivery.failed").await;
    let started = t.started(hook, 600).await;
    let failed = Step::Failed(Reason::Exhausted);
    let settlements: Vec<_> = started
        .iter()
        .map(|leased| t.settlement(leased, refusal(500), failed))
        .collect();
    assert_eq!(t.settle(&settlements).await.settled, 600);
    let told = announced(t).await;
    assert_eq!(told.len(), 600);
    assert!(told.iter().all(|leased| leased.hook.id == watcher));
}

/// A hook for one type of the application's and for all of our own.
async fn watching(t: &TestStore, event_type: &str) -> HookReport {
    t.register(new_hook("default", &[event_type, "postrider.*"]))
        .await
}

/// Deliveries of events of this type to `hook`, leased since their fan-out.
async fn started_of(t: &TestStore, hook: HookId, event_type: &str, count: usize) -> Vec<Leased> {
    t.insert_many(event_type, count).await;
    let mut started = t.fan_out().await.started;
    started.retain(|leased| leased.hook.id == hook);
    assert_eq!(started.len(), count);
    started
}

async fn change(t: &TestStore, hook: HookId, change: HookChange) {
    let changed = t.store.change_hook(hook, change, "cli", t.now()).await;
    changed.unwrap();
}

/// What is announced comes out of the outbox.
async fn announced(t: &TestStore) -> Vec<Leased> {
    let done = drained(t).await;
    assert_eq!(done.rejected, 0);
    done.started
}

fn whom(leased: &[Leased]) -> Vec<(HookId, &str)> {
    let whom = leased.iter();
    whom.map(|leased| (leased.hook.id, leased.event.event_type.as_str()))
        .collect()
}

fn payload(leased: &Leased) -> Value {
    serde_json::from_str(leased.event.payload.as_str()).unwrap()
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
