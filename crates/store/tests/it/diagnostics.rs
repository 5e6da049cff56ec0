//! What a database tells about itself.

use postrider_store::{Backend, Diagnostics, OUTBOX_COLUMNS, Producer};
use postrider_tests::{TestStore, conformance};

#[conformance]
async fn a_database_that_is_well_has_nothing_to_tell(t: &TestStore) {
    let found = diagnose(t).await;
    assert!(found.missing_partitions.is_empty());
    assert!(
        found
            .oldest_snapshot
            .is_none_or(|old| old.age.as_secs() < 60)
    );
    assert!(found.tables.iter().map(|table| table.bytes).sum::<u64>() > 0);
    assert_eq!(found.unused.is_some(), t.backend() == Backend::Sqlite);
}

#[conformance(postgres)]
async fn missing_partitions_are_named(t: &TestStore) {
    let mut sql = t.sql().await;
    sql.run("DROP TABLE postrider_attempts_20260304").await;
    let found = diagnose(t).await;
    assert_eq!(found.missing_partitions, ["postrider_attempts_20260304"]);
    t.store.migrate(None, t.now()).await.unwrap();
    assert!(diagnose(t).await.missing_partitions.is_empty());
}

#[conformance(postgres)]
async fn a_transaction_that_stays_open_is_named(t: &TestStore) {
    let mut sql = t.sql().await;
    sql.run(
        "SET application_name = 'nightly report'; BEGIN ISOLATION LEVEL REPEATABLE READ; \
         SELECT count(*) FROM postrider_events",
    )
    .await;
    let old = diagnose(t).await.oldest_snapshot.unwrap();
    assert!(old.what.contains("nightly report"), "{old:?}");
    assert!(old.remedy.contains("pg_terminate_backend"), "{old:?}");
    assert!(old.since.is_some());
}

#[conformance(postgres)]
async fn what_roles_may_insert_is_told(t: &TestStore) {
    let name = |role: &str| format!("{role}_{}", t.worker.0.simple());
    let (right, wrong) = (name("right"), name("wrong"));
    let columns = OUTBOX_COLUMNS.join(", ");
    let mut sql = t.sql().await;
    // Roles belong to the server and outlive the database of a test.
    sql.run(format!(
        "CREATE ROLE {right}; CREATE ROLE {wrong}; \
         REVOKE USAGE ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO {right}; \
         GRANT INSERT ({columns}), SELECT (id) ON postrider_outbox TO {right}; \
         GRANT INSERT (id, event_type) ON postrider_outbox TO {wrong}"
    ))
    .await;
    let producers = diagnose(t).await.producers;
    sql.run(format!(
        "DROP OWNED BY {right}, {wrong}; DROP ROLE {right}, {wrong}"
    ))
    .await;
    let missing = OUTBOX_COLUMNS
        .into_iter()
        .filter(|column| *column != "event_type");
    assert_eq!(
        producers,
        [
            Producer {
                role: right,
                missing: vec![],
                excess: vec![],
                uses_schema: true,
            },
            Producer {
                role: wrong,
                missing: missing.map(str::to_owned).collect(),
                excess: vec!["id".into()],
                uses_schema: false,
            },
        ]
    );
}

async fn diagnose(t: &TestStore) -> Diagnostics {
    t.store.diagnostics(t.now()).await.unwrap()
}
