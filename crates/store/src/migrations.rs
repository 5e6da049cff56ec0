//! The migrations, which are compiled in, and the state of a database among them.

/// The number of the newest migration that this binary knows. It cannot use a database with a higher
/// `oldest_binary`.
pub const SCHEMA_LEVEL: i32 = 1;

/// One step of the schema, with the same number and name for both databases.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The place in the order of migrations, beginning with 1.
    pub version: i64,
    /// The name in listings and in the history of migrations.
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

/// The state of the tables in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// There are no tables of Postrider.
    Empty,
    /// The database can be used.
    Current {
        /// The number of slots of the outbox.
        slots: u16,
    },
    /// Some migrations are missing.
    Behind {
        /// The number of applied migrations.
        applied: usize,
    },
    /// A migration was begun and not finished, or tables were changed by hand.
    Damaged(String),
    /// All data was moved to another database.
    Moved {
        /// A description of the other database.
        to: String,
    },
    /// A move into this database has begun and is not finished.
    Moving {
        /// A description of the other database.
        from: String,
    },
    /// The database needs a newer binary.
    TooNew {
        /// The migration that a binary must know.
        oldest_binary: i32,
    },
}

impl SchemaState {
    /// What is wrong and what to do; `None` when the database can be used.
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

/// The result of migrating.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Migrated {
    /// The names of the migrations that were applied now.
    pub applied: Vec<String>,
    /// The number of migrations of the database.
    pub total: usize,
    /// The number of slots of the outbox.
    pub slots: u16,
}
