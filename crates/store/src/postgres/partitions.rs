//! The partitions of a table, and the statements that detach one.
//!
//! The bounds of a partition say what it holds, never its name alone: one that a person made may
//! have a name like ours and hold a month. Only partitions that hold exactly the day they are named
//! after may be dropped.

use super::connection::Connection;
use crate::Result;
use chrono::{Days, NaiveDate};

/// The comment that marks a partition to be dropped.
const MARK: &str = "Postrider: past its retention";

/// The relation of a partition to its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartitionState {
    /// It is a part of its parent.
    Attached,
    /// Detaching it was begun and not finished: it is neither read nor written, and no other can
    /// be detached meanwhile.
    Leaving,
    /// It is a separate table.
    Alone,
}

/// A partition, or a table that was one.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    /// Its name with its schema, quoted.
    pub(super) name: String,
    /// The name of its parent, likewise.
    parent: String,
    /// The day that it holds and is named after; `None` for one made by hand.
    pub(super) day: Option<NaiveDate>,
    /// The first day that it holds and the day after the last; `None` for the default partition
    /// and for tables that are no longer partitions.
    span: Option<(NaiveDate, NaiveDate)>,
    pub(super) state: PartitionState,
    /// The size of its rows.
    pub(super) bytes: i64,
    marked: bool,
}

impl Partition {
    pub(super) fn is_attached(&self) -> bool {
        self.state == PartitionState::Attached
    }

    /// Whether it is the default partition. While there is one, no other can be detached without
    /// blocking all traffic.
    pub(super) fn is_default(&self) -> bool {
        self.is_attached() && self.span.is_none()
    }

    /// Whether it holds the rows of this day.
    pub(super) fn takes(&self, day: NaiveDate) -> bool {
        let within = |(first, next): (NaiveDate, NaiveDate)| first <= day && day < next;
        self.is_attached() && self.span.is_some_and(within)
    }

    /// Whether it holds a single day, before this one.
    pub(super) fn is_before(&self, first_kept: NaiveDate) -> bool {
        self.day.is_some_and(|day| day < first_kept)
    }

    /// Whether pruning detached it.
    pub(super) fn is_marked_alone(&self) -> bool {
        self.state == PartitionState::Alone && self.marked
    }

    /// Whether pruning marked it and has not detached it.
    pub(super) fn is_marked_attached(&self) -> bool {
        self.is_attached() && self.marked
    }

    pub(super) fn mark(&self) -> String {
        format!("COMMENT ON TABLE {} IS '{MARK}'", self.name)
    }

    pub(super) fn unmark(&self) -> String {
        format!("COMMENT ON TABLE {} IS NULL", self.name)
    }

    pub(super) fn detach(&self) -> String {
        let (parent, name) = (&self.parent, &self.name);
        format!("ALTER TABLE {parent} DETACH PARTITION {name} CONCURRENTLY")
    }

    pub(super) fn finish_detaching(&self) -> String {
        let (parent, name) = (&self.parent, &self.name);
        format!("ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE")
    }
}

/// The partitions of a table, and the detached ones that are to be dropped; oldest first.
pub(super) async fn partitions(
    connection: &mut Connection,
    parent: &str,
) -> Result<Vec<Partition>> {
    type Columns = (
        String,
        String,
        Option<bool>,
        Option<NaiveDate>,
        Option<NaiveDate>,
        bool,
        bool,
        i64,
    );
    // Dates are written in the format of the session; infinite ones are replaced by bounds.
    let rows: Vec<Columns> = sqlx::query_as(
        "-- postrider: partitions
        WITH parent AS (
            SELECT c.oid, c.relname, c.relnamespace FROM pg_class AS c WHERE c.oid = to_regclass($1)
        ), part AS (
            SELECT i.inhrelid AS oid, i.inhdetachpending AS leaving
            FROM parent JOIN pg_inherits AS i ON i.inhparent = parent.oid
            UNION ALL
            SELECT c.oid, NULL
            FROM parent JOIN pg_class AS c ON c.relnamespace = parent.relnamespace
            WHERE c.relkind = 'r' AND NOT c.relispartition
              AND c.relname ~ ('^' || parent.relname || '_[0-9]{8}$')
              AND obj_description(c.oid, 'pg_class') = $2
        ), bounded AS (
            SELECT part.oid, part.leaving,
                   regexp_match(pg_get_expr(c.relpartbound, c.oid),
                                '^FOR VALUES FROM \\((.+)\\) TO \\((.+)\\)$') AS bound
            FROM part JOIN pg_class AS c ON c.oid = part.oid
        ), spanned AS (
            SELECT oid, leaving,
                   CASE bound[1] WHEN 'MINVALUE' THEN '-infinity'
                                 ELSE trim(BOTH '''' FROM bound[1])::date END AS first,
                   CASE bound[2] WHEN 'MAXVALUE' THEN 'infinity'
                                 ELSE trim(BOTH '''' FROM bound[2])::date END AS next
            FROM bounded
        )
        SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname),
               quote_ident(np.nspname) || '.' || quote_ident(parent.relname),
               s.leaving,
               CASE WHEN s.first IS NOT NULL THEN greatest(s.first, '0001-01-01') END,
               CASE WHEN s.next IS NOT NULL THEN least(s.next, '9999-12-31') END,
               coalesce(c.relname = parent.relname || to_char(
                   CASE WHEN isfinite(s.first) THEN s.first END, '_YYYYMMDD'), false),
               coalesce(obj_description(c.oid, 'pg_class') = $2, false),
               pg_relation_size(c.oid)
        FROM parent
        JOIN pg_namespace AS np ON np.oid = parent.relnamespace
        CROSS JOIN spanned AS s
        JOIN pg_class AS c ON c.oid = s.oid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        ORDER BY s.first NULLS FIRST, c.relname",
    )
    .bind(parent)
    .bind(MARK)
    .fetch_all(connection)
    .await?;
    let found = rows.into_iter().map(
        |(name, parent, leaving, first, next, named, marked, bytes)| {
            let span = first.zip(next);
            let state = match leaving {
                Some(false) => PartitionState::Attached,
                Some(true) => PartitionState::Leaving,
                None => PartitionState::Alone,
            };
            let day = match (state, span) {
                // Only its name says what it held; the mark says that pruning detached it.
                (PartitionState::Alone, _) => named_after(&name),
                (_, Some((first, next))) => Some(first)
                    .filter(|first| named && first.checked_add_days(Days::new(1)) == Some(next)),
                (_, None) => None,
            };
            Partition {
                name,
                parent,
                day,
                span,
                state,
                bytes,
                marked,
            }
        },
    );
    Ok(found.collect())
}

/// The day that a name ends with.
fn named_after(name: &str) -> Option<NaiveDate> {
    let digits = name.get(name.len().checked_sub(8)?..)?;
    NaiveDate::parse_from_str(digits, "%Y%m%d").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_day_has_none() {
        let day = NaiveDate::from_ymd_opt(2026, 3, 2);
        for (name, expected) in [
            ("public.postrider_events_20260302", day),
            ("public.postrider_events_20261399", None),
            ("short", None),
            ("public.postrider_events_ä2026030", None),
        ] {
            assert_eq!(named_after(name), expected, "{name}");
        }
    }
}
