//! The partitions of a table, and the statements that let one go.

use super::errors::Result;
use chrono::NaiveDate;
use sqlx::PgConnection;

/// The comment on a partition that is to go.
const MARK: &str = "Postrider: past its retention";

/// How a partition stands to its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is part of it.
    Attached,
    /// Detaching was begun and not finished: it is neither read nor written.
    Leaving,
    /// It is a table of its own.
    Alone,
}

/// A partition, or a table that was one.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    /// Its schema, quoted.
    schema: String,
    /// Its parent's name.
    parent: &'static str,
    pub(super) day: NaiveDate,
    pub(super) state: State,
    /// The size of its rows.
    pub(super) bytes: i64,
    marked: bool,
}

impl Partition {
    pub(super) fn is_attached(&self) -> bool {
        self.state == State::Attached
    }

    /// Whether we detached it.
    pub(super) fn is_marked_alone(&self) -> bool {
        self.state == State::Alone && self.marked
    }

    /// Its name as it stands in a statement.
    pub(super) fn name(&self) -> String {
        format!(
            "{}.{}_{}",
            self.schema,
            self.parent,
            self.day.format("%Y%m%d")
        )
    }

    pub(super) fn mark(&self) -> String {
        format!("COMMENT ON TABLE {} IS '{MARK}'", self.name())
    }

    pub(super) fn detach(&self) -> String {
        let (parent, name) = (format!("{}.{}", self.schema, self.parent), self.name());
        format!("ALTER TABLE {parent} DETACH PARTITION {name} CONCURRENTLY")
    }

    pub(super) fn finish_detaching(&self) -> String {
        let (parent, name) = (format!("{}.{}", self.schema, self.parent), self.name());
        format!("ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE")
    }
}

/// The partitions of a table and what was one of them, oldest first.
pub(super) async fn partitions(
    connection: &mut PgConnection,
    parent: &'static str,
) -> Result<Vec<Partition>> {
    let rows: Vec<(String, NaiveDate, Option<bool>, bool, i64)> = sqlx::query_as(
        "-- postrider: partitions
        SELECT quote_ident(n.nspname), to_date(right(part.relname, 8), 'YYYYMMDD') AS day,
               i.inhdetachpending,
               coalesce(obj_description(part.oid, 'pg_class') = $2, false),
               pg_relation_size(part.oid)
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_class AS part ON part.relnamespace = c.relnamespace AND part.relkind = 'r'
            AND part.relname ~ ('^' || $1 || '_[0-9]{8}$')
        LEFT JOIN pg_inherits AS i ON i.inhrelid = part.oid AND i.inhparent = c.oid
        WHERE c.oid = to_regclass($1)
        ORDER BY day",
    )
    .bind(parent)
    .bind(MARK)
    .fetch_all(connection)
    .await?;
    let found = rows
        .into_iter()
        .map(|(schema, day, leaving, marked, bytes)| Partition {
            schema,
            parent,
            day,
            state: match leaving {
                Some(false) => State::Attached,
                Some(true) => State::Leaving,
                None => State::Alone,
            },
            bytes,
            marked,
        });
    Ok(found.collect())
}
