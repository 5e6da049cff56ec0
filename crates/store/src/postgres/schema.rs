//! Creating and updating the tables, and reading their state.
//!
//! Migrations run on a connection of their own under a lock of the whole database. This is the
//! one place that needs a session, and therefore a direct connection.

use super::PostgresStore;
use super::connection::Connection;
use super::servers::Setting;
use crate::migrations::Migration as KnownMigration;
use crate::schema_state::{
    AppliedMigration, META_TABLE, MIGRATIONS_TABLE, SchemaFacts, SchemaMeta,
};
use crate::stored_row::StoredRow;
use crate::{Error, MIGRATIONS, Migrated, Result, SchemaState};
use postrider_core::Timestamp;
use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Row, SqlSafeStr};
use std::borrow::Cow;
use std::collections::HashSet;

/// A migration waits for another one to finish, but not for ever for an application's lock.
const MIGRATION_LIMITS: [Setting; 3] = [
    ("statement_timeout", "0"),
    ("lock_timeout", "60s"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// Creates or updates the tables, and spreads the outbox over `slots`.
pub(super) async fn migrate(
    store: &PostgresStore,
    slots: Option<u16>,
    now: Timestamp,
) -> Result<Migrated> {
    if let Some(slots) = slots
        && !(1..=1024).contains(&slots)
    {
        return Err(conflict(format!(
            "there can be 1 to 1024 slots, not {slots}"
        )));
    }
    // A migration takes its time, and a person waits for it: its calls have no bound.
    let mut connection = store.connect_with(&MIGRATION_LIMITS, None).await?;
    // Dropping the connection releases the lock too, whatever happens below.
    connection.unbounded().lock().await?;
    let applied = apply(&mut connection).await?;
    let slots = match slots {
        Some(slots) => spread(&mut connection, slots).await?,
        None => current_slots(&mut connection).await?,
    };
    store.make_partitions(&mut connection, now).await?;
    connection.unbounded().unlock().await?;
    connection.close().await;
    Ok(Migrated {
        applied,
        total: MIGRATIONS.len(),
        slots,
    })
}

fn conflict(text: String) -> Error {
    Error::Conflict(text)
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|migration| {
        Migration::new(
            migration.version,
            Cow::Borrowed(migration.name),
            MigrationType::Simple,
            migration.postgres.into_sql_str(),
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    // A newer binary may have migrated the database; `oldest_binary` says whether that matters.
    // `migrate` holds the lock already.
    migrator.set_ignore_missing(true).set_locking(false);
    migrator
}

/// Applies what is missing and returns its names.
async fn apply(connection: &mut Connection) -> Result<Vec<String>> {
    let before = match state(connection).await? {
        SchemaState::Current { .. } => return Ok(Vec::new()),
        SchemaState::Empty => 0,
        SchemaState::Behind { applied } => applied,
        other => return Err(Error::Schema(other.problem().unwrap_or_default())),
    };
    migrator()
        .run_direct(None, connection.unbounded(), false)
        .await?;
    let new = MIGRATIONS.iter().skip(before);
    Ok(new.map(|migration| migration.name.to_owned()).collect())
}

/// The state of the database.
pub(super) async fn state(connection: &mut Connection) -> Result<SchemaState> {
    loop {
        let applied = applied(connection).await?;
        let tables = tables(connection).await?;
        // Another process has begun to migrate between the two statements: read both again.
        if applied.is_none() && tables.contains(MIGRATIONS_TABLE) {
            continue;
        }
        let meta = match tables.contains(META_TABLE) {
            true => meta(connection).await?,
            false => None,
        };
        let facts = SchemaFacts {
            tables,
            applied: applied.unwrap_or_default(),
            meta,
        };
        return Ok(facts.state(|migration| migration.postgres));
    }
}

async fn tables(connection: &mut Connection) -> Result<HashSet<String>> {
    let known = MIGRATIONS.iter().map(|migration| migration.postgres);
    let known = known.flat_map(KnownMigration::tables_of);
    let tables = sqlx::query_scalar(
        "-- postrider: schema_tables
        SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL",
    )
    .bind(known.chain([MIGRATIONS_TABLE]).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(tables.into_iter().collect())
}

/// The migrations on record; `None` if there is no table for them.
async fn applied(connection: &mut Connection) -> Result<Option<Vec<AppliedMigration>>> {
    let exists: bool = sqlx::query_scalar(
        "-- postrider: schema_migrations
        SELECT to_regclass($1) IS NOT NULL",
    )
    .bind(MIGRATIONS_TABLE)
    .fetch_one(&mut *connection)
    .await?;
    if !exists {
        return Ok(None);
    }
    let rows: Vec<(i64, bool, Vec<u8>)> = sqlx::query_as(
        "-- postrider: schema_applied
        SELECT version, success, checksum FROM postrider_migrations ORDER BY version",
    )
    .fetch_all(connection)
    .await?;
    let migrator = migrator();
    let is_altered = |version, checksum: &[u8]| {
        let mut known = migrator.iter();
        known.any(|known| known.version == version && *known.checksum != *checksum)
    };
    let applied = rows.into_iter().map(|(version, success, checksum)| {
        let problem = match (success, is_altered(version, &checksum)) {
            (false, _) => Some("was begun and not finished"),
            (true, true) => Some("is not the one this binary knows"),
            (true, false) => None,
        };
        AppliedMigration { version, problem }
    });
    Ok(Some(applied.collect()))
}

async fn meta(connection: &mut Connection) -> Result<Option<SchemaMeta>> {
    let row = sqlx::query(
        "-- postrider: schema_meta
        SELECT oldest_binary, slots, moved_to, moving_from FROM postrider_meta WHERE singleton",
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(SchemaMeta {
        oldest_binary: row.try_get("oldest_binary")?,
        slots: u16::try_from(row.number("slots")?).unwrap_or(1),
        moved_to: row.try_get("moved_to")?,
        moving_from: row.try_get("moving_from")?,
    }))
}

async fn current_slots(connection: &mut Connection) -> Result<u16> {
    let slots: i16 = sqlx::query_scalar(
        "-- postrider: schema_slots
        SELECT slots FROM postrider_meta WHERE singleton",
    )
    .fetch_one(connection)
    .await?;
    Ok(u16::try_from(slots).unwrap_or(1))
}

/// Spreads the outbox over `slots`. A key's slot changes with their number, so no row with a
/// key may be queued meanwhile: its successors would overtake it.
async fn spread(connection: &mut Connection, slots: u16) -> Result<u16> {
    let now = current_slots(connection).await?;
    if slots == now {
        return Ok(slots);
    }
    if slots < now {
        return Err(conflict(format!(
            "the outbox is spread over {now} slots, and they only grow: give {now} or more"
        )));
    }
    let mut tx = connection.begin().await?;
    sqlx::raw_sql("SET LOCAL lock_timeout = '5s'")
        .execute(&mut *tx)
        .await?;
    sqlx::raw_sql("LOCK TABLE postrider_outbox IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *tx)
        .await
        .map_err(outbox_is_busy)?;
    let keyed: bool = sqlx::query_scalar(
        "-- postrider: migrate_keyed_rows
        SELECT EXISTS (SELECT FROM postrider_outbox
                       WHERE ordering_key IS NOT NULL OR dedup_key IS NOT NULL)",
    )
    .fetch_one(&mut *tx)
    .await?;
    if keyed {
        return Err(conflict(
            "the outbox holds events with keys, whose slots would change: let the workers empty \
             it, then run the same again"
                .into(),
        ));
    }
    let in_order: bool = sqlx::query_scalar(
        "-- postrider: migrate_ordered
        SELECT EXISTS (
            SELECT FROM postrider_deliveries AS d JOIN postrider_hooks AS h ON h.id = d.hook_id
            WHERE d.ordering_key IS NOT NULL AND h.ordered AND h.deleted_at IS NULL
        )",
    )
    .fetch_one(&mut *tx)
    .await?;
    if in_order {
        return Err(conflict(
            "deliveries of ordered hooks wait for their turn, and events of their keys would come \
             to other slots: let the workers deliver them (or discard them), then run the same \
             again"
                .into(),
        ));
    }
    sqlx::query(
        "-- postrider: migrate_slots
        UPDATE postrider_meta SET slots = $1 WHERE singleton",
    )
    .bind(i16::try_from(slots).unwrap_or(1))
    .execute(&mut *tx)
    .await?;
    sqlx::raw_sql(AssertSqlSafe(spreading(slots)))
        .execute(&mut *tx)
        .await
        .map_err(outbox_is_busy)?;
    tx.commit().await?;
    Ok(slots)
}

/// The statements that spread over `slots`, which is a number and nothing else.
fn spreading(slots: u16) -> String {
    format!(
        "ALTER TABLE postrider_outbox ALTER COLUMN slot
            SET DEFAULT floor(random() * {slots})::smallint;
        CREATE OR REPLACE FUNCTION postrider_slot(key text) RETURNS smallint
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        AS $$
            SELECT ((get_byte(sha256(convert_to(key, 'UTF8')), 0) * 256
                   + get_byte(sha256(convert_to(key, 'UTF8')), 1)) % {slots})::smallint
        $$;"
    )
}

fn outbox_is_busy(error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|e| e.code());
    match code.as_deref() {
        Some("55P03") => conflict(
            "an application holds the outbox in a transaction of more than 5 s: run the same \
             again when it has ended"
                .into(),
        ),
        _ => error.into(),
    }
}
