//! Registering, changing, listing and removing hooks.

use postrider_core::{
    Filter, HookEdit, HookId, HookSettings, HookStatus, SettingsChange, SigningSecret, Span,
};
use postrider_store::{Backend, DeliveryState, Error, HookChange, HookFilter, HookReport};
use postrider_tests::{TestStore, conformance, event, new_hook};
use std::time::Duration;
use uuid::Uuid;

#[conformance]
async fn a_registered_hook_is_shown_as_it_was_given(t: &TestStore) {
    let mut hook = new_hook("acme 'ü'", &["invoice.*", "order.paid", "*"]);
    hook.url = "https://receiver.example:8443/a?b=c&d='e'".into();
    hook.settings = HookSettings {
        timeout: Some(Span::secs(3)),
        disable_after_failures: Some(7),
        ..HookSettings::default()
    };
    let secret = hook.credentials.secrets[0].secret.reveal();
    let made = t.register(hook.clone()).await;
    assert_eq!(made.secret.as_ref(), Some(&secret), "shown when it is made");

    let shown = t.shown(made.id).await;
    assert_eq!(shown.secret, None, "and never again");
    assert_eq!(shown.account, hook.account);
    assert_eq!(shown.url, hook.url);
    assert_eq!(shown.events, ["invoice.*", "order.paid", "*"]);
    assert_eq!(shown.profile, "standard");
    assert_eq!(shown.settings, hook.settings);
    assert_eq!((shown.status.as_str(), shown.fail_count), ("active", 0));
    assert_eq!((shown.created_at, shown.updated_at), (t.now(), t.now()));
    assert_eq!((shown.held, shown.disabled_at), (0, None));
    assert_eq!((shown.first_failure_at, shown.last_error), (None, None));
    let listed = t.store.hooks(everything()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].secret.clone()), (made.id, None));
}

#[conformance]
async fn a_hook_that_cannot_work_is_refused(t: &TestStore) {
    let mut ftp = new_hook("default", &["*"]);
    ftp.url = "ftp://receiver.example/".into();
    let no_events = new_hook("default", &[]);
    let no_account = new_hook("", &["*"]);
    for broken in [ftp, no_events, no_account] {
        let error = t
            .store
            .create_hook(broken, "test", t.now())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Hook(_)), "{error:?}");
    }
    assert!(t.store.hooks(everything()).await.unwrap().is_empty());
}

#[conformance]
async fn a_person_pauses_disables_and_enables(t: &TestStore) {
    let hook = t.hook("*").await;
    let created = t.now();
    t.advance(5);
    let paused = change(t, hook, HookChange::Pause).await;
    assert_eq!(paused.status, "paused");
    assert_eq!((paused.disabled_reason, paused.disabled_by), (None, None));
    assert_eq!((paused.created_at, paused.updated_at), (created, t.now()));

    let disabled = change(t, hook, HookChange::Disable).await;
    assert_eq!(disabled.status, "disabled");
    assert_eq!(disabled.disabled_reason.as_deref(), Some("manual"));
    assert_eq!(disabled.disabled_at, Some(t.now()));
    assert_eq!(disabled.disabled_by.as_deref(), Some("test"));

    let enabled = change(t, hook, HookChange::Enable).await;
    assert_eq!(enabled.status, "active");
    assert_eq!((enabled.disabled_reason, enabled.disabled_at), (None, None));
    assert_eq!(enabled.disabled_by, None);
    assert_eq!(t.shown(hook).await.status, "active");
}

#[conformance]
async fn a_filter_is_set_and_taken_away(t: &TestStore) {
    let mut hook = new_hook("default", &["*"]);
    hook.settings.timeout = Some(Span::secs(3));
    let hook = t.register(hook).await;
    assert_eq!(hook.filter, None);
    t.advance(5);
    let version = t.store.peek().await.unwrap().hooks_version;
    let filter: Filter = r#"a."b\"c" == "\u0000ü" || !(n > -1.5)"#.parse().unwrap();
    let changed = change(t, hook.id, setting(Some(filter.clone()))).await;
    assert_eq!(changed.filter, Some(filter));
    assert_eq!(changed.settings, hook.settings, "the rest stays");
    assert_eq!(changed.updated_at, t.now());
    assert_eq!(t.shown(hook.id).await.filter, changed.filter);
    let stands_at = t.store.peek().await.unwrap().hooks_version;
    assert_eq!(stands_at, version + 1);

    let changed = change(t, hook.id, setting(None)).await;
    assert_eq!((changed.filter, changed.settings), (None, hook.settings));
    let nobody = HookId(Uuid::nil());
    let unknown = t.store.change_hook(nobody, setting(None), "test", t.now());
    let error = unknown.await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

#[conformance]
async fn settings_of_a_newer_version_are_not_overwritten(t: &TestStore) {
    let hook = t.hook("*").await;
    let newer = r#"{"filter": "a ~= 1", "timeout": "3s"}"#;
    let id = t.id(hook.0);
    let mut sql = t.sql().await;
    sql.run(format!(
        "UPDATE postrider_hooks SET settings = '{newer}' WHERE id = {id}"
    ))
    .await;
    let error = t.store.change_hook(hook, setting(None), "test", t.now());
    let error = error.await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    let kept = sql.text("SELECT settings FROM postrider_hooks").await;
    assert_eq!(kept, newer);
}

fn setting(filter: Option<Filter>) -> HookChange {
    HookChange::Set(SettingsChange {
        filter: Some(filter),
        ..SettingsChange::default()
    })
}

#[conformance]
async fn the_same_change_may_be_made_twice(t: &TestStore) {
    let hook = t.hook("*").await;
    for change_of in [HookChange::Pause, HookChange::Disable, HookChange::Enable] {
        let once = change(t, hook, change_of.clone()).await;
        let twice = change(t, hook, change_of).await;
        assert_eq!(once.status, twice.status);
        assert_eq!(once.disabled_reason, twice.disabled_reason);
    }
}

#[conformance]
async fn enabling_forgets_the_failures(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    t.settle(&[t.refused(&leased, 10)]).await;
    assert_eq!(t.shown(hook).await.fail_count, 1);
    let enabled = change(t, hook, HookChange::Enable).await;
    assert_eq!((enabled.fail_count, enabled.last_error), (0, None));
    assert_eq!(t.shown(hook).await.fail_count, 0);
}

#[conformance]
async fn a_rotated_secret_signs_beside_the_old_one_for_a_while(t: &TestStore) {
    let hook = t.hook("work").await;
    let before = t.store.hook_with_credentials(hook).await.unwrap();
    let old = before.credentials.secrets[0].secret.reveal();
    let secret = SigningSecret::generate();
    let rotated = change(
        t,
        hook,
        HookChange::Rotate {
            secret: secret.clone(),
            overlap_until: t.now() + Duration::from_secs(3600),
        },
    )
    .await;
    assert_eq!(rotated.secret, Some(secret.reveal()), "shown this once");
    assert_eq!(t.shown(hook).await.secret, None);

    let leased = t.started(hook, 1).await.remove(0);
    let secrets: Vec<_> = leased.hook.credentials.secrets.iter().collect();
    let revealed: Vec<_> = secrets.iter().map(|s| s.secret.reveal()).collect();
    assert_eq!(revealed, [secret.reveal(), old]);
    let credentials = &leased.hook.credentials;
    assert_eq!(credentials.signer(t.now()).len(), 2);
    t.advance(3600);
    assert_eq!(credentials.signer(t.now()).len(), 1);
}

#[conformance]
async fn a_change_made_elsewhere_is_seen_at_once(t: &TestStore) {
    let hook = t.hook("work").await;
    t.started(hook, 1).await;
    let elsewhere = t.another().await;
    elsewhere
        .change_hook(hook, HookChange::Pause, "test", t.now())
        .await
        .unwrap();
    t.insert(&[event("work")]).await;
    let done = t.fan_out().await;
    assert_eq!((done.deliveries, done.started.len()), (1, 0));
    elsewhere
        .change_hook(hook, HookChange::Enable, "test", t.now())
        .await
        .unwrap();
    let leased = t.lease(&[hook]).await;
    assert_eq!(leased.len(), 1);
    let seen = t.store.hook_cache().get(hook).unwrap().version;
    assert_eq!(seen, leased[0].hook.version);
    elsewhere.remove_hook(hook, "test", t.now()).await.unwrap();
    t.store.peek().await.unwrap();
    assert!(t.store.hook_cache().is_empty());
}

#[conformance]
async fn a_removed_hook_is_not_found(t: &TestStore) {
    let hook = t.hook("*").await;
    let other = t.hook("*").await;
    let removed = t.store.remove_hook(hook, "test", t.now()).await.unwrap();
    assert_eq!((removed.id, removed.status.as_str()), (hook, "active"));
    assert_no_hook(t.store.hook(hook).await);
    assert_no_hook(t.store.hook_with_credentials(hook).await);
    assert_no_hook(t.store.remove_hook(hook, "test", t.now()).await);
    let change = t
        .store
        .change_hook(hook, HookChange::Enable, "test", t.now());
    assert_no_hook(change.await);
    let listed = t.store.hooks(everything()).await.unwrap();
    assert_eq!(listed.iter().map(|h| h.id).collect::<Vec<_>>(), [other]);
}

#[conformance]
async fn an_unknown_hook_is_not_found(t: &TestStore) {
    let unknown = HookId(Uuid::from_u128(7));
    assert_no_hook(t.store.hook(unknown).await);
    assert_no_hook(t.store.hook_with_credentials(unknown).await);
    assert_no_hook(t.store.remove_hook(unknown, "test", t.now()).await);
    let change = t
        .store
        .change_hook(unknown, HookChange::Pause, "test", t.now());
    assert_no_hook(change.await);
}

#[conformance]
async fn hooks_are_listed_page_by_page(t: &TestStore) {
    let mut expected = Vec::new();
    for number in 0..7 {
        let account = if number == 3 { "acme" } else { "default" };
        expected.push(t.hook_of(account, "*").await);
        t.advance(1);
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let filter = HookFilter {
            after,
            limit: 3,
            ..HookFilter::default()
        };
        let page = t.store.hooks(filter).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.iter().map(|hook| hook.id));
    }
    assert_eq!(seen, expected, "in the order of their ids");

    let of_acme = HookFilter {
        account: Some("acme".into()),
        ..everything()
    };
    let of_acme = t.store.hooks(of_acme).await.unwrap();
    assert_eq!(of_acme.len(), 1);
    assert_eq!(
        (of_acme[0].id, of_acme[0].account.as_str()),
        (expected[3], "acme")
    );
}

#[conformance]
async fn held_deliveries_are_counted(t: &TestStore) {
    let hook = t.hook("work").await;
    t.waiting(hook, 3).await;
    assert_eq!(t.shown(hook).await.held, 0, "an active hook holds nothing");
    assert_eq!(change(t, hook, HookChange::Pause).await.held, 3);
    assert_eq!(t.shown(hook).await.held, 3);
    let listed = t.store.hooks(everything()).await.unwrap();
    assert_eq!(listed[0].held, 3);
    assert_eq!(change(t, hook, HookChange::Enable).await.held, 0);
}

#[conformance]
async fn health_is_shown_in_the_list_too(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    t.settle(&[t.refused(&leased, 10)]).await;
    let listed = t.store.hooks(everything()).await.unwrap();
    assert_eq!(listed[0].fail_count, 1);
    assert_eq!(listed[0].last_error.as_deref(), Some("answered 500"));
}

#[conformance]
async fn what_is_in_flight_ends_as_it_does_when_its_hook_is_paused(t: &TestStore) {
    let hook = t.hook("work").await;
    let started = t.started(hook, 2).await;
    change(t, hook, HookChange::Pause).await;
    let settlements = [t.accepted(&started[0]), t.refused(&started[1], 10)];
    assert_eq!(t.settle(&settlements).await.settled, 2);
    let states = [
        t.delivery(started[0].first().id).await.state,
        t.delivery(started[1].first().id).await.state,
    ];
    assert_eq!(states, [DeliveryState::Delivered, DeliveryState::Held]);
}

#[conformance]
async fn a_change_takes_one_version_and_no_change_takes_none(t: &TestStore) {
    let hook = t.hook("work").await;
    let version = async || t.store.peek().await.unwrap().hooks_version;
    let first = version().await;
    let edit = HookEdit {
        url: Some("https://receiver.example/other".into()),
        status: Some(HookStatus::Paused),
        ..HookEdit::default()
    };
    change(t, hook, HookChange::Edit(Box::new(edit))).await;
    assert_eq!(version().await, first + 1);
    change(t, hook, HookChange::Pause).await;
    assert_eq!(version().await, first + 1, "it is paused already");
    change(t, hook, HookChange::Disable).await;
    assert_eq!(version().await, first + 2);
    change(t, hook, HookChange::Disable).await;
    assert_eq!(version().await, first + 2, "it is disabled already");
}

#[conformance]
async fn a_pattern_of_a_newer_version_locks_the_hook_and_leaves_the_others(t: &TestStore) {
    let hook = t.hook("work").await;
    let events = match t.backend() {
        Backend::Postgres => "ARRAY['work', 'a*b']",
        Backend::Sqlite => r#"'["work","a*b"]'"#,
    };
    overwrite(t, hook, &format!("events = {events}")).await;
    assert_eq!(t.shown(hook).await.events, ["work", "a*b"]);

    t.insert_many("work", 2).await;
    let done = t.fan_out().await;
    assert_eq!(done.deliveries, 2, "its deliveries are made");
    assert!(done.started.is_empty(), "and wait");
    assert!(t.lease(&[hook]).await.is_empty());
    assert!(t.store.hook_cache().get(hook).unwrap().locked);
    let edit = HookEdit {
        url: Some("https://receiver.example/other".into()),
        ..HookEdit::default()
    };
    let edit = HookChange::Edit(Box::new(edit));
    let refused = t.store.change_hook(hook, edit, "test", t.now()).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
}

#[conformance]
async fn a_hook_of_an_unknown_status_is_shown_as_paused(t: &TestStore) {
    let hook = t.hook("work").await;
    overwrite(t, hook, "status = 'archived'").await;
    assert_eq!(t.shown(hook).await.status, "paused");
    t.insert_many("work", 1).await;
    let done = t.fan_out().await;
    assert_eq!((done.deliveries, done.started.len()), (1, 0));
    assert_eq!(t.shown(hook).await.held, 1);

    assert_eq!(change(t, hook, HookChange::Pause).await.status, "paused");
    let mut sql = t.sql().await;
    let stored = sql.text("SELECT status FROM postrider_hooks").await;
    assert_eq!(stored, "paused", "pausing it is a change");
}

#[conformance]
async fn a_hook_disabled_at_an_unknown_time_was_disabled_by_its_latest_change(t: &TestStore) {
    let hook = t.hook("work").await;
    t.advance(5);
    let disabled_at = t.now();
    change(t, hook, HookChange::Disable).await;
    overwrite(t, hook, "disabled_at = NULL, disabled_reason = 'gone'").await;
    assert_eq!(t.shown(hook).await.disabled_at, Some(disabled_at));
    let opened = t.store.hook_with_credentials(hook).await.unwrap();
    assert_eq!(opened.disabled.unwrap().at, disabled_at);
    t.insert_many("work", 1).await;
    let done = t.fan_out().await;
    assert_eq!((done.deliveries, done.started.len()), (1, 0), "it is held");
}

/// Writes columns of a hook as no version of Postrider known to this binary does.
async fn overwrite(t: &TestStore, hook: HookId, columns: &str) {
    let unchecked = match t.backend() {
        Backend::Postgres => {
            "ALTER TABLE postrider_hooks DROP CONSTRAINT postrider_hooks_status_check"
        }
        Backend::Sqlite => "PRAGMA ignore_check_constraints = ON",
    };
    let id = t.id(hook.0);
    let mut sql = t.sql().await;
    sql.run(format!(
        "{unchecked};
        UPDATE postrider_meta SET hooks_version = hooks_version + 1;
        UPDATE postrider_hooks
        SET {columns}, version = (SELECT hooks_version FROM postrider_meta)
        WHERE id = {id}"
    ))
    .await;
}

fn everything() -> HookFilter {
    HookFilter {
        limit: 100,
        ..HookFilter::default()
    }
}

async fn change(t: &TestStore, hook: HookId, change: HookChange) -> HookReport {
    let changed = t.store.change_hook(hook, change, "test", t.now()).await;
    changed.unwrap()
}

fn assert_no_hook<T>(answer: postrider_store::Result<T>) {
    assert!(matches!(answer, Err(Error::NotFound { what: "hook", .. })));
}
