//! Rows of the outbox as they are read, locked, and whether they can become events.
//!
//! A row that cannot is a rejected row, never an error that stops its batch.

use super::PostgresStore;
use super::errors::Result;
use super::values::within_calendar;
use crate::fan_out::{OutboxRow, objection};
use crate::{FanOut, HookBook};
use postrider_core::{Event, EventId, Payload, Timestamp, scrub};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use std::sync::Arc;

/// Outbox rows, locked, and the hooks they are matched against.
pub(super) struct Batch {
    pub rows: Vec<RawRow>,
    pub book: Arc<HookBook>,
}

/// A row as it was read.
pub(super) struct RawRow {
    pub seq: i64,
    /// The row, or why it cannot be read.
    read: std::result::Result<OutboxRow, String>,
}

/// What is to become of a row.
pub(super) enum Verdict {
    /// It can become an event.
    Accepted(OutboxRow),
    /// It cannot.
    Rejected { seq: i64, reason: String },
}

impl PostgresStore {
    /// Reads and locks the first rows of the slot, at most `size`.
    pub(super) async fn read_batch(
        &self,
        connection: &mut PgConnection,
        request: &FanOut,
        size: u32,
    ) -> Result<Batch> {
        let rows = sqlx::query(concat!(
            "-- postrider: fan_out_rows
            SELECT seq, id, account, event_type, payload::text, ordering_key, dedup_key,
                   headers::text,
                   CASE WHEN coalesce(occurred_at, created_at) ",
            within_calendar!(),
            " THEN coalesce(occurred_at, created_at) END,
                   CASE WHEN deliver_after ",
            within_calendar!(),
            " THEN deliver_after END,
                   CASE WHEN coalesce(occurred_at, created_at) NOT ",
            within_calendar!(),
            " THEN 'occurred_at (' || coalesce(occurred_at, created_at) || ')'
                        WHEN deliver_after NOT ",
            within_calendar!(),
            " THEN 'deliver_after (' || deliver_after || ')' END,
                   (SELECT hooks_version FROM postrider_meta WHERE singleton)
            FROM postrider_outbox
            WHERE slot = $1
            ORDER BY seq LIMIT $2
            FOR UPDATE SKIP LOCKED",
        ))
        .bind(request.slot)
        .bind(i64::from(size))
        .fetch_all(&mut *connection)
        .await?;
        let book = match rows.first() {
            Some(row) => self.book_at(connection, row.try_get(11)?).await?,
            None => self.current_book(),
        };
        let rows = rows.iter().map(RawRow::of);
        Ok(Batch {
            rows: rows.collect::<std::result::Result<_, _>>()?,
            book,
        })
    }
}

impl RawRow {
    fn of(row: &PgRow) -> std::result::Result<Self, sqlx::Error> {
        let seq = row.try_get(0)?;
        let odd_time: Option<&str> = row.try_get(10)?;
        let read = match odd_time {
            Some(odd_time) => Err(format!("{odd_time} lies outside the years 1 to 9999")),
            None => Ok(OutboxRow {
                seq,
                event: Arc::new(Event {
                    id: EventId(row.try_get(1)?),
                    account: row.try_get(2)?,
                    event_type: row.try_get(3)?,
                    payload: Payload::from_checked(row.try_get::<&str, _>(4)?),
                    ordering_key: row.try_get(5)?,
                    headers: row.try_get(7)?,
                    occurred_at: row.try_get(8)?,
                }),
                dedup_key: row.try_get(6)?,
                deliver_after: row.try_get(9)?,
            }),
        };
        Ok(Self { seq, read })
    }

    /// Judges the row; one that is not to be delivered before `deliver_before` is refused.
    pub(super) fn judge(self, deliver_before: Timestamp) -> Verdict {
        let accepted = self
            .read
            .and_then(|row| match objection(&row, deliver_before) {
                Some(reason) => Err(reason),
                None => Ok(row),
            });
        match accepted {
            Ok(row) => Verdict::Accepted(row),
            Err(reason) => Verdict::Rejected {
                seq: self.seq,
                reason: scrub(&reason),
            },
        }
    }
}
