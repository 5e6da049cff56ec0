//! A database of its own for a benchmark: made empty, watched, and gone at the end.

use crate::postgres::explain;
use crate::sqlite::from_sqlx;
use crate::{Backend, Error, Result};
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
        .await
        .map_err(explain)?;
        connection.close().await.map_err(explain)?;
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
        .await
        .map_err(explain)?;
        connection.close().await.map_err(explain)?;
        Ok(u64::try_from(dead).ok())
    }

    /// Takes a snapshot and holds it in an idle transaction, so that no row that dies from now
    /// on can be vacuumed; `None` where nothing would be held up by it.
    ///
    /// # Errors
    /// When the server cannot be reached, or the tables are not there.
    pub async fn hold_snapshot(&self) -> Result<Option<HeldSnapshot>> {
        let Some((options, name)) = &self.server else {
            return Ok(None);
        };
        let mut connection = connect(&options.clone().database(name)).await?;
        sqlx::raw_sql(
            "-- postrider: bench_hold_snapshot
            SET idle_in_transaction_session_timeout = 0;
            BEGIN ISOLATION LEVEL REPEATABLE READ;
            SELECT hooks_version FROM postrider_meta",
        )
        .execute(&mut connection)
        .await
        .map_err(explain)?;
        Ok(Some(HeldSnapshot(connection)))
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

/// A snapshot that is held until it is released, or its connection is cut.
#[derive(Debug)]
pub struct HeldSnapshot(PgConnection);

impl HeldSnapshot {
    /// Ends the transaction.
    ///
    /// # Errors
    /// When the connection was cut meanwhile: then the snapshot was not held until now.
    pub async fn release(mut self) -> Result<()> {
        sqlx::raw_sql("ROLLBACK")
            .execute(&mut self.0)
            .await
            .map_err(explain)?;
        self.0.close().await.map_err(explain)
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
        let mut connection = SqliteConnection::connect("sqlite::memory:")
            .await
            .map_err(from_sqlx)?;
        let version: String = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(&mut connection)
            .await
            .map_err(from_sqlx)?;
        connection.close().await.map_err(from_sqlx)?;
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
            .await
            .map_err(explain)?;
        settings.push(value);
    }
    connection.close().await.map_err(explain)?;
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
    connection.close().await.map_err(explain)?;
    done.map(|_| ()).map_err(explain)
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    PgConnection::connect_with(options).await.map_err(explain)
}
