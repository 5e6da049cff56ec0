//! What is written when attempts are recorded and deliveries end, by settling and by recovery.

use super::errors::from_sqlx;
use super::values::{hex, micros, rows};
use crate::Result;
use postrider_core::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;
use std::collections::HashSet;
use uuid::Uuid;
use uuid::fmt::Simple;

/// A row of `postrider_attempts`.
#[derive(Serialize)]
pub(super) struct AttemptRow {
    pub day: i32,
    pub delivery_id: Simple,
    pub id: Simple,
    pub event_id: Simple,
    pub hook_id: Simple,
    pub number: u32,
    pub at: i64,
    pub duration_ms: u32,
    pub outcome: &'static str,
    pub status: Option<u16>,
    pub late: bool,
    pub error: Option<String>,
    /// In hexadecimal.
    pub response: Option<String>,
}

/// A row of `postrider_ended`.
#[derive(Serialize)]
pub(super) struct EndedRow {
    pub day: i32,
    pub delivery_id: Simple,
    pub event_id: Simple,
    pub hook_id: Simple,
    pub state: &'static str,
    pub reason: &'static str,
    pub attempts: u32,
}

/// A response's excerpt as it travels; nothing when it is empty.
pub(super) fn excerpt(response: &[u8]) -> Option<String> {
    (!response.is_empty()).then(|| hex(response))
}

/// Records attempts and returns the ids of those that were not recorded before.
pub(super) async fn insert_attempts(
    tx: &mut SqliteConnection,
    attempts: &[AttemptRow],
) -> Result<HashSet<Uuid>> {
    if attempts.is_empty() {
        return Ok(HashSet::new());
    }
    let recorded: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: settle_attempts
        INSERT INTO postrider_attempts
            (slot, day, delivery_id, id, event_id, hook_id, number, at, duration_ms, outcome,
             status, late, error, response)
        SELECT 0, value ->> 'day', unhex(value ->> 'delivery_id'), unhex(value ->> 'id'),
            unhex(value ->> 'event_id'), unhex(value ->> 'hook_id'), value ->> 'number',
            value ->> 'at', value ->> 'duration_ms', value ->> 'outcome', value ->> 'status',
            value ->> 'late', value ->> 'error', unhex(value ->> 'response')
        FROM json_each(?1) WHERE true
        ON CONFLICT (slot, day, delivery_id, id) DO NOTHING
        RETURNING id",
    )
    .bind(rows(attempts))
    .fetch_all(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(recorded.into_iter().collect())
}

/// Keeps what became of deliveries that ended otherwise than delivered.
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
        INSERT INTO postrider_ended
            (slot, day, delivery_id, event_id, hook_id, state, reason, attempts, ended_at)
        SELECT 0, value ->> 'day', unhex(value ->> 'delivery_id'), unhex(value ->> 'event_id'),
            unhex(value ->> 'hook_id'), value ->> 'state', value ->> 'reason',
            value ->> 'attempts', ?2
        FROM json_each(?1) WHERE true
        ON CONFLICT (slot, day, delivery_id) DO UPDATE
        SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts,
            ended_at = excluded.ended_at",
    )
    .bind(rows(ended))
    .bind(micros(now))
    .execute(tx)
    .await
    .map_err(from_sqlx)?;
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
    .await
    .map_err(from_sqlx)?;
    Ok(())
}
