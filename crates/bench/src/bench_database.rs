//! A database for one measurement: created empty, observed, and dropped at the end.
//!
//! This is the only SQL of the benchmark: it inspects or loads the server beside the program that
//! is measured, which does its own work through the store.

use crate::error::Result;
use anyhow::Context;
use postrider_core::{HookId, Timestamp};
use postrider_store::Backend;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};
use std::path::Path;
use std::str::FromStr;
use uuid::Uuid;

/// An empty database on the server of another one.
#[derive(Debug)]
pub struct BenchDatabase {
    url: String,
    /// The server and the name of the database on it; `None` for a SQLite file.
    server: Option<(PgConnectOptions, String)>,
}

impl BenchDatabase {
    /// Creates an empty database on the server that `url` names, or names a SQLite file in `folder`
    /// when `url` is one of SQLite.
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
        .await
        .context("the benchmark cannot create a database: use a role with CREATEDB")?;
        Ok(Self {
            url: options.clone().database(&name).to_url_lossy().to_string(),
            server: Some((options, name)),
        })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Number of transactions committed on it so far; `None` on SQLite, which does not count them.
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

    /// Number of dead rows in the outbox and in the deliveries; `None` on SQLite, which has none.
    /// The server's counters lag by up to a second.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn dead_rows(&self) -> Result<Option<u64>> {
        let Some(mut connection) = self.connect().await? else {
            return Ok(None);
        };
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
    /// on can be vacuumed; `None` on SQLite, where a snapshot has no such effect.
    ///
    /// # Errors
    /// When the server cannot be reached or the tables are missing.
    pub async fn hold_snapshot(&self) -> Result<Option<HeldTransaction>> {
        self.hold(
            "-- postrider: bench_hold_snapshot
            SET idle_in_transaction_session_timeout = 0;
            BEGIN ISOLATION LEVEL REPEATABLE READ;
            SELECT hooks_version FROM postrider_meta",
        )
        .await
    }

    /// Reads the history and stays in its transaction, so that no partition of it can be dropped;
    /// `None` on SQLite, which has no partitions.
    ///
    /// # Errors
    /// When the server cannot be reached or the tables are missing.
    pub async fn read_history(&self) -> Result<Option<HeldTransaction>> {
        self.hold(
            "-- postrider: bench_read_history
            SET idle_in_transaction_session_timeout = 0;
            BEGIN;
            SELECT count(*) FROM postrider_events",
        )
        .await
    }

    async fn hold(&self, statements: &'static str) -> Result<Option<HeldTransaction>> {
        let Some(mut connection) = self.connect().await? else {
            return Ok(None);
        };
        sqlx::raw_sql(statements).execute(&mut connection).await?;
        Ok(Some(HeldTransaction(connection)))
    }

    /// Writes the history of a past day, as if its events had been delivered on it. The partitions
    /// of the day must exist. Does nothing on SQLite.
    ///
    /// # Errors
    /// When the server cannot be reached or the tables are missing.
    pub async fn fill(&self, past: &PastDay<'_>) -> Result<()> {
        let Some(mut connection) = self.connect().await? else {
            return Ok(());
        };
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
        Ok(connection.close().await?)
    }

    /// Size of the partitions that hold the events and attempts of a day, in bytes; 0 when they do
    /// not exist, and on SQLite.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn bytes_of(&self, day: Timestamp) -> Result<u64> {
        let Some(mut connection) = self.connect().await? else {
            return Ok(0);
        };
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

    /// Drops it, also while others are connected. A SQLite file is removed with its folder.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn drop(self) -> Result<()> {
        match self.server {
            Some((options, name)) => {
                let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                run(&options, statement)
                    .await
                    .with_context(|| format!("the database {name} of the benchmark remains"))
            }
            None => Ok(()),
        }
    }

    /// A connection to it; `None` on SQLite.
    async fn connect(&self) -> Result<Option<PgConnection>> {
        match &self.server {
            Some((options, name)) => Ok(Some(connect(&options.clone().database(name)).await?)),
            None => Ok(None),
        }
    }
}

/// The history to write for a past day.
#[derive(Clone, Copy, Debug)]
pub struct PastDay<'a> {
    /// Any time on the day, in UTC.
    pub at: Timestamp,
    /// The type of its events.
    pub event_type: &'a str,
    /// The payload of its events, as JSON.
    pub payload: &'a str,
    /// Number of events.
    pub events: u64,
    /// One event in this many is held instead of delivered; all are delivered if `None`.
    pub held_every: Option<u64>,
    /// The hook that receives the events.
    pub hook: HookId,
}

/// An open transaction, held until it is released or its connection is cut.
#[derive(Debug)]
pub struct HeldTransaction(PgConnection);

impl HeldTransaction {
    /// Ends the transaction.
    ///
    /// # Errors
    /// When the connection was cut meanwhile, so that the transaction was not held until now.
    pub async fn release(mut self) -> Result<()> {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await?;
        Ok(self.0.close().await?)
    }
}

/// The server settings that determine what a commit costs and how much memory is used.
const SPEED_SETTINGS: [&str; 4] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
];

/// The database that `url` names, with its version and the settings that determine its speed, as
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
    for name in ["server_version"].iter().chain(&SPEED_SETTINGS) {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        settings.push(value);
    }
    connection.close().await?;
    let version = settings.remove(0);
    let version = version.split(' ').next().unwrap_or_default();
    let named: Vec<_> = SPEED_SETTINGS
        .iter()
        .zip(settings)
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    Ok(format!("PostgreSQL {version} ({})", named.join(", ")))
}

fn options_of(url: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url).context("the database URL cannot be used")?;
    // Dropping a large database is slow, and would be logged as a slow statement.
    Ok(options.disable_statement_logging())
}

async fn run(options: &PgConnectOptions, statement: String) -> Result<()> {
    let mut connection = connect(options).await?;
    let done = sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut connection)
        .await;
    connection.close().await?;
    done?;
    Ok(())
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    PgConnection::connect_with(options)
        .await
        .context("the database server cannot be reached")
}
