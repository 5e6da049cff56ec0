//! Opening the store that a URL names.

use crate::{Error, Result, Store, postgres::PostgresStore, sqlite::SqliteStore};
use postrider_core::KeyRing;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The section `[database]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `sqlite://FILE` or `postgres://…`.
    pub url: String,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            url: "sqlite://postrider.db".into(),
        }
    }
}

/// The kind of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A PostgreSQL server.
    Postgres,
    /// A file of the embedded SQLite.
    Sqlite,
}

impl Backend {
    /// The kind of database that `url` names.
    ///
    /// # Errors
    /// When the scheme is neither.
    pub fn of(url: &str) -> Result<Self> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            Some("sqlite") => Ok(Self::Sqlite),
            _ => Err(Error::Database(
                "the database URL must begin with sqlite:// or postgres://, as in \
                 sqlite://postrider.db or postgres://user:password@host/database"
                    .into(),
            )),
        }
    }
}

/// Opens the database: connects to PostgreSQL, or creates the SQLite file if it is missing. The
/// tables are not checked: see [`Database::schema`](crate::Database::schema).
///
/// # Errors
/// When the URL cannot be used or the database does not answer.
pub async fn open(settings: &DatabaseSettings, keys: KeyRing) -> Result<Arc<dyn Store>> {
    Ok(match Backend::of(&settings.url)? {
        Backend::Postgres => Arc::new(PostgresStore::connect(&settings.url, keys).await?),
        Backend::Sqlite => Arc::new(SqliteStore::open(&settings.url, keys).await?),
    })
}
