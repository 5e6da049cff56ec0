//! Where retries go when that is kept: where the first attempt went, whatever becomes of the hook.

use postrider_core::{
    DeliveryId, HookEdit, HookId, HookTarget, KeyRing, OnFailure, Ordered, Reason, RetrySchedule,
};
use postrider_store::{
    BulkPage, DeliveryState, HookChange, Leased, Redelivery, Settlement, Step, Store,
};
use postrider_tests::{TestStore, conformance, event, new_hook, refusal};
use std::time::Duration;

#[conformance]
async fn a_retry_goes_where_the_attempts_before_it_went(t: &TestStore) {
    let hook = hook_at(t, "first").await;
    let started = t.started(hook, 2).await;
    assert!(started.iter().all(|leased| leased.target.is_none()));
    let [kept, not] = [0, 1].map(|n| t.refused(&started[n], 60));
    t.settle(&[keeping(kept), not]).await;
    point(t, hook, "second").await;
    t.advance(60);
    let again = t.lease(&[hook]).await;
    let of = |n: usize| again.iter().find(|leased| leased.id == started[n].id);
    let (kept, not) = (of(0).unwrap(), of(1).unwrap());
    assert_eq!(kept.target.as_deref(), Some(&target("first", kept)));
    assert_eq!(kept.hook.url, url("second"));
    assert_eq!(kept.hook.credentials.token.as_deref(), Some("second"));
    assert_eq!(not.target, None, "it goes where the hook points");

    // What is kept stays, whatever the hook points at by the next attempt.
    t.settle(&[keeping(t.refused(kept, 60)), t.accepted(not)])
        .await;
    point(t, hook, "third").await;
    t.advance(60);
    let again = t.lease(&[hook]).await.remove(0);
    assert_eq!(again.target.as_deref(), Some(&target("first", &again)));
    t.settle(&[keeping(t.accepted(&again))]).await;
    let state = t.delivery(again.id).await.state;
    assert_eq!(state, DeliveryState::Delivered);
}

#[conformance]
async fn one_that_waited_before_goes_where_its_first_attempt_went(t: &TestStore) {
    let hook = hook_at(t, "first").await;
    t.waiting(hook, 1).await;
    point(t, hook, "second").await;
    let leased = t.lease(&[hook]).await.remove(0);
    assert_eq!(leased.target, None);
    t.settle(&[keeping(t.refused(&leased, 0))]).await;
    point(t, hook, "third").await;
    let again = t.lease(&[hook]).await.remove(0);
    assert_eq!(again.target.as_deref(), Some(&target("second", &again)));
}

#[conformance]
async fn it_is_kept_when_given_back_and_when_workers_are_lost(t: &TestStore) {
    let hook = hook_at(t, "first").await;
    let id = retried(t, hook).await;
    let leased = t.lease(&[hook]).await.remove(0);
    let released = t.store.release(t.slot, leased.token, &[id], t.now()).await;
    assert_eq!(released.unwrap(), 1);
    assert_eq!(leased_target(t, hook).await.as_deref(), Some("first"));
    let schedule = RetrySchedule::default();
    for losses in 1..=3 {
        t.outlive_leases();
        let recovered = t.store.recover(t.slot, t.now(), 10, &schedule).await;
        assert_eq!(recovered.unwrap().worker_lost, u32::from(losses == 3));
        t.clock.advance(schedule.delays()[1].get() * 2);
        assert_eq!(leased_target(t, hook).await.as_deref(), Some("first"));
    }
    assert_eq!(t.delivery(id).await.attempts, 2);
}

#[conformance]
async fn a_late_settlement_keeps_none(t: &TestStore) {
    let hook = hook_at(t, "first").await;
    let leased = t.started(hook, 1).await.remove(0);
    t.outlive_leases();
    let schedule = RetrySchedule::default();
    let recovered = t.store.recover(t.slot, t.now(), 10, &schedule).await;
    assert_eq!(recovered.unwrap().recovered, 1);
    let settled = t.settle(&[keeping(t.refused(&leased, 0))]).await;
    assert_eq!(settled.late, [leased.id]);
    point(t, hook, "second").await;
    assert_eq!(leased_target(t, hook).await, None);
}

#[conformance]
async fn one_that_is_sent_again_goes_where_the_hook_points(t: &TestStore) {
    let hook = hook_at(t, "first").await;
    let waits = retried(t, hook).await;
    t.store.redeliver(waits, t.now()).await.unwrap();
    assert_eq!(leased_target(t, hook).await, None);

    // One that has failed and holds its key keeps its row.
    for many in [false, true] {
        let mut new = new_hook("default", &["held"]);
        new.settings.ordered = Some(Ordered::Key);
        new.settings.on_failure = Some(OnFailure::Hold);
        let hook = t.register(new).await.id;
        t.insert(&[event("held").ordering_key("a")]).await;
        t.fan_out().await;
        let leased = t.lease(&[hook]).await.remove(0);
        t.settle(&[keeping(t.refused(&leased, 0))]).await;
        let leased = t.lease(&[hook]).await.remove(0);
        assert!(leased.target.is_some());
        let step = Step::Failed(Reason::Exhausted);
        t.settle(&[keeping(t.settlement(&leased, refusal(500), step))])
            .await;
        match many {
            false => drop(t.store.redeliver(leased.id, t.now()).await.unwrap()),
            true => send_many(t, hook, DeliveryState::Failed).await,
        }
        let again = t.lease(&[hook]).await.remove(0);
        assert_eq!((again.id, again.target), (leased.id, None));
        t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    }
}

#[conformance]
async fn held_ones_that_are_sent_again_go_where_the_hook_points(t: &TestStore) {
    let hook = hook_at(t, "first").await;
    let id = retried(t, hook).await;
    change(t, hook, HookChange::Pause).await;
    change(t, hook, HookChange::Enable).await;
    assert_eq!(leased_target(t, hook).await.as_deref(), Some("first"));
    t.outlive_leases();
    let schedule = RetrySchedule::default();
    let recovered = t.store.recover(t.slot, t.now(), 10, &schedule).await;
    assert_eq!(recovered.unwrap().recovered, 1);
    change(t, hook, HookChange::Pause).await;
    send_many(t, hook, DeliveryState::Held).await;
    change(t, hook, HookChange::Enable).await;
    let leased = t.lease(&[hook]).await.remove(0);
    assert_eq!((leased.id, leased.target), (id, None));
}

#[conformance]
async fn a_target_is_sealed_for_its_hook(t: &TestStore) {
    let (hook, other) = (hook_at(t, "first").await, t.hook("other").await);
    let id = retried(t, hook).await;
    let mut sql = t.sql().await;
    let (stored, id) = (
        "SELECT target FROM postrider_deliveries WHERE id = ",
        t.id(id.0),
    );
    let kept = sql.text(format!("{stored}{id}")).await;
    assert!(kept.starts_with("v1."), "{kept}");
    assert!(!kept.contains("first"), "{kept}");

    // Under another hook it opens no more; what waits beside it goes.
    let strange = DeliveryId::of(t.insert(&[event("other")]).await[0], other);
    t.fan_out_without_room().await;
    sql.run(format!(
        "UPDATE postrider_deliveries SET target = '{kept}' WHERE hook_id = {}",
        t.id(other.0)
    ))
    .await;
    let leased = t.lease(&[other, hook]).await;
    let hooks: Vec<_> = leased.iter().map(|leased| leased.hook.id).collect();
    assert_eq!(hooks, [hook]);
    assert!(t.lease(&[other]).await.is_empty());
    let report = t.delivery(strange).await;
    assert_eq!(report.state, DeliveryState::Pending, "nothing is lost");
    let later = t.now() + Duration::from_secs(3_600);
    assert_eq!(report.next_attempt_at, Some(later));
}

#[conformance]
async fn a_target_opens_with_the_key_it_was_sealed_with(t: &TestStore) {
    let [old, new] = [KeyRing::generate_key(), KeyRing::generate_key()];
    let with = async |keys: &[&str]| {
        let keys = KeyRing::new(keys.iter().copied()).unwrap();
        t.with_keys(&keys).await
    };
    let before = with(&[&old]).await;
    let mut hook = new_hook("default", &["work"]);
    hook.credentials.token = Some("first".into());
    let hook = before.create_hook(hook, "test", t.now()).await.unwrap().id;
    t.insert(&[event("work")]).await;
    let leased = before.fan_out(t.request()).await.unwrap().started.remove(0);
    let kept = [keeping(t.refused(&leased, 0))];
    before.settle(t.now(), &kept).await.unwrap();

    // The hook is sealed anew when it changes, the delivery is not.
    let both = with(&[&new, &old]).await;
    let edit = HookEdit {
        token: Some(Some("second".into())),
        ..HookEdit::default()
    };
    let edit = HookChange::Edit(Box::new(edit));
    both.change_hook(hook, edit, "test", t.now()).await.unwrap();
    let only_new = with(&[&new]).await;
    assert!(lease_from(t, &*only_new, hook).await.is_empty());
    t.advance(3_600);
    let leased = lease_from(t, &*both, hook).await.remove(0);
    assert_eq!(leased.hook.credentials.token.as_deref(), Some("second"));
    let target = leased.target.unwrap();
    assert_eq!(target.credentials.token.as_deref(), Some("first"));
}

/// A hook that points at this name, with the name as its secret.
async fn hook_at(t: &TestStore, name: &str) -> HookId {
    let mut hook = new_hook("default", &["work"]);
    hook.url = url(name);
    hook.credentials.token = Some(name.into());
    t.register(hook).await.id
}

fn url(name: &str) -> String {
    format!("https://{name}.example/hook")
}

/// Where the hook of this delivery pointed when it was called so.
fn target(name: &str, leased: &Leased) -> HookTarget {
    let mut target = HookTarget::of(&leased.hook);
    target.url = url(name);
    target.credentials.token = Some(name.into());
    target
}

async fn point(t: &TestStore, hook: HookId, name: &str) {
    let edit = HookEdit {
        url: Some(url(name)),
        token: Some(Some(name.into())),
        ..HookEdit::default()
    };
    change(t, hook, HookChange::Edit(Box::new(edit))).await;
}

async fn change(t: &TestStore, hook: HookId, change: HookChange) {
    let changed = t.store.change_hook(hook, change, "test", t.now()).await;
    changed.unwrap();
}

fn keeping(settlement: Settlement) -> Settlement {
    Settlement {
        keeps_target: true,
        ..settlement
    }
}

/// A delivery to `hook` that is due for its second attempt, its target kept.
async fn retried(t: &TestStore, hook: HookId) -> DeliveryId {
    let leased = t.started(hook, 1).await.remove(0);
    t.settle(&[keeping(t.refused(&leased, 0))]).await;
    leased.id
}

/// Leases the one delivery of `hook`, and tells the secret of its target.
async fn leased_target(t: &TestStore, hook: HookId) -> Option<String> {
    let leased = t.lease(&[hook]).await.remove(0);
    leased.target?.credentials.token.clone()
}

async fn lease_from(t: &TestStore, store: &dyn Store, hook: HookId) -> Vec<Leased> {
    store.lease(t.lease_request(&[hook])).await.unwrap()
}

async fn send_many(t: &TestStore, hook: HookId, state: DeliveryState) {
    let which = Redelivery {
        hook,
        state,
        event_type: None,
        since: None,
        until: None,
    };
    let page = BulkPage::first(10);
    let done = t.store.redeliver_many(&which, page, t.now()).await;
    assert_eq!(done.unwrap().count, 1);
}
