//! Creating and updating the tables, and reading their state.
//!
//! Each run of `migrate` is one transaction that begins before the state is read. A second
//! process waits for it and finds the work done, and a crash leaves nothing half done.

use super::SqliteStore;
use super::values::micros;
use crate::migrations::Migration;
use crate::schema_state::{
    AppliedMigration, META_TABLE, MIGRATIONS_TABLE, SchemaFacts, SchemaMeta,
};
use crate::{Error, MIGRATIONS, Migrated, Result, SchemaState};
use postrider_core::Timestamp;
use sqlx::SqliteConnection;
use std::collections::HashSet;

/// Creates or updates the tables.
pub(super) async fn migrate(
    store: &SqliteStore,
    slots: Option<u16>,
    now: Timestamp,
) -> Result<Migrated> {
    if slots.is_some_and(|slots| slots != 1) {
        return Err(Error::Conflict(
            "SQLite has one writer and therefore one slot: leave --slots out, or move to \
             PostgreSQL to spread the outbox"
                .into(),
        ));
    }
    let mut tx = store.writer.begin().await?;
    let applied = match state(&mut tx).await? {
        SchemaState::Empty => 0,
        SchemaState::Behind { applied } => applied,
        SchemaState::Current { .. } => MIGRATIONS.len(),
        unusable => return Err(Error::Schema(unusable.problem().unwrap_or_default())),
    };
    let missing = &MIGRATIONS[applied..];
    for migration in missing {
        apply(&mut tx, migration, now).await?;
    }
    tx.commit().await?;
    Ok(Migrated {
        applied: missing.iter().map(|m| m.name.to_owned()).collect(),
        total: MIGRATIONS.len(),
        slots: 1,
    })
}

async fn apply(tx: &mut SqliteConnection, migration: &Migration, now: Timestamp) -> Result<()> {
    sqlx::raw_sql(
        "-- postrider: migrate_table
        CREATE TABLE IF NOT EXISTS postrider_migrations (
            version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL
        ) STRICT",
    )
    .execute(&mut *tx)
    .await?;
    sqlx::raw_sql(migration.sqlite).execute(&mut *tx).await?;
    sqlx::query(
        "-- postrider: migrate_done
        INSERT INTO postrider_migrations (version, name, applied_at) VALUES (?1, ?2, ?3)",
    )
    .bind(migration.version)
    .bind(migration.name)
    .bind(micros(now))
    .execute(tx)
    .await?;
    Ok(())
}

/// The state of the database.
pub(super) async fn state(connection: &mut SqliteConnection) -> Result<SchemaState> {
    let tables: Vec<String> = sqlx::query_scalar(
        "-- postrider: schema_tables
        SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'postrider_*'",
    )
    .fetch_all(&mut *connection)
    .await?;
    let tables = HashSet::from_iter(tables);
    let (mut applied, mut meta): (Vec<i64>, _) = (Vec::new(), None);
    if tables.contains(MIGRATIONS_TABLE) {
        applied = sqlx::query_scalar(
            "-- postrider: schema_applied
            SELECT version FROM postrider_migrations ORDER BY version",
        )
        .fetch_all(&mut *connection)
        .await?;
    }
    if tables.contains(META_TABLE) {
        meta = sqlx::query_as(
            "-- postrider: schema_meta
            SELECT oldest_binary, moved_to, moving_from FROM postrider_meta",
        )
        .fetch_optional(connection)
        .await?;
    }
    let applied = applied.into_iter().map(|version| AppliedMigration {
        version,
        problem: None,
    });
    let meta = meta.map(|(oldest_binary, moved_to, moving_from)| SchemaMeta {
        oldest_binary,
        slots: 1,
        moved_to,
        moving_from,
    });
    let facts = SchemaFacts {
        tables,
        applied: applied.collect(),
        meta,
    };
    Ok(facts.state(|migration| migration.sqlite))
}
