//! A database of its own for a benchmark: made empty, watched, and gone at the end.

use crate::{Backend, Error, Result};
use postrider_core::{HookId, Timestamp};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};
use std::path::Path;
use std::str::FromStr;
use uuid::Uuid;

/// An empty database beside the one that a URL names.
#[derive(Debug)]
pub struct ScratchDatabase {
    url: String,
    /// The server and the name of the database on it; a SQLite file goes with its folder.
    server: Option<(PgConnectOptions, String)>,
}

impl ScratchDatabase {
    /// Makes an empty database on the server that `url` names, or a SQLite file in `folder`
    /// when it names none.
    ///
    /// # Errors
    /// When the server cannot be reached or its role may not create databases.
    pub async fn create(url: &str, folder: &Path) -> Result<Self> {
        let name = format!("postrider_bench_{}", Uuid::now_v7().simple());
        if Backend::of(url)? == Backend::Sqlite {
            return Ok(Self {
                url: format!("sqlite://{}", folder.join(name).display()),
                server: None,
            });
        }
        let options = options_of(url)?;
        run(
            &options,
            format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"),
        )
        .await?;
        Ok(Self {
            url: options.clone().database(&name).to_url_lossy().to_string(),
            server: Some((options, name)),
        })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many transactions it has committed, where the server counts them.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn transactions(&self) -> Result<Option<u64>> {
        let Some((options, name)) = &self.server else {
            return Ok(None);
        };
        let mut connection = connect(options).await?;
        let committed: i64 = sqlx::query_scalar(
            "-- postrider: bench_transactions
            SELECT coalesce(sum(xact_commit), 0)::bigint FROM pg_stat_database WHERE datname = $1",
        )
        .bind(name)
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok(u64::try_from(committed).ok())
    }

    /// How many dead rows the outbox and the deliveries hold, where the server counts them.
    /// Connections report what they did within a second.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn dead_rows(&self) -> Result<Option<u64>> {
        let Some((options, name)) = &self.server else {
            return Ok(None);
        };
        let mut connection = connect(&options.clone().database(name)).await?;
        let dead: i64 = sqlx::query_scalar(
            "-- postrider: bench_dead_rows
            SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables
            WHERE relname IN ('postrider_outbox', 'postrider_deliveries')",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok(u64::try_from(dead).ok())
    }

    /// Takes a snapshot and holds it in an idle transaction, so that no row that dies from now
    /// on can be vacuumed; `None` where nothing would be held up by it.
    ///
    /// # Errors
    /// When the server cannot be reached, or the tables are not there.
    pub async fn hold_snapshot(&self) -> Result<Option<HeldSnapshot>> {
        self.hold(
            "-- postrider: bench_hold_snapshot
            SET idle_in_transaction_session_timeout = 0;
            BEGIN ISOLATION LEVEL REPEATABLE READ;
            SELECT hooks_version FROM postrider_meta",
        )
        .await
    }

    /// Reads history and stays in its transaction, so that none of it can go; `None` where
    /// that keeps nothing.
    ///
    /// # Errors
    /// When the server cannot be reached, or the tables are not there.
    pub async fn read_history(&self) -> Result<Option<HeldSnapshot>> {
        self.hold(
            "-- postrider: bench_read_history
            SET idle_in_transaction_session_timeout = 0;
            BEGIN;
            SELECT count(*) FROM postrider_events",
        )
        .await
    }

    async fn hold(&self, statements: &'static str) -> Result<Option<HeldSnapshot>> {
        let Some((options, name)) = &self.server else {
            return Ok(None);
        };
        let mut connection = connect(&options.clone().database(name)).await?;
        sqlx::raw_sql(statements).execute(&mut connection).await?;
        Ok(Some(HeldSnapshot(connection)))
    }

    /// Writes history of a day, as if events had been delivered on it. Its partitions must be
    /// there. Does nothing where there are none.
    ///
    /// # Errors
    /// When the server cannot be reached, or the tables are not there.
    pub async fn fill(&self, past: &PastDay<'_>) -> Result<()> {
        let Some((options, name)) = &self.server else {
            return Ok(());
        };
        let mut connection = connect(&options.clone().database(name)).await?;
        sqlx::query(
            "-- postrider: bench_fill
            WITH event AS (
                INSERT INTO postrider_events
                    (slot, day, id, seq, account, event_type, payload, occurred_at, fanned_out_at)
                SELECT 0, $1, gen_random_uuid(), n, 'default', $2, $3::json, $4, $4
                FROM generate_series(1, $5) AS g (n)
                RETURNING id, seq
            ), held AS (
                INSERT INTO postrider_deliveries
                    (slot, id, day, event_id, hook_id, event_seq, next_attempt_at)
                SELECT 0, gen_random_uuid(), $1, id, $6, seq, $4 FROM event WHERE seq % $7 = 0
            )
            INSERT INTO postrider_attempts
                (slot, day, delivery_id, id, event_id, hook_id, number, at, duration_ms, outcome,
                 status, late)
            SELECT 0, $1, gen_random_uuid(), gen_random_uuid(), id, $6, 1, $4, 1, 'accepted', 200,
                   false
            FROM event WHERE $7 IS NULL OR seq % $7 <> 0",
        )
        .bind(past.at.date_naive())
        .bind(past.event_type)
        .bind(past.payload)
        .bind(past.at)
        .bind(past.events.cast_signed())
        .bind(past.hook.0)
        .bind(past.held_every.map(u64::cast_signed))
        .execute(&mut connection)
        .await?;
        connection.close().await.map_err(Into::into)
    }

    /// How much events and attempts of a day take, in bytes; 0 when they have gone.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn bytes_of(&self, day: Timestamp) -> Result<u64> {
        let Some((options, name)) = &self.server else {
            return Ok(0);
        };
        let mut connection = connect(&options.clone().database(name)).await?;
        let bytes: i64 = sqlx::query_scalar(
            "-- postrider: bench_bytes
            SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
            WHERE relkind = 'r' AND relname IN ('postrider_events' || $1, 'postrider_attempts' || $1)",
        )
        .bind(day.format("_%Y%m%d").to_string())
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok(bytes.unsigned_abs())
    }

    /// Drops it, whoever is connected.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn drop(self) -> Result<()> {
        match self.server {
            Some((options, name)) => {
                run(
                    &options,
                    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
                )
                .await
            }
            None => Ok(()),
        }
    }
}

/// History of a day that is to be there.
#[derive(Clone, Copy, Debug)]
pub struct PastDay<'a> {
    /// A moment of the day.
    pub at: Timestamp,
    /// The type of its events.
    pub event_type: &'a str,
    /// Their payload.
    pub payload: &'a str,
    /// How many there are.
    pub events: u64,
    /// Of so many one is not delivered and held; all are delivered if none.
    pub held_every: Option<u64>,
    /// The hook that they are for.
    pub hook: HookId,
}

/// A snapshot that is held until it is released, or its connection is cut.
#[derive(Debug)]
pub struct HeldSnapshot(PgConnection);

impl HeldSnapshot {
    /// Ends the transaction.
    ///
    /// # Errors
    /// When the connection was cut meanwhile: then the snapshot was not held until now.
    pub async fn release(mut self) -> Result<()> {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await?;
        self.0.close().await.map_err(Into::into)
    }
}

/// The settings of a server that decide what its commits and its memory cost.
const TELLING_SETTINGS: [&str; 4] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
];

/// The database that `url` names, with its version and the settings that decide its speed, as
/// in `PostgreSQL 15.18 (fsync = on, …)`.
///
/// # Errors
/// When the URL cannot be used or the server cannot be reached.
pub async fn describe_server(url: &str) -> Result<String> {
    if Backend::of(url)? == Backend::Sqlite {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await?;
        let version: String = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        return Ok(format!(
            "SQLite {version} (journal_mode = wal, synchronous = full)"
        ));
    }
    let mut connection = connect(&options_of(url)?).await?;
    let mut settings = Vec::new();
    for name in ["server_version"].iter().chain(&TELLING_SETTINGS) {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        settings.push(value);
    }
    connection.close().await?;
    let version = settings.remove(0);
    let version = version.split(' ').next().unwrap_or_default();
    let named: Vec<_> = TELLING_SETTINGS
        .iter()
        .zip(settings)
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    Ok(format!("PostgreSQL {version} ({})", named.join(", ")))
}

fn options_of(url: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| Error::Database(format!("the database URL cannot be used: {error}")))?;
    // Dropping a large database takes its time.
    Ok(options.disable_statement_logging())
}

async fn run(options: &PgConnectOptions, statement: String) -> Result<()> {
    let mut connection = connect(options).await?;
    let done = sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut connection)
        .await;
    connection.close().await?;
    done.map(|_| ()).map_err(Into::into)
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    PgConnection::connect_with(options)
        .await
        .map_err(Into::into)
}
