//! Credentials of registrants, and the signatures they show.

use postrider_core::{
    Access, AccessChange, CredentialError, KeyId, KeyRing, KeyToken, NewCredential, NewKey,
    PasswordHash, Proof, RegistrantStatus, SharedSecret, TokenHash,
};
use postrider_store::{CredentialQuery, Error, KeyFilter, KeyReport};
use postrider_tests::{TestStore, conformance};
use std::time::Duration;
use uuid::Uuid;

#[conformance]
async fn a_registrant_is_found_by_what_it_shows(t: &TestStore) {
    let signing = credential("one", signing("NCSKEY", "s3cr3t"));
    let hash = PasswordHash::stored("$argon2id$x");
    let basic = credential("two", password("api 'ü' user", hash));
    let token = TokenHash::of_registrant("three", "token");
    let bearer = credential("three", Proof::Token(token));
    for (new, query) in [
        (signing, by_id("one", "NCSKEY")),
        (basic, by_id("two", "api 'ü' user")),
        (bearer, by_token("three", token)),
    ] {
        let made = made(t, new.clone()).await;
        assert_eq!(made.scope, "register");
        assert_eq!(made.account.as_deref(), Some("acme"));
        assert_eq!(made.registrant.as_ref().unwrap().r#for, new.system);
        assert_eq!(shown(t, made.id).await, made);
        let found = t.store.find_credential(query).await.unwrap().unwrap();
        assert_eq!((found.id, found.account), (made.id, new.account));
        assert_eq!((found.proof, found.access), (new.proof, new.access));
    }
    for unknown in [
        by_id("one", "NCSKEy"),
        by_id("one", ""),
        by_id("two", "NCSKEY"),
        by_token("one", token),
    ] {
        assert_eq!(t.store.find_credential(unknown).await.unwrap(), None);
    }
}

#[conformance]
async fn the_secret_of_a_registrant_is_sealed(t: &TestStore) {
    let first = made(t, credential("one", signing("A", "first secret"))).await;
    let second = made(t, credential("one", signing("B", "second secret"))).await;
    let mut sql = t.sql().await;
    let clear = "SELECT count(*) FROM postrider_keys WHERE proof LIKE '%secret%'";
    assert_eq!(sql.number(clear).await, 0);
    // Moved to another row, it does not open.
    sql.run(&format!(
        "UPDATE postrider_keys SET proof = (SELECT proof FROM postrider_keys WHERE id = {}) \
         WHERE id = {}",
        t.id(first.id.0),
        t.id(second.id.0)
    ))
    .await;
    let moved = t.store.find_credential(by_id("one", "B")).await;
    assert!(matches!(moved, Err(Error::Seal(_))), "{moved:?}");
    let found = t.store.find_credential(by_id("one", "A")).await.unwrap();
    assert_eq!(found.unwrap().proof, signing("A", "first secret"));

    let other = KeyRing::new([KeyRing::generate_key().as_str()]).unwrap();
    let elsewhere = t.with_keys(&other).await;
    let unopened = elsewhere.find_credential(by_id("one", "A")).await;
    assert!(matches!(unopened, Err(Error::Seal(_))), "{unopened:?}");
}

#[conformance]
async fn a_credential_that_breaks_a_bound_is_refused(t: &TestStore) {
    let broken = NewCredential {
        account: String::new(),
        ..credential("one", signing("A", "s"))
    };
    let error = t.store.create_credential(broken, t.now()).await;
    let expected = CredentialError::Account(0);
    assert!(
        matches!(&error, Err(Error::Credential(told)) if *told == expected),
        "{error:?}"
    );
}

#[conformance]
async fn what_a_registrant_shows_is_its_own_until_it_is_revoked(t: &TestStore) {
    let first = made(t, credential("one", signing("A", "s"))).await;
    let again = credential("one", signing("A", "other"));
    let refused = t.store.create_credential(again.clone(), t.now()).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    made(t, credential("two", signing("A", "s"))).await;

    t.store.revoke_key(first.id, t.now()).await.unwrap();
    let query = by_id("one", "A");
    assert_eq!(t.store.find_credential(query.clone()).await.unwrap(), None);
    let second = made(t, again).await;
    let found = t.store.find_credential(query).await.unwrap().unwrap();
    assert_eq!(found.id, second.id);
    assert!(shown(t, first.id).await.revoked_at.is_some());
}

#[conformance]
async fn a_registrant_may_do_what_was_last_said(t: &TestStore) {
    let id = made(t, credential("one", signing("A", "s"))).await.id;
    let access = async || {
        let found = t.store.find_credential(by_id("one", "A")).await;
        found.unwrap().unwrap().access
    };
    assert!(access().await.is_full());
    let change = AccessChange {
        permission: Some((true, false)),
        account_status: Some(RegistrantStatus::Inactive),
        ..AccessChange::default()
    };
    let changed = t.store.change_credential(id, change).await.unwrap();
    let registrant = changed.registrant.unwrap();
    assert_eq!(registrant.permission, ["read"]);
    assert_eq!(registrant.account_status, RegistrantStatus::Inactive);
    let change = AccessChange {
        member_status: Some(RegistrantStatus::Inactive),
        verified: Some(false),
        ..AccessChange::default()
    };
    t.store.change_credential(id, change).await.unwrap();
    let expected = Access {
        read: true,
        write: false,
        account_status: RegistrantStatus::Inactive,
        member_status: RegistrantStatus::Inactive,
        verified: false,
    };
    assert_eq!(access().await, expected);
}

#[conformance]
async fn only_credentials_of_registrants_are_changed(t: &TestStore) {
    let key = NewKey {
        scope: postrider_core::KeyScope::Admin,
        account: None,
        name: None,
    };
    let hash = KeyToken::generate().hash();
    let key = t.store.create_key(key, hash, t.now()).await.unwrap().id;
    for id in [key, KeyId(Uuid::from_u128(7))] {
        let change = AccessChange {
            verified: Some(false),
            ..AccessChange::default()
        };
        let refused = t.store.change_credential(id, change).await;
        assert!(
            matches!(refused, Err(Error::NotFound { .. })),
            "{refused:?}"
        );
    }
}

#[conformance]
async fn a_registrants_token_is_no_key_of_our_api(t: &TestStore) {
    let hash = KeyToken::generate().hash();
    made(t, credential("one", Proof::Token(hash))).await;
    assert_eq!(t.store.find_key(hash).await.unwrap(), None);
}

#[conformance]
async fn a_signature_is_taken_once(t: &TestStore) {
    let (one, other) = (KeyId::draw(t.now()), KeyId::draw(t.now()));
    let until = t.now() + Duration::from_secs(900);
    let take = async |store: &dyn postrider_store::Store, key, signature: &[u8]| {
        store
            .take_signature(key, signature, t.now(), until)
            .await
            .unwrap()
    };
    let store = t.store.as_ref();
    assert!(take(store, one, b"first").await);
    assert!(!take(store, one, b"first").await);
    assert!(take(store, one, b"second").await);
    assert!(take(store, other, b"first").await);
    assert!(
        !take(t.another().await.as_ref(), one, b"first").await,
        "whatever restarts"
    );
}

#[conformance]
async fn of_several_that_show_one_signature_at_once_one_is_taken(t: &TestStore) {
    let key = KeyId::draw(t.now());
    let mut taking = Vec::new();
    for _ in 0..8 {
        let (store, now) = (t.another().await, t.now());
        taking.push(tokio::spawn(async move {
            store.take_signature(key, b"one", now, now).await.unwrap()
        }));
    }
    let mut taken = 0;
    for taking in taking {
        taken += usize::from(taking.await.unwrap());
    }
    assert_eq!(taken, 1);
}

#[conformance]
async fn signatures_whose_moment_has_passed_are_forgotten(t: &TestStore) {
    let key = KeyId::draw(t.now());
    let take = async |number: u32| {
        let until = t.now() + Duration::from_secs(900);
        let signature = number.to_be_bytes();
        t.store
            .take_signature(key, &signature, t.now(), until)
            .await
            .unwrap()
    };
    for number in 0..20 {
        assert!(take(number).await);
    }
    let kept = async || {
        t.sql()
            .await
            .number("SELECT count(*) FROM postrider_signatures")
            .await
    };
    t.advance(900);
    assert!(!take(0).await, "until then it is known");
    t.advance(1);
    for number in 20..23 {
        assert!(take(number).await);
    }
    assert_eq!(kept().await, 3);
}

#[conformance]
async fn a_signature_may_be_taken_again_when_its_moment_has_passed(t: &TestStore) {
    let key = KeyId::draw(t.now());
    let take = async || {
        let until = t.now() + Duration::from_secs(900);
        let taken = t.store.take_signature(key, b"one", t.now(), until).await;
        taken.unwrap()
    };
    assert!(take().await);
    t.advance(900);
    assert!(!take().await, "until then it is known");
    t.advance(1);
    assert!(take().await);
    t.advance(900);
    assert!(!take().await, "it is known again");
}

async fn made(t: &TestStore, new: NewCredential) -> KeyReport {
    t.store.create_credential(new, t.now()).await.unwrap()
}

async fn shown(t: &TestStore, id: KeyId) -> KeyReport {
    let filter = KeyFilter {
        after: None,
        limit: 100,
    };
    let keys = t.store.keys(filter).await.unwrap();
    keys.into_iter().find(|key| key.id == id).unwrap()
}

fn credential(system: &str, proof: Proof) -> NewCredential {
    NewCredential {
        system: system.into(),
        account: "acme".into(),
        name: Some("shop".into()),
        proof,
        access: Access::default(),
    }
}

fn signing(id: &str, secret: &str) -> Proof {
    Proof::Secret {
        id: id.into(),
        secret: SharedSecret::new(secret),
    }
}

fn password(user: &str, hash: PasswordHash) -> Proof {
    Proof::Password {
        user: user.into(),
        hash,
    }
}

fn by_id(system: &str, id: &str) -> CredentialQuery {
    CredentialQuery::Id {
        system: system.into(),
        id: id.into(),
    }
}

fn by_token(system: &str, hash: TokenHash) -> CredentialQuery {
    CredentialQuery::Token {
        system: system.into(),
        hash,
    }
}
