//! What is written when deliveries end or wait, by settling and by recovery.

use super::values::{micros, rows};
use crate::Result;
use crate::row_state::{NO_TIME, RowState, WITH_LEADER};
use postrider_core::{DeliveryId, Timestamp};
use serde::Serialize;
use sqlx::SqliteConnection;
use uuid::fmt::Simple;

/// A row of `postrider_ended`.
pub(super) struct EndedRow {
    pub day: i32,
    pub delivery_id: Simple,
    pub event_id: Simple,
    pub hook_id: Simple,
    pub state: &'static str,
    pub reason: &'static str,
    pub attempts: u32,
}

/// A row of `postrider_deliveries` for a delivery that had none and has to wait now.
pub(super) struct WaitingRow<'a> {
    pub id: Simple,
    pub day: i32,
    pub event_id: Simple,
    pub hook_id: Simple,
    pub event_seq: i64,
    pub ordering_key: Option<&'a str>,
    pub attempts: u32,
    pub next_attempt_at: i64,
}

impl EndedRow {
    fn columns(&self) -> impl Serialize {
        (
            self.day,
            self.delivery_id,
            self.event_id,
            self.hook_id,
            self.state,
            self.reason,
            self.attempts,
        )
    }
}

impl WaitingRow<'_> {
    fn columns(&self) -> impl Serialize {
        (
            self.id,
            self.day,
            self.event_id,
            self.hook_id,
            self.event_seq,
            self.ordering_key,
            self.attempts,
            self.next_attempt_at,
        )
    }
}

/// Records the end of deliveries that ended otherwise than delivered.
pub(super) async fn insert_ended(
    tx: &mut SqliteConnection,
    ended: &[EndedRow],
    now: Timestamp,
) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: settle_ended
        WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
        INSERT INTO postrider_ended
            (slot, day, delivery_id, event_id, hook_id, state, reason, attempts, ended_at)
        SELECT 0, v ->> 0, unhex(v ->> 1), unhex(v ->> 2), unhex(v ->> 3), v ->> 4, v ->> 5,
            v ->> 6, ?2
        FROM s WHERE true
        ON CONFLICT (slot, day, delivery_id) DO UPDATE
        SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts,
            ended_at = excluded.ended_at",
    )
    .bind(rows(ended.iter().map(EndedRow::columns)))
    .bind(micros(now))
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes deliveries out of the hot table.
pub(super) async fn delete_deliveries(
    tx: &mut SqliteConnection,
    ids: impl IntoIterator<Item = Simple>,
) -> Result<()> {
    let ids = rows(ids);
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: settle_end
        DELETE FROM postrider_deliveries
        WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(ids)
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes rows for deliveries that had none. One that stands there already belongs to an event
/// of an earlier day with the same id, which only an application that sets ids can bring about;
/// it goes on in its place.
pub(super) async fn insert_waiting(
    tx: &mut SqliteConnection,
    waiting: &[WaitingRow<'_>],
) -> Result<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: settle_wait
        WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
        INSERT INTO postrider_deliveries
            (slot, id, day, event_id, hook_id, event_seq, ordering_key, attempts,
             next_attempt_at)
        SELECT 0, unhex(v ->> 0), v ->> 1, unhex(v ->> 2), unhex(v ->> 3), v ->> 4, v ->> 5,
            v ->> 6, v ->> 7
        FROM s WHERE true
        ON CONFLICT (slot, id) DO NOTHING",
    )
    .bind(rows(waiting.iter().map(WaitingRow::columns)))
    .execute(tx)
    .await?;
    Ok(())
}

/// A delivery whose lease ends, and which stays in the queue.
pub(super) struct Rescheduled {
    pub id: DeliveryId,
    /// Waiting, or holding its key. The row itself tells whether one that waits is in a batch.
    pub state: RowState,
    pub attempts: u32,
    /// Leases in a row that ended without a settlement.
    pub lost_leases: u32,
}

impl Rescheduled {
    fn columns(&self) -> impl Serialize {
        let state = self.state.columns(self.id);
        (
            self.id.0.simple(),
            micros(state.next_attempt_at),
            self.attempts,
            self.lost_leases,
        )
    }
}

/// Ends the leases of deliveries and gives them their next state. The parameter is taken apart first and joined by an index of its
/// own: SQLite would otherwise walk through it for each delivery.
pub(super) async fn reschedule(
    tx: &mut SqliteConnection,
    deliveries: &[Rescheduled],
) -> Result<()> {
    if deliveries.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: settle_retry
        WITH t (v) AS MATERIALIZED (SELECT value FROM json_each(?1)),
        s AS MATERIALIZED (
            SELECT unhex(v ->> 0) AS id, v ->> 1 AS next_attempt_at, v ->> 2 AS attempts,
                v ->> 3 AS lost_leases
            FROM t
        )
        UPDATE postrider_deliveries AS d
        SET next_attempt_at =
                CASE WHEN s.next_attempt_at < ?2 AND d.batch_id <> d.id THEN ?3
                    ELSE s.next_attempt_at END,
            turn_at = CASE WHEN s.next_attempt_at < ?2 AND d.batch_id <> d.id
                THEN s.next_attempt_at END,
            attempts = s.attempts, lost_leases = s.lost_leases, lease_token = NULL,
            lease_expires_at = NULL, holds_key = s.next_attempt_at >= ?2,
            batch_id = CASE WHEN s.next_attempt_at < ?2 THEN d.batch_id END
        FROM s WHERE d.slot = 0 AND d.id IN (SELECT id FROM s) AND s.id = d.id",
    )
    .bind(rows(deliveries.iter().map(Rescheduled::columns)))
    .bind(micros(NO_TIME))
    .bind(micros(WITH_LEADER))
    .execute(tx)
    .await?;
    Ok(())
}
