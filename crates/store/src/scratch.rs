//! A database of its own for a benchmark: made empty, and gone at the end.

use crate::postgres::explain;
use crate::{Backend, Error, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
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
        let options = PgConnectOptions::from_str(url).map_err(|error| {
            Error::Database(format!("the database URL cannot be used: {error}"))
        })?;
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
