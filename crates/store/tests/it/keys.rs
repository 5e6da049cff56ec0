//! Keys of the API as people make, list and revoke them, and as the API finds them.

use postrider_core::{KeyError, KeyId, KeyScope, KeyToken, NewKey, Timestamp};
use postrider_store::{Error, KeyFilter, KeyReport};
use postrider_tests::{TestStore, conformance};
use std::time::Duration;
use uuid::Uuid;

#[conformance]
async fn a_key_is_found_by_the_hash_of_its_token(t: &TestStore) {
    for (scope, account, name) in [
        (KeyScope::Admin, None, Some("the operator's 'ü'")),
        (KeyScope::Account, Some("acme 'ü'"), None),
        (KeyScope::Publish, Some("acme"), Some("shop")),
        (KeyScope::Publish, None, None),
    ] {
        let token = KeyToken::generate();
        let key = NewKey {
            scope,
            account: account.map(Into::into),
            name: name.map(Into::into),
        };
        let made = t.store.create_key(key, token.hash(), t.now()).await;
        let made = made.unwrap();
        assert_eq!(made.scope, scope.name());
        assert_eq!(made.account.as_deref(), account);
        assert_eq!(made.name.as_deref(), name);
        assert_eq!(made.created_at, t.now());
        assert_eq!((made.last_used_at, made.revoked_at), (None, None));

        let found = t.store.find_key(token.hash()).await.unwrap().unwrap();
        assert_eq!((found.id, found.scope), (made.id, scope));
        assert_eq!(found.account.as_deref(), account);
        assert_eq!(shown(t, made.id).await, made);
    }
    let unknown = KeyToken::generate().hash();
    assert_eq!(t.store.find_key(unknown).await.unwrap(), None);
}

#[conformance]
async fn a_key_that_breaks_a_bound_is_refused(t: &TestStore) {
    let key = |scope, account: Option<&str>| NewKey {
        scope,
        account: account.map(Into::into),
        name: None,
    };
    for (broken, why) in [
        (key(KeyScope::Account, None), KeyError::AccountMissing),
        (key(KeyScope::Admin, Some("acme")), KeyError::AdminOfOne),
        (key(KeyScope::Publish, Some("")), KeyError::Account(0)),
    ] {
        let hash = KeyToken::generate().hash();
        let error = t.store.create_key(broken, hash, t.now()).await.unwrap_err();
        assert!(
            matches!(&error, Error::Key(told) if *told == why),
            "{error:?}"
        );
    }
    assert!(t.store.keys(everything()).await.unwrap().is_empty());
}

#[conformance]
async fn a_hash_that_another_key_has_is_refused(t: &TestStore) {
    let token = KeyToken::generate();
    let first = made(t, &token).await;
    let again = t.store.create_key(publisher(), token.hash(), t.now()).await;
    assert!(matches!(again, Err(Error::Refused(_))), "{again:?}");
    assert_eq!(t.store.keys(everything()).await.unwrap(), [first]);
}

#[conformance]
async fn keys_are_listed_page_by_page_revoked_ones_included(t: &TestStore) {
    let mut expected = Vec::new();
    for number in 0..7 {
        let key = made(t, &KeyToken::generate()).await;
        if number % 2 == 0 {
            t.store.revoke_key(key.id, t.now()).await.unwrap();
        }
        expected.push(key.id);
        t.advance(1);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = t.store.keys(KeyFilter { after, limit: 3 }).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.iter().map(|key| key.id));
    }
    assert_eq!(seen, expected, "in the order of their ids");
}

#[conformance]
async fn a_revoked_key_is_not_found_any_more(t: &TestStore) {
    let (doomed, other) = (KeyToken::generate(), KeyToken::generate());
    let key = made(t, &doomed).await;
    made(t, &other).await;
    t.advance(5);
    let revoked = t.store.revoke_key(key.id, t.now()).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(t.now()));
    assert_eq!((revoked.id, revoked.name), (key.id, key.name));
    assert_eq!(t.store.find_key(doomed.hash()).await.unwrap(), None);
    assert!(t.store.find_key(other.hash()).await.unwrap().is_some());
}

#[conformance]
async fn one_that_is_revoked_already_keeps_the_time(t: &TestStore) {
    let key = made(t, &KeyToken::generate()).await;
    let once = t.store.revoke_key(key.id, t.now()).await.unwrap();
    t.advance(60);
    let twice = t.store.revoke_key(key.id, t.now()).await.unwrap();
    assert_eq!(once, twice);
}

#[conformance]
async fn an_unknown_key_cannot_be_revoked(t: &TestStore) {
    let unknown = KeyId(Uuid::from_u128(7));
    let revoked = t.store.revoke_key(unknown, t.now()).await;
    assert!(
        matches!(revoked, Err(Error::NotFound { what: "key", .. })),
        "{revoked:?}"
    );
}

#[conformance]
async fn a_key_made_or_revoked_elsewhere_is_seen_at_once(t: &TestStore) {
    let token = KeyToken::generate();
    let elsewhere = t.another().await;
    assert_eq!(elsewhere.find_key(token.hash()).await.unwrap(), None);
    let key = made(t, &token).await;
    assert!(elsewhere.find_key(token.hash()).await.unwrap().is_some());
    t.store.revoke_key(key.id, t.now()).await.unwrap();
    assert_eq!(elsewhere.find_key(token.hash()).await.unwrap(), None);
}

#[conformance]
async fn a_use_is_recorded_once_a_minute(t: &TestStore) {
    let (one, other) = (KeyToken::generate(), KeyToken::generate());
    let (one, other) = (made(t, &one).await.id, made(t, &other).await.id);
    let used = async |id, at| {
        t.store.keys_used(&[(id, at)]).await.unwrap();
        shown(t, id).await.last_used_at
    };
    let at = |seconds| t.now() + Duration::from_secs(seconds);
    assert_eq!(used(one, at(0)).await, Some(at(0)));
    assert_eq!(used(one, at(59)).await, Some(at(0)), "too soon");
    assert_eq!(used(one, at(60)).await, Some(at(60)));
    assert_eq!(used(one, at(0)).await, Some(at(60)), "never backwards");
    assert_eq!(shown(t, other).await.last_used_at, None);
    t.store
        .keys_used(&[(one, at(600)), (other, at(601))])
        .await
        .unwrap();
    assert_eq!(shown(t, one).await.last_used_at, Some(at(600)));
    assert_eq!(shown(t, other).await.last_used_at, Some(at(601)));
}

#[conformance]
async fn uses_of_unknown_keys_are_passed_over(t: &TestStore) {
    let key = made(t, &KeyToken::generate()).await.id;
    let unknown = KeyId(Uuid::from_u128(7));
    let used = [(unknown, t.now()), (key, t.now())];
    t.store.keys_used(&used).await.unwrap();
    assert_eq!(shown(t, key).await.last_used_at, Some(t.now()));
    t.store.keys_used(&[]).await.unwrap();
}

#[conformance]
async fn several_may_record_uses_at_once(t: &TestStore) {
    let mut used: Vec<(KeyId, Timestamp)> = Vec::new();
    for _ in 0..50 {
        used.push((made(t, &KeyToken::generate()).await.id, t.now()));
    }
    let mut recording = Vec::new();
    for number in 0..4 {
        let (store, mut used) = (t.another().await, used.clone());
        if number % 2 == 0 {
            used.reverse();
        }
        recording.push(tokio::spawn(async move { store.keys_used(&used).await }));
    }
    for recording in recording {
        recording.await.unwrap().unwrap();
    }
    for key in t.store.keys(everything()).await.unwrap() {
        assert_eq!(key.last_used_at, Some(t.now()));
    }
}

async fn made(t: &TestStore, token: &KeyToken) -> KeyReport {
    let made = t.store.create_key(publisher(), token.hash(), t.now()).await;
    made.unwrap()
}

async fn shown(t: &TestStore, id: KeyId) -> KeyReport {
    let keys = t.store.keys(everything()).await.unwrap();
    keys.into_iter().find(|key| key.id == id).unwrap()
}

fn publisher() -> NewKey {
    NewKey {
        scope: KeyScope::Publish,
        account: None,
        name: Some("shop".into()),
    }
}

fn everything() -> KeyFilter {
    KeyFilter {
        after: None,
        limit: 100,
    }
}
