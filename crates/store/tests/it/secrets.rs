//! What proves the sender is sealed at rest.

use postrider_core::{BasicAuth, KeyRing, KeyScope, KeyToken, NewKey, SealError, SigningSecret};
use postrider_store::{Backend, Error, HookChange};
use postrider_tests::{TestStore, conformance, event, new_hook};

#[conformance]
async fn no_secret_stands_in_the_database_in_the_clear(t: &TestStore) {
    let mut hook = new_hook("default", &["*"]);
    hook.credentials.basic = Some(BasicAuth {
        user: "the-basic-user".into(),
        password: "the-basic-password".into(),
    });
    hook.credentials.headers = vec![("authorization".into(), "Bearer the-header".into())];
    let first = hook.credentials.secrets[0].secret.reveal();
    let id = t.register(hook).await.id;
    let second = SigningSecret::generate();
    let rotate = HookChange::Rotate {
        secret: second.clone(),
        overlap_until: t.now(),
    };
    t.store
        .change_hook(id, rotate, "test", t.now())
        .await
        .unwrap();
    let token = KeyToken::generate();
    let key = NewKey {
        scope: KeyScope::Admin,
        account: None,
        name: None,
    };
    let made = t.store.create_key(key, token.hash(), t.now()).await;
    made.unwrap();
    t.insert(&[event("a")]).await;
    t.fan_out().await;

    let stored = everything_stored(t).await;
    assert!(find(&stored, b"receiver.example"), "the search works");
    let second = second.reveal();
    for secret in [
        first.trim_start_matches("whsec_"),
        second.trim_start_matches("whsec_"),
        "the-basic-user",
        "the-basic-password",
        "the-header",
        token.reveal().trim_start_matches("pr_"),
    ] {
        assert!(
            !find(&stored, secret.as_bytes()),
            "{secret} is in the clear"
        );
    }
}

#[conformance]
async fn what_was_sealed_opens_again(t: &TestStore) {
    let mut hook = new_hook("default", &["*"]);
    hook.credentials.basic = Some(BasicAuth {
        user: "ü".into(),
        password: "p".into(),
    });
    hook.credentials.headers = vec![("x-token".into(), "7".into())];
    let credentials = hook.credentials.clone();
    let id = t.register(hook).await.id;
    let elsewhere = t.another().await;
    let opened = elsewhere.hook_with_credentials(id).await.unwrap();
    assert!(opened.credentials == credentials);
    assert!(!opened.locked);
}

#[conformance]
async fn a_hook_whose_secret_cannot_be_opened_waits(t: &TestStore) {
    let hook = t.hook("*").await;
    let stranger = t.with_keys(&other_keys()).await;
    t.insert(&[event("a"), event("a")]).await;
    let done = stranger.fan_out(t.request()).await.unwrap();
    assert_eq!((done.deliveries, done.started.len()), (2, 0));
    let leased = stranger.lease(t.lease_request(&[hook])).await.unwrap();
    assert!(leased.is_empty());
    assert!(stranger.hook_cache().get(hook).unwrap().locked);
    let error = stranger.hook_with_credentials(hook).await.unwrap_err();
    assert!(matches!(error, Error::Seal(_)), "{error:?}");
    assert_eq!(stranger.hook(hook).await.unwrap().status, "active");

    assert_eq!(
        t.lease(&[hook]).await.len(),
        2,
        "who has the key sends them"
    );
}

#[conformance]
async fn one_locked_hook_does_not_stop_the_others(t: &TestStore) {
    t.hook("*").await;
    let stranger = t.with_keys(&other_keys()).await;
    let own = stranger
        .create_hook(new_hook("default", &["*"]), "test", t.now())
        .await
        .unwrap();
    t.insert(&[event("a")]).await;
    let done = stranger.fan_out(t.request()).await.unwrap();
    assert_eq!((done.deliveries, done.started.len()), (2, 1));
    assert_eq!(done.started[0].hook.id, own.id);
}

#[conformance(postgres)]
async fn without_a_key_no_secret_is_stored(t: &TestStore) {
    let keyless = t.with_keys(&KeyRing::default()).await;
    let hook = new_hook("default", &["*"]);
    let error = keyless
        .create_hook(hook, "test", t.now())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Seal(SealError::NoKey)), "{error:?}");
    assert!(error.to_string().contains("secrets.key"), "{error}");

    let hook = t.hook("*").await;
    let rotate = HookChange::Rotate {
        secret: SigningSecret::generate(),
        overlap_until: t.now(),
    };
    let rotated = keyless.change_hook(hook, rotate, "test", t.now()).await;
    assert!(matches!(rotated, Err(Error::Seal(_))), "{rotated:?}");
    let paused = keyless.change_hook(hook, HookChange::Pause, "test", t.now());
    assert_eq!(paused.await.unwrap().status, "paused", "that needs no key");
}

fn other_keys() -> KeyRing {
    KeyRing::new([KeyRing::generate_key().as_str()]).unwrap()
}

/// Every byte of SQLite's files, or every row of every table on PostgreSQL.
async fn everything_stored(t: &TestStore) -> Vec<u8> {
    match t.backend() {
        Backend::Sqlite => {
            let files = t.database.files();
            let databases = files
                .iter()
                .filter(|file| file.to_string_lossy().contains("postrider.db"))
                .filter(|file| file.extension().is_none_or(|ending| ending != "key"));
            databases
                .flat_map(|file| std::fs::read(file).unwrap())
                .collect()
        }
        Backend::Postgres => {
            let mut sql = t.sql().await;
            let tables = sql
                .rows("SELECT tablename FROM pg_tables WHERE tablename LIKE 'postrider%'")
                .await;
            let mut stored = String::new();
            for table in tables.into_iter().flatten().flatten() {
                let rows = sql.rows(format!("SELECT t::text FROM {table} t")).await;
                stored.extend(rows.into_iter().flatten().flatten());
            }
            stored.into_bytes()
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}
