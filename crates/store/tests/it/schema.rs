//! The database itself: its tables, its clock, what is told of it.

use postrider_core::{KeyRing, slot_of};
use postrider_store::{
    Backend, DatabaseSettings, Error, MIGRATIONS, SCHEMA_LEVEL, SchemaState, Store, open,
};
use postrider_tests::{TestDatabase, TestStore, conformance, event, slots, start};
use std::sync::Arc;

#[conformance]
async fn migrating_an_empty_database_makes_it_current(t: &TestStore) {
    let (_database, store) = empty(t).await;
    assert_eq!(store.schema().await.unwrap(), SchemaState::Empty);
    let migrated = store.migrate(None, start()).await.unwrap();
    let names: Vec<_> = MIGRATIONS.iter().map(|step| step.name).collect();
    assert_eq!(migrated.applied, names);
    assert_eq!((migrated.total, migrated.slots), (MIGRATIONS.len(), 1));
    let state = store.schema().await.unwrap();
    assert_eq!(state, SchemaState::Current { slots: 1 });
}

#[conformance]
async fn migrating_again_changes_nothing(t: &TestStore) {
    let migrated = t.store.migrate(None, t.now()).await.unwrap();
    assert_eq!(migrated.applied, Vec::<String>::new());
    assert_eq!(migrated.total, MIGRATIONS.len());
    assert_eq!(migrated.slots, slots(t.backend()));
}

#[conformance]
async fn of_several_that_migrate_at_once_one_does_the_work(t: &TestStore) {
    let (database, first) = empty(t).await;
    let mut stores = vec![first];
    for _ in 0..4 {
        stores.push(opened(&database).await);
    }
    let tasks: Vec<_> = stores
        .into_iter()
        .map(|store| tokio::spawn(async move { store.migrate(None, start()).await }))
        .collect();
    let mut applied = 0;
    for task in tasks {
        applied += task.await.unwrap().unwrap().applied.len();
    }
    assert_eq!(applied, MIGRATIONS.len());
}

#[conformance]
async fn a_database_too_new_for_the_binary_is_refused(t: &TestStore) {
    let needed = SCHEMA_LEVEL + 7;
    t.sql()
        .await
        .run(format!(
            "UPDATE postrider_meta SET oldest_binary = {needed}"
        ))
        .await;
    let later = t.another().await;
    let state = later.schema().await.unwrap();
    assert_eq!(
        state,
        SchemaState::TooNew {
            oldest_binary: needed
        }
    );
    let error = later.migrate(None, t.now()).await.unwrap_err();
    assert!(matches!(error, Error::Schema(_)), "{error:?}");
    assert!(error.to_string().contains("upgrade"), "{error}");
}

#[conformance]
async fn tables_without_a_record_of_their_migration_are_damage(t: &TestStore) {
    let (database, store) = empty(t).await;
    let mut sql = database.connect().await;
    sql.run("CREATE TABLE postrider_outbox (id text)").await;
    refused_as_damaged(&store).await;
    assert_eq!(
        sql.number("SELECT count(*) FROM postrider_outbox").await,
        0,
        "what stands there stays"
    );
}

#[conformance]
async fn a_missing_table_is_damage(t: &TestStore) {
    t.sql().await.run("DROP TABLE postrider_ended").await;
    refused_as_damaged(&t.another().await).await;
}

#[conformance]
async fn a_missing_row_of_settings_is_damage(t: &TestStore) {
    t.sql().await.run("DELETE FROM postrider_meta").await;
    refused_as_damaged(&t.another().await).await;
}

#[conformance]
async fn a_database_without_our_tables_says_what_to_do(t: &TestStore) {
    let (_database, store) = empty(t).await;
    let problems = [
        store.enqueue(&[event("a")]).await.unwrap_err(),
        store.peek().await.unwrap_err(),
        store.hooks(Default::default()).await.unwrap_err(),
    ];
    for problem in problems {
        assert!(matches!(problem, Error::Schema(_)), "{problem:?}");
        assert!(
            problem.to_string().contains("postrider migrate"),
            "{problem}"
        );
    }
}

#[conformance]
async fn no_table_of_others_is_needed_or_touched(t: &TestStore) {
    let (database, store) = empty(t).await;
    let mut sql = database.connect().await;
    sql.run("CREATE TABLE invoices (id integer); INSERT INTO invoices VALUES (7)")
        .await;
    assert_eq!(store.schema().await.unwrap(), SchemaState::Empty);
    store.migrate(None, start()).await.unwrap();
    assert_eq!(sql.number("SELECT id FROM invoices").await, 7);
}

#[conformance]
async fn the_databases_clock_goes_forward(t: &TestStore) {
    let first = t.store.now().await.unwrap();
    let second = t.store.now().await.unwrap();
    assert!(start() < first && first <= second, "{first} {second}");
}

#[conformance]
async fn after_closing_every_call_fails(t: &TestStore) {
    t.store.close().await;
    assert!(t.store.peek().await.is_err());
    assert!(t.store.enqueue(&[event("a")]).await.is_err());
}

#[conformance(postgres)]
async fn slots_only_grow(t: &TestStore) {
    let more = slots(t.backend()) * 4;
    let grown = t.store.migrate(Some(more), t.now()).await.unwrap();
    assert_eq!(grown.slots, more);
    t.store.migrate(Some(more), t.now()).await.unwrap();
    assert!(t.store.migrate(Some(more - 1), t.now()).await.is_err());
    let state = t.store.schema().await.unwrap();
    assert_eq!(state, SchemaState::Current { slots: more });
}

#[conformance(postgres)]
async fn slots_do_not_grow_while_rows_with_keys_are_queued(t: &TestStore) {
    let before = slots(t.backend());
    t.insert(&[event("a").ordering_key("customer-7")]).await;
    assert!(t.store.migrate(Some(before * 4), t.now()).await.is_err());
    let state = t.store.schema().await.unwrap();
    assert_eq!(state, SchemaState::Current { slots: before });
    t.fan_out().await;
    t.store.migrate(Some(before * 4), t.now()).await.unwrap();
}

#[conformance(postgres)]
async fn bare_inserts_spread_over_the_slots_and_keys_keep_theirs(t: &TestStore) {
    t.store.migrate(Some(16), t.now()).await.unwrap();
    let mut sql = t.sql().await;
    sql.run(
        "INSERT INTO postrider_outbox (event_type, payload) \
         SELECT 'a', '1' FROM generate_series(1, 400)",
    )
    .await;
    let spread = t.store.peek().await.unwrap().outbox;
    assert_eq!(spread, (0..16).collect::<Vec<i16>>());
    for key in ["customer-7", "", "ä"] {
        let slot = sql.number(format!("SELECT postrider_slot('{key}')")).await;
        assert_eq!(slot, i64::from(slot_of(key, 16)), "{key}");
    }
}

#[conformance(postgres)]
async fn a_password_is_not_told(t: &TestStore) {
    let (user, rest) = t.database.url().split_once('@').expect("a user");
    let (url, password) = match user.trim_start_matches("postgres://").split_once(':') {
        Some((_, password)) => (t.database.url().to_owned(), password),
        None => (format!("{user}:hunter2@{rest}"), "hunter2"),
    };
    let settings = DatabaseSettings { url };
    let store = open(&settings, KeyRing::default()).await.unwrap();
    let told = store.describe();
    assert!(!told.contains(password), "{told}");
}

#[conformance(sqlite)]
async fn more_than_one_slot_is_refused(t: &TestStore) {
    let error = t.store.migrate(Some(8), t.now()).await.unwrap_err();
    assert!(error.to_string().contains("PostgreSQL"), "{error}");
    let state = t.store.schema().await.unwrap();
    assert_eq!(state, SchemaState::Current { slots: 1 });
}

#[conformance(postgres)]
async fn any_number_of_workers_may_claim_a_server(t: &TestStore) {
    let first = t.store.claim_worker().await.unwrap();
    let second = t.another().await.claim_worker().await.unwrap();
    assert!(!first.is_exclusive() && !second.is_exclusive());
}

#[conformance(sqlite)]
async fn one_worker_at_a_time_claims_a_file(t: &TestStore) {
    let elsewhere = t.another().await;
    let claim = t.store.claim_worker().await.unwrap();
    assert!(claim.is_exclusive());
    let error = elsewhere.claim_worker().await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    elsewhere.enqueue(&[event("a")]).await.unwrap();
    assert_eq!(t.fan_out().await.events, 1, "others may write beside it");
    drop(claim);
    elsewhere.claim_worker().await.unwrap();
}

async fn empty(t: &TestStore) -> (TestDatabase, Arc<dyn Store>) {
    let database = TestDatabase::empty(t.backend()).await;
    let store = opened(&database).await;
    (database, store)
}

async fn opened(database: &TestDatabase) -> Arc<dyn Store> {
    let settings = DatabaseSettings {
        url: database.url().into(),
    };
    let backend = Backend::of(database.url()).unwrap();
    assert_eq!(backend, database.backend());
    open(&settings, KeyRing::default()).await.unwrap()
}

async fn refused_as_damaged(store: &Arc<dyn Store>) {
    let state = store.schema().await.unwrap();
    assert!(matches!(state, SchemaState::Damaged(_)), "{state:?}");
    assert!(state.problem().unwrap().contains("half migrated"));
    let error = store.migrate(None, start()).await.unwrap_err();
    assert!(matches!(error, Error::Schema(_)), "{error:?}");
}
