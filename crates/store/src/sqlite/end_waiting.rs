//! Ends deliveries that wait, for another reason than an attempt.

use super::batches::replace_leaders;
use super::values::{micros, rows};
use crate::Result;
use postrider_core::{Reason, Timestamp};
use sqlx::SqliteConnection;
use uuid::Uuid;

/// Ends those of the deliveries that have no lease, and returns how many. A batch that loses its
/// leader gets another one.
pub(super) async fn end_waiting(
    tx: &mut SqliteConnection,
    ids: impl IntoIterator<Item = Uuid>,
    state: &'static str,
    reason: Reason,
    now: Timestamp,
) -> Result<u64> {
    let ids = rows(ids.into_iter().map(Uuid::simple));
    if ids.is_empty() {
        return Ok(0);
    }
    let ended: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: end_waiting
        INSERT INTO postrider_ended
            (slot, day, delivery_id, event_id, hook_id, state, reason, attempts, ended_at)
        SELECT 0, day, id, event_id, hook_id, ?2, ?3, attempts, ?4 FROM postrider_deliveries
        WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))
            AND lease_token IS NULL
        ON CONFLICT (slot, day, delivery_id) DO UPDATE
        SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts,
            ended_at = excluded.ended_at
        RETURNING delivery_id",
    )
    .bind(&ids)
    .bind(state)
    .bind(reason.name())
    .bind(micros(now))
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query(
        "-- postrider: end_waiting_rows
        DELETE FROM postrider_deliveries
        WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))
            AND lease_token IS NULL",
    )
    .bind(&ids)
    .execute(&mut *tx)
    .await?;
    let count = ended.len() as u64;
    replace_leaders(tx, ended).await?;
    Ok(count)
}
