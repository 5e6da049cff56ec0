//! The migrations, compiled in, and where a database stands among them.

/// The number of the newest migration this binary knows. A database whose `oldest_binary` is
/// higher cannot be used with it.
pub const SCHEMA_LEVEL: i32 = 1;

/// One step of the schema, for both databases under the same number and name.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: &'static str,
    /// The statements for PostgreSQL.
    pub postgres: &'static str,
    /// The statements for SQLite.
    pub sqlite: &'static str,
}

macro_rules! migration {
    ($version:literal, $name:literal, $file:literal) => {
        Migration {
            version: $version,
            name: $name,
            postgres: include_str!(concat!("../../../migrations/postgres/", $file)),
            sqlite: include_str!(concat!("../../../migrations/sqlite/", $file)),
        }
    };
}

/// All migrations, oldest first.
pub const MIGRATIONS: &[Migration] = &[migration!(1, "foundation", "0001_foundation.sql")];

/// Where a database stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// It has none of our tables.
    Empty,
    /// It can be used.
    Current {
        /// How many slots the outbox is spread over.
        slots: u16,
    },
    /// Some migrations are missing.
    Behind {
        /// How many were applied.
        applied: usize,
    },
    /// A migration was begun and not finished, or tables were changed by hand.
    Damaged(String),
    /// Everything has moved to another database.
    Moved {
        /// Which, in words.
        to: String,
    },
    /// A move into it has begun and is not finished.
    Moving {
        /// From which database, in words.
        from: String,
    },
    /// It needs a newer binary.
    TooNew {
        /// The migration that the oldest fitting binary knows.
        oldest_binary: i32,
    },
}

impl SchemaState {
    /// What is wrong and what to do, or `None` when the database can be used.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Current { .. } => None,
            Self::Empty => Some(
                "the database has no Postrider tables yet: run `postrider migrate` once".into(),
            ),
            Self::Behind { applied } => Some(format!(
                "the database has {applied} of {} migrations: run `postrider migrate`",
                MIGRATIONS.len()
            )),
            Self::Damaged(what) => Some(format!(
                "the database is half migrated ({what}): restore it from a backup, or drop the \
                 postrider_* tables if nothing in them matters, then run `postrider migrate`"
            )),
            Self::Moved { to } => Some(format!(
                "everything in this database has moved to the {to}: use that one, and set \
                 database.url to it"
            )),
            Self::Moving { from } => Some(format!(
                "a move from the {from} into this database has begun and is not finished: run \
                 `postrider move` again as before"
            )),
            Self::TooNew { oldest_binary } => Some(format!(
                "the database was migrated by a newer Postrider (it needs one that knows \
                 migration {oldest_binary}, this one knows {SCHEMA_LEVEL}): upgrade this binary"
            )),
        }
    }
}

/// What migrating did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Migrated {
    /// The names of the migrations that were applied now.
    pub applied: Vec<String>,
    /// How many migrations the database has.
    pub total: usize,
    /// How many slots the outbox is spread over.
    pub slots: u16,
}
