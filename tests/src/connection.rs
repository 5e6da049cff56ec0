//! Raw SQL on either database, as an application or an operator would run it.
//!
//! Values come back as text: a test compares what a reader would see.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row, SqliteConnection, raw_sql};
use std::fmt::Display;

/// A connection of its own, apart from any store's.
#[derive(Debug)]
pub enum Connection {
    /// To a PostgreSQL server.
    Postgres(PgConnection),
    /// To a SQLite file.
    Sqlite(SqliteConnection),
}

impl Connection {
    /// Connects to the database that `url` names.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn open(url: &str) -> Self {
        let connected = match url.starts_with("sqlite:") {
            true => SqliteConnection::connect(url).await.map(Self::Sqlite),
            false => PgConnection::connect(url).await.map(Self::Postgres),
        };
        connected.unwrap_or_else(|error| panic!("cannot connect to {url}: {error}"))
    }

    /// Runs one or more statements.
    ///
    /// # Errors
    /// The database's message.
    pub async fn attempt(&mut self, sql: impl Display) -> Result<(), String> {
        let query = raw_sql(AssertSqlSafe(sql.to_string()));
        match self {
            Self::Postgres(connection) => query.execute(connection).await.map(drop),
            Self::Sqlite(connection) => query.execute(connection).await.map(drop),
        }
        .map_err(|error| error.to_string())
    }

    /// Runs one or more statements that must succeed.
    ///
    /// # Panics
    /// When one fails.
    pub async fn run(&mut self, sql: impl Display) {
        let sql = sql.to_string();
        if let Err(error) = self.attempt(&sql).await {
            panic!("{error} in: {}", beginning(&sql));
        }
    }

    /// The rows a query returns, every value as text.
    ///
    /// # Panics
    /// When it fails.
    pub async fn rows(&mut self, sql: impl Display) -> Vec<Vec<Option<String>>> {
        let sql = sql.to_string();
        let query = raw_sql(AssertSqlSafe(sql.clone()));
        let rows = match self {
            Self::Postgres(connection) => query.fetch_all(connection).await.map(texts),
            Self::Sqlite(connection) => query.fetch_all(connection).await.map(texts),
        };
        rows.unwrap_or_else(|error| panic!("{error} in: {}", beginning(&sql)))
    }

    /// The one value a query returns.
    ///
    /// # Panics
    /// When it fails, or returns no row or NULL.
    pub async fn text(&mut self, sql: impl Display) -> String {
        let sql = sql.to_string();
        let rows = self.rows(&sql).await;
        rows.into_iter()
            .flatten()
            .next()
            .flatten()
            .unwrap_or_else(|| panic!("no value from: {}", beginning(&sql)))
    }

    /// The one number a query returns.
    ///
    /// # Panics
    /// When it fails or returns something else.
    pub async fn number(&mut self, sql: impl Display) -> i64 {
        let text = self.text(sql).await;
        text.parse()
            .unwrap_or_else(|_| panic!("{text} is not a number"))
    }
}

/// Both databases hand out any value as text, if its type is not asked for.
fn texts<R>(rows: Vec<R>) -> Vec<Vec<Option<String>>>
where
    R: Row,
    usize: sqlx::ColumnIndex<R>,
    for<'r> Option<String>: sqlx::Decode<'r, R::Database>,
{
    rows.iter()
        .map(|row| {
            (0..row.len())
                .map(|column| row.try_get_unchecked(column).expect("a value as text"))
                .collect()
        })
        .collect()
}

fn beginning(sql: &str) -> String {
    sql.chars().take(400).collect()
}
