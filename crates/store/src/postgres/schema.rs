//! Makes the tables, and tells where a database stands.
//!
//! Migrations run on a connection of their own under a lock of the whole database: the one
//! place that needs a session, and therefore a direct connection.

use super::PostgresStore;
use crate::{Error, MIGRATIONS, Migrated, Result, SCHEMA_LEVEL, SchemaState};
use postrider_core::Timestamp;
use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlSafeStr};
use std::borrow::Cow;
use std::collections::HashMap;

const MIGRATIONS_TABLE: &str = "postrider_migrations";

/// Tables without which nothing works.
const TABLES: [&str; 20] = [
    "postrider_meta",
    "postrider_moves",
    "postrider_outbox",
    "postrider_rejected",
    "postrider_dedup",
    "postrider_hooks",
    "postrider_aliases",
    "postrider_hook_health",
    "postrider_hook_history",
    "postrider_hook_latest",
    "postrider_gates",
    "postrider_gauges",
    "postrider_idempotency",
    "postrider_keys",
    "postrider_signatures",
    "postrider_events",
    "postrider_deliveries",
    "postrider_leases",
    "postrider_attempts",
    "postrider_ended",
];

/// A migration waits for another one to finish, but not for ever for an application's lock.
const MIGRATION_LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "0"),
    ("lock_timeout", "60s"),
    ("idle_in_transaction_session_timeout", "0"),
];

impl PostgresStore {
    pub(super) async fn now(&self) -> Result<Timestamp> {
        let now = sqlx::query_scalar(
            "-- postrider: now
            SELECT clock_timestamp()",
        )
        .fetch_one(&self.calm)
        .await?;
        Ok(now)
    }

    pub(super) async fn schema(&self) -> Result<SchemaState> {
        state(&mut *self.calm.acquire().await?).await
    }

    pub(super) async fn migrate(&self, slots: Option<u16>, now: Timestamp) -> Result<Migrated> {
        if let Some(slots) = slots
            && !(1..=1024).contains(&slots)
        {
            return Err(conflict(format!(
                "there can be 1 to 1024 slots, not {slots}"
            )));
        }
        let options = self.options.clone().options(MIGRATION_LIMITS);
        let mut connection = PgConnection::connect_with(&options).await?;
        // Dropping the connection gives the lock back too, whatever happens below.
        connection.lock().await?;
        let applied = apply(&mut connection).await?;
        let slots = match slots {
            Some(slots) => spread(&mut connection, slots).await?,
            None => current_slots(&mut connection).await?,
        };
        self.make_partitions(&mut connection, now).await?;
        connection.unlock().await?;
        connection.close().await?;
        Ok(Migrated {
            applied,
            total: MIGRATIONS.len(),
            slots,
        })
    }
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
    // A newer binary may have been here; `oldest_binary` says whether that matters. The lock
    // is ours already.
    migrator.set_ignore_missing(true).set_locking(false);
    migrator
}

/// Applies what is missing and returns its names.
async fn apply(connection: &mut PgConnection) -> Result<Vec<String>> {
    let before = match state(connection).await? {
        SchemaState::Current { .. } => return Ok(Vec::new()),
        SchemaState::Empty => 0,
        SchemaState::Behind { applied } => applied,
        other => return Err(Error::Schema(other.problem().unwrap_or_default())),
    };
    migrator().run_direct(None, connection, false).await?;
    let new = MIGRATIONS.iter().skip(before);
    Ok(new.map(|migration| migration.name.to_owned()).collect())
}

async fn state(connection: &mut PgConnection) -> Result<SchemaState> {
    loop {
        let recorded = recorded(connection).await?;
        let present: Vec<String> = sqlx::query_scalar(
            "-- postrider: schema_tables
            SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL",
        )
        .bind([MIGRATIONS_TABLE].iter().chain(&TABLES).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
        let has = |table: &str| present.iter().any(|name| name == table);
        // Another process has begun to migrate between the two looks: look again.
        if recorded.is_none() && has(MIGRATIONS_TABLE) {
            continue;
        }
        return judge(connection, recorded, has).await;
    }
}

/// What the migrations table holds: version to success and checksum. `None` without a table.
type Recorded = Option<HashMap<i64, (bool, Vec<u8>)>>;

async fn recorded(connection: &mut PgConnection) -> Result<Recorded> {
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
        SELECT version, success, checksum FROM postrider_migrations",
    )
    .fetch_all(connection)
    .await?;
    let rows = rows.into_iter();
    Ok(Some(
        rows.map(|(version, success, checksum)| (version, (success, checksum)))
            .collect(),
    ))
}

async fn judge(
    connection: &mut PgConnection,
    recorded: Recorded,
    has: impl Fn(&str) -> bool,
) -> Result<SchemaState> {
    let damaged = |what: String| Ok(SchemaState::Damaged(what));
    let missing = TABLES.iter().find(|table| !has(table));
    let made = TABLES.iter().find(|table| has(table));
    let Some(recorded) = recorded.filter(|rows| !rows.is_empty()) else {
        return match made {
            None => Ok(SchemaState::Empty),
            Some(table) => damaged(format!(
                "{table} is there, {MIGRATIONS_TABLE} tells nothing of it"
            )),
        };
    };
    if let Some(table) = missing {
        return damaged(format!("{table} is missing"));
    }
    type Meta = (i32, i16, Option<String>, Option<String>);
    let (oldest_binary, slots, moved_to, moving_from): Meta = sqlx::query_as(
        "-- postrider: schema_meta
        SELECT oldest_binary, slots, moved_to, moving_from FROM postrider_meta WHERE singleton",
    )
    .fetch_one(connection)
    .await?;
    if oldest_binary > SCHEMA_LEVEL {
        return Ok(SchemaState::TooNew { oldest_binary });
    }
    if let Some((version, _)) = recorded.iter().find(|(_, (success, _))| !success) {
        return damaged(format!("migration {version} was begun and not finished"));
    }
    let mut applied = 0;
    for migration in migrator().iter() {
        match recorded.get(&migration.version) {
            None => {}
            Some((_, checksum)) if *checksum == *migration.checksum => applied += 1,
            Some(_) => {
                return damaged(format!(
                    "migration {} is not the one this binary knows",
                    migration.version
                ));
            }
        }
    }
    Ok(match (moved_to, moving_from) {
        (Some(to), _) => SchemaState::Moved { to },
        (None, Some(from)) => SchemaState::Moving { from },
        _ if applied == MIGRATIONS.len() => SchemaState::Current {
            slots: u16::try_from(slots).unwrap_or(1),
        },
        _ => SchemaState::Behind { applied },
    })
}

async fn current_slots(connection: &mut PgConnection) -> Result<u16> {
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
async fn spread(connection: &mut PgConnection, slots: u16) -> Result<u16> {
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
