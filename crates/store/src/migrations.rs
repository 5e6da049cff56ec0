//! The migrations, compiled in.

/// The number of the newest migration this binary knows. A database whose `oldest_binary` is
/// higher cannot be used with it.
pub const SCHEMA_LEVEL: i32 = 2;

/// One step of the schema, for both databases under the same number and name.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The number under which it is recorded; they count from 1.
    pub version: i64,
    /// The name that `postrider migrate` prints.
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
pub const MIGRATIONS: &[Migration] = &[
    migration!(1, "foundation", "0001_foundation.sql"),
    migration!(2, "recent_requests", "0002_recent_requests.sql"),
];

impl Migration {
    /// The tables that a migration of this text creates.
    pub(crate) fn tables_of(sql: &'static str) -> impl Iterator<Item = &'static str> {
        sql.lines().filter_map(|line| {
            let rest = line.strip_prefix("CREATE TABLE ")?;
            rest.split_whitespace().next()
        })
    }
}

/// The result of a migration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Migrated {
    /// The names of the migrations that were applied now.
    pub applied: Vec<String>,
    /// Number of migrations that the database has now.
    pub total: usize,
    /// Number of slots that the outbox is spread over.
    pub slots: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::SqlSafeStr;
    use sqlx::migrate::MigrationType;
    use std::borrow::Cow;

    #[test]
    fn migrations_are_numbered_from_1_up_to_the_level() {
        let versions = MIGRATIONS.iter().map(|migration| migration.version);
        let expected: Vec<_> = (1..=i64::from(SCHEMA_LEVEL)).collect();
        assert_eq!(versions.collect::<Vec<_>>(), expected);
    }

    /// The migrations of releases, which are never edited, with the SHA-384 of their texts.
    const RELEASED: &[[&str; 3]] = &[[
        "foundation",
        "4c8d0e446c969b27eb600d7124f3a6838b5729fce8c1c50b\
         bad5aa09a4600ac8621fc46171f796fbe2ebe1f2001ce40a",
        "a85d63259aa56c4ad1ac40537ac795a164512812b18c1ae1\
         4f6729ded8ad84104c14354d41df760183f380d41805e1b6",
    ]];

    #[test]
    fn released_migrations_are_as_they_were_released() {
        for (migration, [name, postgres, sqlite]) in MIGRATIONS.iter().zip(RELEASED) {
            assert_eq!(migration.name, *name);
            for (text, expected) in [(migration.postgres, postgres), (migration.sqlite, sqlite)] {
                assert_eq!(sha384(text), **expected, "{name}");
            }
        }
    }

    fn sha384(text: &'static str) -> String {
        let kind = MigrationType::Simple;
        let migration =
            sqlx::migrate::Migration::new(1, Cow::Borrowed(""), kind, text.into_sql_str(), false);
        let bytes = migration.checksum.iter();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_tables_of_a_migration_are_found_in_its_text() {
        for text in [MIGRATIONS[0].postgres, MIGRATIONS[0].sqlite] {
            let tables: Vec<_> = Migration::tables_of(text).collect();
            assert!(tables.iter().all(|table| table.starts_with("postrider_")));
            assert!(tables.contains(&"postrider_outbox"));
            assert!(tables.contains(&"postrider_ended"));
        }
    }
}
