//! Hooks as the API of their profile knows, changes and lists them.

use postrider_core::{BasicAuth, Hook, HookEdit, HookError, HookId, HookStatus, NewAlias, NewHook};
use postrider_store::{
    Error, HookChange, HookFilter, HookReport, LatestAnswer, RegisteredFilter, RegisteredHook,
};
use postrider_tests::{TestStore, conformance, new_hook};
use serde_json::json;

#[conformance]
async fn a_hook_is_found_by_its_alias_in_its_account_only(t: &TestStore) {
    let made = t.register(known_as("solapi", "acme", "WH1")).await;
    t.register(known_as("misskey", "acme", "WH2")).await;
    let found = by_alias(t, "solapi", "acme", "WH1").await.unwrap();
    assert_eq!((found.id, found.alias.as_deref()), (made.id, Some("WH1")));
    for (profile, account, alias) in [
        ("solapi", "other", "WH1"),
        ("misskey", "acme", "WH1"),
        ("solapi", "acme", "WH2"),
    ] {
        let found = by_alias(t, profile, account, alias).await;
        assert!(found.is_none(), "{profile} {account} {alias}");
    }
    t.store.remove_hook(made.id, "test", t.now()).await.unwrap();
    assert!(by_alias(t, "solapi", "acme", "WH1").await.is_none());
}

#[conformance]
async fn hooks_are_shown_with_what_they_were_given_the_last_alias_first(t: &TestStore) {
    let mut made = Vec::new();
    // Byte by byte: capitals before small letters, whatever the language of the database says.
    for alias in ["a1", "B2", "b1", "b2"] {
        let mut hook = known_as("solapi", "acme", alias);
        hook.credentials.token = Some(format!("secret of {alias}"));
        made.push(t.register(hook).await.id);
        t.register(known_as("solapi", "other", &format!("{alias} of another")))
            .await;
        t.register(known_as("misskey", "acme", alias)).await;
    }
    t.hook_of("acme", "*").await;
    let asked = |up_to: Option<&str>, limit| RegisteredFilter {
        account: "acme".into(),
        profile: "solapi".into(),
        up_to: up_to.map(Into::into),
        limit,
        ..RegisteredFilter::default()
    };
    let aliases = async |filter| {
        let shown = t.store.registered(filter).await.unwrap();
        let alias = |shown: RegisteredHook| {
            let (alias, token) = (shown.hook.alias, shown.hook.credentials.token);
            assert_eq!(
                token,
                alias.as_ref().map(|alias| format!("secret of {alias}"))
            );
            alias.unwrap()
        };
        shown.into_iter().map(alias).collect::<Vec<_>>()
    };
    assert_eq!(aliases(asked(None, 10)).await, ["b2", "b1", "a1", "B2"]);
    assert_eq!(aliases(asked(None, 2)).await, ["b2", "b1"]);
    assert_eq!(aliases(asked(Some("b1"), 2)).await, ["b1", "a1"]);
    assert_eq!(aliases(asked(Some("b"), 10)).await, ["a1", "B2"]);
    t.store.remove_hook(made[2], "test", t.now()).await.unwrap();
    assert_eq!(aliases(asked(None, 10)).await, ["b2", "a1", "B2"]);

    let latest = LatestAnswer {
        hook: made[0],
        at: t.now(),
        status: Some(503),
    };
    t.store.note_latest(&[latest]).await.unwrap();
    let shown = t.store.registered(asked(Some("a1"), 1)).await.unwrap();
    assert_eq!(shown[0].latest_sent_at, Some(t.now()));
    assert_eq!(
        (shown[0].latest_status, shown[0].fail_count),
        (Some(503), 0)
    );
}

#[conformance]
async fn an_alias_is_given_once_in_its_profile(t: &TestStore) {
    let first = t.register(known_as("solapi", "acme", "same")).await;
    t.register(known_as("misskey", "acme", "same")).await;
    let again = || {
        t.store
            .create_hook(known_as("solapi", "b", "same"), "test", t.now())
    };
    assert!(matches!(again().await.unwrap_err(), Error::Conflict(_)));
    t.store
        .remove_hook(first.id, "test", t.now())
        .await
        .unwrap();
    let error = again().await.unwrap_err();
    assert!(
        matches!(error, Error::Conflict(_)),
        "not after deletion either"
    );
    assert_eq!(listed(t, Some("solapi")).await, []);
}

#[conformance]
async fn numbers_count_up_in_their_profile_and_are_never_drawn_again(t: &TestStore) {
    let numbered = |profile: &str| NewHook {
        alias: Some(NewAlias::NextNumber),
        ..known_as(profile, "acme", "")
    };
    let first = t.register(numbered("thulium")).await;
    let second = t.register(numbered("thulium")).await;
    t.store
        .remove_hook(second.id, "test", t.now())
        .await
        .unwrap();
    let third = t.register(numbered("thulium")).await;
    let other = t.register(numbered("other")).await;
    let aliases = [first, second, third, other].map(|hook| hook.alias.unwrap());
    assert_eq!(aliases, ["1", "2", "3", "1"]);
}

#[conformance]
async fn of_calls_at_once_no_more_succeed_than_the_account_may_have(t: &TestStore) {
    t.register(known_as("solapi", "acme", "not counted")).await;
    let calls = (0..6).map(|n| {
        let hook = NewHook {
            at_most: Some(2),
            ..known_as("misskey", "acme", &format!("m{n}"))
        };
        let (store, now) = (t.store.clone(), t.now());
        tokio::spawn(async move { store.create_hook(hook, "test", now).await })
    });
    let (mut made, mut refused) = (0, 0);
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(_) => made += 1,
            Err(Error::Hook(HookError::TooMany(2))) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((made, refused), (2, 4));
}

#[conformance]
async fn hooks_of_one_profile_are_listed(t: &TestStore) {
    t.hook("*").await;
    let ours = t.register(known_as("solapi", "acme", "a")).await;
    t.register(known_as("solapi", "other", "b")).await;
    assert_eq!(listed(t, None).await.len(), 3);
    assert_eq!(listed(t, Some("solapi")).await.len(), 2);
    let of_acme = HookFilter {
        account: Some("acme".into()),
        ..of_profile(Some("solapi"))
    };
    let of_acme = t.store.hooks(of_acme).await.unwrap();
    assert_eq!(of_acme.len(), 1);
    assert_eq!(of_acme[0].id, ours.id);
}

#[conformance]
async fn an_edit_changes_what_it_names_and_nothing_else(t: &TestStore) {
    let mut hook = known_as("solapi", "acme", "a");
    hook.credentials.token = Some("old".into());
    hook.settings.profile = serde_json::from_value(json!({"event_id": "E", "name": "n"})).unwrap();
    let made = t.register(hook).await;
    t.advance(5);
    let edit = HookEdit {
        url: Some("https://other.example/x".into()),
        events: Some(vec!["b".parse().unwrap()]),
        basic: Some(Some(BasicAuth {
            user: "u".into(),
            password: "p".into(),
        })),
        profile: serde_json::from_value(json!({"name": null, "format": "flat"})).unwrap(),
        status: Some(HookStatus::Paused),
        ..HookEdit::default()
    };
    let changed = edited(t, made.id, edit).await.unwrap();
    assert_eq!(changed.url, "https://other.example/x");
    assert_eq!(
        (changed.events, changed.status.as_str()),
        (vec!["b".to_owned()], "paused")
    );
    assert_eq!(
        serde_json::Value::Object(changed.settings.profile),
        json!({"event_id": "E", "format": "flat"})
    );
    assert_eq!(
        (changed.created_at, changed.updated_at),
        (made.created_at, t.now())
    );
    assert_eq!((changed.alias, changed.account), (made.alias, made.account));

    let taken_away = HookEdit {
        token: Some(None),
        ..HookEdit::default()
    };
    let opened = t.store.hook_with_credentials(made.id).await.unwrap();
    let credentials = opened.credentials;
    assert_eq!(credentials.token.as_deref(), Some("old"));
    assert_eq!(credentials.basic.unwrap().password, "p");
    edited(t, made.id, taken_away).await.unwrap();
    let opened = t.store.hook_with_credentials(made.id).await.unwrap();
    assert_eq!(opened.credentials.token, None);
    assert_eq!(opened.url, "https://other.example/x");
}

#[conformance]
async fn an_edit_is_made_as_a_whole_or_not_at_all(t: &TestStore) {
    let made = t.register(known_as("misskey", "acme", "a")).await;
    let plain = t.hook("*").await;
    let broken = HookEdit {
        events: Some(Vec::new()),
        url: Some("ftp://other.example".into()),
        status: Some(HookStatus::Paused),
        ..HookEdit::default()
    };
    let error = edited(t, made.id, broken).await.unwrap_err();
    assert!(
        matches!(error, Error::Hook(HookError::Url { .. })),
        "{error:?}"
    );
    let shown = t.shown(made.id).await;
    assert_eq!((shown.status.as_str(), shown.events.len()), ("active", 1));
    let nothing = || HookEdit {
        events: Some(Vec::new()),
        ..HookEdit::default()
    };
    let error = edited(t, plain, nothing()).await.unwrap_err();
    assert!(
        matches!(error, Error::Hook(HookError::NoEvents)),
        "{error:?}"
    );
    let changed = edited(t, made.id, nothing()).await.unwrap();
    assert!(changed.events.is_empty(), "its own API may ask for nothing");
}

#[conformance]
async fn activating_by_an_edit_forgets_failures(t: &TestStore) {
    let hook = t.hook("work").await;
    let leased = t.started(hook, 1).await.remove(0);
    t.settle(&[t.refused(&leased, 10)]).await;
    let status = |status| HookEdit {
        status: Some(status),
        ..HookEdit::default()
    };
    let paused = edited(t, hook, status(HookStatus::Paused)).await.unwrap();
    assert_eq!((paused.fail_count, paused.held), (1, 1));
    let active = edited(t, hook, status(HookStatus::Active)).await.unwrap();
    assert_eq!((active.fail_count, active.status.as_str()), (0, "active"));
}

#[conformance]
async fn the_latest_answer_is_kept_whatever_the_order(t: &TestStore) {
    let hook = t.hook("*").await;
    assert_eq!(t.shown(hook).await.latest_sent_at, None);
    let early = t.now();
    t.advance(1);
    let late = t.now();
    let answer = |at, status| LatestAnswer { hook, at, status };
    for batch in [
        vec![answer(early, Some(200)), answer(late, None)],
        vec![answer(early, Some(500))],
        vec![],
    ] {
        t.store.note_latest(&batch).await.unwrap();
    }
    let shown = t.shown(hook).await;
    assert_eq!(
        (shown.latest_sent_at, shown.latest_status),
        (Some(late), None)
    );
    t.store
        .note_latest(&[answer(late, Some(204))])
        .await
        .unwrap();
    assert_eq!(t.shown(hook).await.latest_status, Some(204));
}

fn known_as(profile: &str, account: &str, alias: &str) -> NewHook {
    NewHook {
        alias: Some(NewAlias::Given(alias.into())),
        profile: profile.into(),
        ..new_hook(account, &["*"])
    }
}

fn of_profile(profile: Option<&str>) -> HookFilter {
    HookFilter {
        profile: profile.map(Into::into),
        limit: 100,
        ..HookFilter::default()
    }
}

async fn listed(t: &TestStore, profile: Option<&str>) -> Vec<HookId> {
    let hooks = t.store.hooks(of_profile(profile)).await.unwrap();
    hooks.iter().map(|hook| hook.id).collect()
}

async fn by_alias(t: &TestStore, profile: &str, account: &str, alias: &str) -> Option<Hook> {
    let filter = RegisteredFilter {
        account: account.into(),
        profile: profile.into(),
        only: Some(alias.into()),
        up_to: None,
        limit: 10,
    };
    let mut found = t.store.registered(filter).await.unwrap();
    assert!(found.len() <= 1);
    found.pop().map(|registered| registered.hook)
}

async fn edited(
    t: &TestStore,
    hook: HookId,
    edit: HookEdit,
) -> postrider_store::Result<HookReport> {
    let change = HookChange::Edit(Box::new(edit));
    t.store.change_hook(hook, change, "test", t.now()).await
}
