//! Makes the tables, and tells where a database stands.
//!
//! Each run of `migrate` is one transaction, taken before looking: a second process waits for
//! it and finds the work done, and a crash leaves nothing half made.

use super::SqliteStore;
use super::values::micros;
use crate::migrations::Migration;
use crate::{Error, MIGRATIONS, Migrated, Result, SCHEMA_LEVEL, SchemaState};
use postrider_core::Timestamp;
use sqlx::SqliteConnection;
use std::collections::HashSet;

impl SqliteStore {
    pub(super) async fn read_schema(&self) -> Result<SchemaState> {
        let mut tx = self.readers.begin().await?;
        state(&mut tx).await
    }

    pub(super) async fn make_schema(&self, slots: Option<u16>, now: Timestamp) -> Result<Migrated> {
        if slots.is_some_and(|slots| slots != 1) {
            return Err(Error::Conflict(
                "SQLite has one writer and therefore one slot: leave --slots out, or move to \
                 PostgreSQL to spread the outbox"
                    .into(),
            ));
        }
        let mut tx = self.writer.begin().await?;
        let applied = match state(&mut tx).await? {
            SchemaState::Empty => 0,
            SchemaState::Behind { applied } => applied,
            SchemaState::Current { .. } => MIGRATIONS.len(),
            damaged_or_too_new => {
                let problem = damaged_or_too_new.problem().unwrap_or_default();
                return Err(Error::Schema(problem));
            }
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

async fn state(connection: &mut SqliteConnection) -> Result<SchemaState> {
    let tables: HashSet<String> = sqlx::query_scalar(
        "-- postrider: schema_tables
        SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'postrider_*'",
    )
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .collect();
    if tables.is_empty() {
        return Ok(SchemaState::Empty);
    }
    let missing = |table: &str| SchemaState::Damaged(format!("the table {table} is missing"));
    for table in ["postrider_migrations", "postrider_meta"] {
        if !tables.contains(table) {
            return Ok(missing(table));
        }
    }
    type Meta = (i32, Option<String>, Option<String>);
    let meta: Option<Meta> = sqlx::query_as(
        "-- postrider: schema_meta
        SELECT oldest_binary, moved_to, moving_from FROM postrider_meta",
    )
    .fetch_optional(&mut *connection)
    .await?;
    let (moved_to, moving_from) = match meta {
        None => return Ok(SchemaState::Damaged("postrider_meta is empty".into())),
        Some((oldest_binary, ..)) if oldest_binary > SCHEMA_LEVEL => {
            return Ok(SchemaState::TooNew { oldest_binary });
        }
        Some((_, moved_to, moving_from)) => (moved_to, moving_from),
    };
    let applied: Vec<i64> = sqlx::query_scalar(
        "-- postrider: schema_applied
        SELECT version FROM postrider_migrations ORDER BY version",
    )
    .fetch_all(connection)
    .await?;
    let mut known = MIGRATIONS.iter().zip(&applied);
    if let Some((migration, _)) = known.find(|(migration, version)| migration.version != **version)
    {
        let text = format!("migration {} is missing", migration.version);
        return Ok(SchemaState::Damaged(text));
    }
    let expected = MIGRATIONS.iter().take(applied.len()).flat_map(tables_of);
    if let Some(table) = expected.into_iter().find(|table| !tables.contains(*table)) {
        return Ok(missing(table));
    }
    Ok(match (moved_to, moving_from) {
        (Some(to), _) => SchemaState::Moved { to },
        (None, Some(from)) => SchemaState::Moving { from },
        _ if applied.len() < MIGRATIONS.len() => SchemaState::Behind {
            applied: applied.len(),
        },
        _ => SchemaState::Current { slots: 1 },
    })
}

/// The tables that a migration makes.
fn tables_of(migration: &Migration) -> impl Iterator<Item = &'static str> {
    migration.sqlite.lines().filter_map(|line| {
        line.strip_prefix("CREATE TABLE ")?
            .split_whitespace()
            .next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_a_migration_are_found_in_its_text() {
        let tables: Vec<_> = MIGRATIONS.iter().flat_map(tables_of).collect();
        assert!(tables.iter().all(|table| table.starts_with("postrider_")));
        assert!(tables.contains(&"postrider_outbox"));
        assert!(tables.contains(&"postrider_ended"));
    }
}
