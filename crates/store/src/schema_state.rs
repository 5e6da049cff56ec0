//! The state of a database, and how it follows from what the database says of itself.

use crate::migrations::Migration;
use crate::{MIGRATIONS, SCHEMA_LEVEL};
use std::collections::HashSet;

/// The table that records which migrations were applied.
pub(crate) const MIGRATIONS_TABLE: &str = "postrider_migrations";

/// The table whose one row describes the database.
pub(crate) const META_TABLE: &str = "postrider_meta";

/// The state of a database, between no tables and too new for this binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// It has none of Postrider's tables.
    Empty,
    /// It can be used.
    Current {
        /// Number of slots that the outbox is spread over.
        slots: u16,
    },
    /// Some migrations are missing.
    Behind {
        /// Number of those that were applied.
        applied: usize,
    },
    /// A migration was begun and not finished, or tables were changed by hand. The text says
    /// what is wrong.
    Damaged(String),
    /// Everything has moved to another database.
    Moved {
        /// That database, in words.
        to: String,
    },
    /// A move into it has begun and is not finished.
    Moving {
        /// The other database, in words.
        from: String,
    },
    /// It needs a newer binary.
    TooNew {
        /// The number of the newest migration that a binary must know.
        oldest_binary: i32,
    },
}

impl SchemaState {
    /// A sentence that says what is wrong and what to do. `None`: the database can be used.
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

/// What a database says of its tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct SchemaFacts {
    /// Those of Postrider's tables that exist.
    pub tables: HashSet<String>,
    /// The migrations on record, by number.
    pub applied: Vec<AppliedMigration>,
    /// The row of `postrider_meta`, if there is one.
    pub meta: Option<SchemaMeta>,
}

#[derive(Clone, Debug)]
pub(crate) struct AppliedMigration {
    pub version: i64,
    /// Why it does not count, if it does not.
    pub problem: Option<&'static str>,
}

/// The row of `postrider_meta`.
#[derive(Clone, Debug)]
pub(crate) struct SchemaMeta {
    pub oldest_binary: i32,
    pub slots: u16,
    pub moved_to: Option<String>,
    pub moving_from: Option<String>,
}

impl SchemaFacts {
    /// The state of the database; `text_of` is the text of a migration for it.
    pub(crate) fn state(self, text_of: fn(&Migration) -> &'static str) -> SchemaState {
        let damaged = SchemaState::Damaged;
        let missing = |table: &str| damaged(format!("the table {table} is missing"));
        if self.applied.is_empty() {
            let mut tables: Vec<_> = self.tables.iter().collect();
            tables.retain(|table| *table != MIGRATIONS_TABLE);
            return match tables.iter().min() {
                None => SchemaState::Empty,
                Some(table) => damaged(format!("{table} exists and no migration is recorded")),
            };
        }
        let Some(meta) = self.meta else {
            return match self.tables.contains(META_TABLE) {
                true => damaged(format!("{META_TABLE} is empty")),
                false => missing(META_TABLE),
            };
        };
        if meta.oldest_binary > SCHEMA_LEVEL {
            return SchemaState::TooNew {
                oldest_binary: meta.oldest_binary,
            };
        }
        for (migration, applied) in MIGRATIONS.iter().zip(&self.applied) {
            if migration.version != applied.version {
                return damaged(format!("migration {} is missing", migration.version));
            }
            if let Some(problem) = applied.problem {
                return damaged(format!("migration {} {problem}", applied.version));
            }
        }
        let applied = &MIGRATIONS[..self.applied.len().min(MIGRATIONS.len())];
        let mut tables = applied.iter().map(text_of).flat_map(Migration::tables_of);
        if let Some(table) = tables.find(|table| !self.tables.contains(*table)) {
            return missing(table);
        }
        match (meta.moved_to, meta.moving_from) {
            (Some(to), _) => SchemaState::Moved { to },
            (None, Some(from)) => SchemaState::Moving { from },
            _ if applied.len() < MIGRATIONS.len() => SchemaState::Behind {
                applied: applied.len(),
            },
            _ => SchemaState::Current { slots: meta.slots },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> SchemaFacts {
        let text = MIGRATIONS.iter().map(|migration| migration.sqlite);
        let tables = text.flat_map(Migration::tables_of).map(str::to_owned);
        let applied = MIGRATIONS.iter().map(|migration| AppliedMigration {
            version: migration.version,
            problem: None,
        });
        SchemaFacts {
            tables: tables.chain([MIGRATIONS_TABLE.to_owned()]).collect(),
            applied: applied.collect(),
            meta: Some(SchemaMeta {
                oldest_binary: SCHEMA_LEVEL,
                slots: 4,
                moved_to: None,
                moving_from: None,
            }),
        }
    }

    fn state(facts: SchemaFacts) -> SchemaState {
        facts.state(|migration| migration.sqlite)
    }

    #[test]
    fn a_database_with_all_migrations_is_current() {
        assert_eq!(state(facts()), SchemaState::Current { slots: 4 });
        assert_eq!(state(SchemaFacts::default()), SchemaState::Empty);
    }

    #[test]
    fn an_empty_record_of_migrations_is_no_damage() {
        let facts = SchemaFacts {
            tables: HashSet::from([MIGRATIONS_TABLE.to_owned()]),
            ..SchemaFacts::default()
        };
        assert_eq!(state(facts), SchemaState::Empty);
    }

    #[test]
    fn damage_is_named() {
        let unrecorded = SchemaFacts {
            applied: Vec::new(),
            ..facts()
        };
        let mut unfinished = facts();
        unfinished.applied[0].problem = Some("was begun and not finished");
        let mut skipped = facts();
        skipped.applied[0].version = 7;
        let mut incomplete = facts();
        incomplete.tables.remove("postrider_ended");
        let without_meta = SchemaFacts {
            meta: None,
            ..facts()
        };
        for (damaged, what) in [
            (unrecorded, "no migration is recorded"),
            (unfinished, "migration 1 was begun and not finished"),
            (skipped, "migration 1 is missing"),
            (incomplete, "the table postrider_ended is missing"),
            (without_meta, "postrider_meta is empty"),
        ] {
            match state(damaged) {
                SchemaState::Damaged(text) => assert!(text.contains(what), "{what}: {text}"),
                other => panic!("{what}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_database_that_is_too_new_is_so_whatever_else_is_missing() {
        let mut newer = facts();
        newer.tables.clear();
        let meta = newer.meta.as_mut().expect("a row");
        meta.oldest_binary = SCHEMA_LEVEL + 1;
        let expected = SchemaState::TooNew {
            oldest_binary: SCHEMA_LEVEL + 1,
        };
        assert_eq!(state(newer), expected);
    }
}
