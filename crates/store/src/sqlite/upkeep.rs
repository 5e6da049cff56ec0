//! What is done now and then: cancelling what deleted hooks left behind, and forgetting calls.
//!
//! There are no partitions to make: here a `day` is a column like any other.

use super::SqliteStore;
use super::idempotency::forget_calls;
use super::settle_rows::{EndedRow, delete_deliveries, insert_ended};
use crate::{Result, Upkeep};
use postrider_core::{Reason, Timestamp};
use sqlx::SqliteConnection;
use uuid::Uuid;

impl SqliteStore {
    pub(super) async fn keep_up(&self, now: Timestamp, limit: u32) -> Result<Upkeep> {
        forget_calls(self, now).await?;
        // From hook to hook of those that wait, which costs the same whatever their backlog.
        let hooks: Vec<Uuid> = sqlx::query_scalar(
            "-- postrider: cancel_hooks
            WITH RECURSIVE waiting (hook_id) AS (
                SELECT (SELECT d.hook_id FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE d.slot = 0 AND d.lease_token IS NULL ORDER BY d.hook_id LIMIT 1)
                UNION ALL
                SELECT (SELECT d.hook_id FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                        WHERE d.slot = 0 AND d.lease_token IS NULL
                            AND d.hook_id > waiting.hook_id
                        ORDER BY d.hook_id LIMIT 1)
                FROM waiting WHERE hook_id IS NOT NULL
            )
            SELECT hook_id FROM waiting CROSS JOIN postrider_hooks AS h ON h.id = waiting.hook_id
            WHERE h.deleted_at IS NOT NULL",
        )
        .fetch_all(&self.readers)
        .await?;
        let mut done = Upkeep {
            more: self.keep_order(now, limit).await?,
            ..Upkeep::default()
        };
        if hooks.is_empty() {
            return Ok(done);
        }
        let mut tx = self.writer.begin().await?;
        for hook in hooks {
            let left = limit - done.cancelled;
            done.cancelled += cancel(&mut tx, hook, now, left).await?;
        }
        tx.commit().await?;
        done.more |= done.cancelled == limit;
        Ok(done)
    }
}

/// Cancels up to `limit` deliveries of a deleted hook; those that are leased may end yet.
async fn cancel(tx: &mut SqliteConnection, hook: Uuid, now: Timestamp, limit: u32) -> Result<u32> {
    let found: Vec<(Uuid, i32, Uuid, u32)> = sqlx::query_as(
        "-- postrider: cancel_find
            SELECT id, day, event_id, attempts
        FROM postrider_deliveries INDEXED BY postrider_deliveries_waiting
            WHERE slot = 0 AND hook_id = ?1 AND lease_token IS NULL LIMIT ?2",
    )
    .bind(hook)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    let ended: Vec<_> = found
        .into_iter()
        .map(|(id, day, event_id, attempts)| EndedRow {
            day,
            delivery_id: id.simple(),
            event_id: event_id.simple(),
            hook_id: hook.simple(),
            state: "cancelled",
            reason: Reason::HookDeleted.name(),
            attempts,
        })
        .collect();
    delete_deliveries(tx, ended.iter().map(|row| row.delivery_id)).await?;
    insert_ended(tx, &ended, now).await?;
    Ok(u32::try_from(ended.len()).unwrap_or(u32::MAX))
}
