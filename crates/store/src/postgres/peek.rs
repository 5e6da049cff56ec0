//! Peeks at whether there is work, cheap at any backlog and over any number of dead rows.

use super::PostgresStore;
use super::connection::Connection;
use super::outbox_cursor::{ALL, OutboxCursor, Stretch};
use crate::Peek;
use crate::Result;
use postrider_core::monotonic_now;
use std::sync::{MutexGuard, PoisonError};

/// What a peek sees: the version of the hooks, the slots that have rows, the first `seq` among
/// them, and the last one that was given out.
type Seen = (i64, Vec<i16>, Option<i64>, i64);

impl PostgresStore {
    /// [`Outbox::peek`](crate::Outbox::peek).
    pub(super) async fn peek_for_work(&self) -> Result<Peek> {
        let mut connection = self.hot.acquire().await?;
        let began = monotonic_now();
        let stretch = self.outbox_cursor().peek(began);
        let (hooks_version, mut outbox, head, last) = match stretch {
            ALL => peek(&mut connection).await?,
            some => peek_within(&mut connection, some).await?,
        };
        let now = monotonic_now();
        self.outbox_cursor()
            .peeked(head.unwrap_or(last), now - began, now);
        outbox.extend(self.search(&mut connection).await?);
        outbox.sort_unstable();
        outbox.dedup();
        self.hooks_at(&mut connection, hooks_version).await?;
        Ok(Peek {
            outbox,
            hooks_version,
        })
    }

    /// Searches the part of the outbox that peeks leave out, when it is time; returns the
    /// slots in which there are rows.
    async fn search(&self, connection: &mut Connection) -> Result<Vec<i16>> {
        let began = monotonic_now();
        let Some(stretch) = self.outbox_cursor().search(began) else {
            return Ok(Vec::new());
        };
        let (_, late, ..) = peek_within(connection, stretch).await?;
        let now = monotonic_now();
        self.outbox_cursor()
            .searched(stretch, &late, now - began, now);
        Ok(late)
    }

    pub(super) fn outbox_cursor(&self) -> MutexGuard<'_, OutboxCursor> {
        self.outbox_cursor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Peeks at the slots that have rows, whatever their numbers.
async fn peek(connection: &mut Connection) -> Result<Seen> {
    Ok(sqlx::query_as(
        "-- postrider: peek
        WITH RECURSIVE heads AS (
            (SELECT slot, seq FROM postrider_outbox ORDER BY slot, seq LIMIT 1)
            UNION ALL
            SELECT next.slot, next.seq FROM heads CROSS JOIN LATERAL (
                SELECT slot, seq FROM postrider_outbox
                WHERE slot > heads.slot ORDER BY slot, seq LIMIT 1
            ) AS next
        )
        SELECT hooks_version, ARRAY(SELECT slot FROM heads), (SELECT min(seq) FROM heads),
               (SELECT last_value FROM postrider_outbox_seq_seq)
        FROM postrider_meta WHERE singleton",
    )
    .fetch_one(connection)
    .await?)
}

/// Peeks at a stretch of each slot.
async fn peek_within(connection: &mut Connection, stretch: Stretch) -> Result<Seen> {
    Ok(sqlx::query_as(
        "-- postrider: peek_within
        WITH heads AS MATERIALIZED (
            SELECT s.slot, head.seq
            FROM generate_series(0, (SELECT slots - 1 FROM postrider_meta WHERE singleton))
                AS s (slot)
            CROSS JOIN LATERAL (
                SELECT seq FROM postrider_outbox
                WHERE slot = s.slot::smallint AND seq >= $1 AND seq < $2
                ORDER BY seq LIMIT 1
            ) AS head
        )
        SELECT hooks_version, ARRAY(SELECT slot::smallint FROM heads),
               (SELECT min(seq) FROM heads), (SELECT last_value FROM postrider_outbox_seq_seq)
        FROM postrider_meta WHERE singleton",
    )
    .bind(stretch.0)
    .bind(stretch.1)
    .fetch_one(connection)
    .await?)
}
