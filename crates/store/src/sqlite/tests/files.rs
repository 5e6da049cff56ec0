//! Opening, claiming and migrating files.

use super::*;
use crate::store::*;
use crate::{Error, SchemaState};
use std::collections::BTreeMap;

async fn refused(url: &str) -> Error {
    SqliteStore::open(url, KeyRing::default())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn what_cannot_be_a_database_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    std::fs::write(folder.path().join("text.db"), "x".repeat(10_000)).unwrap();
    for (url, why) in [
        (at("nowhere/p.db"), "there is no folder"),
        (at("."), "is a folder"),
        (at("text.db"), "text.db: the file is not a SQLite database"),
    ] {
        let error = refused(&url).await;
        assert!(matches!(error, Error::Database(_)), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_file_is_set_up_as_documented() {
    let file = TestFile::new().await;
    assert_eq!(
        file.count("SELECT journal_mode = 'wal' FROM pragma_journal_mode")
            .await,
        1
    );
    assert_eq!(file.count("PRAGMA auto_vacuum").await, 2);
    assert!(file.store.describe().contains("postrider.db"));
    let now = file.store.now().await.unwrap();
    assert!(now > super::now() - TimeDelta::days(3650));
}

#[cfg(unix)]
#[tokio::test]
async fn all_files_have_the_mode_of_the_database_which_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let key = KeyRing::generate_key();
    for given in [None, Some(0o660)] {
        let folder = tempfile::tempdir().unwrap();
        if let Some(mode) = given {
            // A group was given access, which the umask does not take away.
            let path = folder.path().join("postrider.db");
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let store = open(&folder, &key).await;
        store.migrate(None, now()).await.unwrap();
        let _claim = store.claim_worker().await.unwrap();
        let mut modes = BTreeMap::new();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            modes.insert(entry.file_name().into_string().unwrap(), mode);
        }
        let lock = modes.remove("postrider.db.worker.lock").unwrap();
        let expected = given.unwrap_or(0o600);
        assert_eq!(lock & !expected, 0, "{lock:o}");
        assert_eq!(modes.len(), 3, "{modes:?}");
        assert!(modes.values().all(|mode| *mode == expected), "{modes:?}");
    }
}

#[tokio::test]
async fn a_file_is_claimed_by_one_worker_at_a_time() {
    let file = TestFile::new().await;
    let other = file.again().await;
    let claim = file.store.claim_worker().await.unwrap();
    assert!(claim.is_exclusive());
    let error = other.claim_worker().await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)));
    assert!(
        error.to_string().contains("another worker process"),
        "{error}"
    );
    drop(claim);
    assert!(other.claim_worker().await.is_ok());
}

#[tokio::test]
async fn migrating_at_the_same_time_does_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyRing::generate_key();
    let runs = (0..8).map(|_| {
        let path = folder.path().join("postrider.db");
        let keys = KeyRing::new([key.as_str()]).unwrap();
        tokio::spawn(async move {
            let url = format!("sqlite://{}", path.display());
            let store = SqliteStore::open(&url, keys).await.unwrap();
            store.migrate(None, now()).await.unwrap().applied.len()
        })
    });
    let mut applied = 0;
    for run in runs.collect::<Vec<_>>() {
        applied += run.await.unwrap();
    }
    assert_eq!(applied, crate::MIGRATIONS.len());
    let store = open(&folder, &key).await;
    assert_eq!(
        store.schema().await.unwrap(),
        SchemaState::Current { slots: 1 }
    );
}

#[tokio::test]
async fn the_state_of_the_tables_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyRing::generate_key();
    let store = open(&folder, &key).await;
    assert_eq!(store.schema().await.unwrap(), SchemaState::Empty);
    let error = store.peek().await.unwrap_err();
    assert!(matches!(&error, Error::Schema(text) if text.contains("postrider migrate")));

    let file = TestFile::new().await;
    let error = file.store.migrate(Some(32), now()).await.unwrap_err();
    assert!(error.to_string().contains("PostgreSQL"), "{error}");
    assert!(
        file.store
            .migrate(Some(1), now())
            .await
            .unwrap()
            .applied
            .is_empty()
    );
    file.run("UPDATE postrider_meta SET oldest_binary = 99")
        .await;
    let state = file.store.schema().await.unwrap();
    assert_eq!(state, SchemaState::TooNew { oldest_binary: 99 });
    assert!(matches!(
        file.store.migrate(None, now()).await,
        Err(Error::Schema(_))
    ));
    file.run("UPDATE postrider_meta SET oldest_binary = 1; DROP TABLE postrider_ended")
        .await;
    let state = file.store.schema().await.unwrap();
    assert_eq!(
        state,
        SchemaState::Damaged("the table postrider_ended is missing".into())
    );
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let file = TestFile::new().await;
    file.hook("*").await;
    file.enqueue(3).await;
    file.fan_out(1).await;
    file.store.close().await;
    let error = file.store.peek().await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert!(file.store.enqueue(&[]).await.unwrap_err().is_passing());
    let store = file.again().await;
    assert_eq!(store.slots().await.unwrap(), [0]);
    assert_eq!(
        store
            .hooks(HookFilter {
                limit: 9,
                ..Default::default()
            })
            .await
            .unwrap()
            .len(),
        1
    );
}
