//! Upkeep: deliveries of deleted hooks are cancelled, and old calls are forgotten.
//!
//! There are no partitions to make: in SQLite a `day` is a column like any other.

use super::SqliteStore;
use super::end_waiting::end_waiting;
use super::erase::{erase, erase_rejected_of};
use super::idempotency::forget_calls;
use super::order_upkeep::keep_order;
use super::prune::prune;
use crate::count::count;
use crate::{Erased, Maintenance, Pruned, Result, Retention, Upkeep};
use async_trait::async_trait;
use postrider_core::{EventId, Reason, Timestamp};
use sqlx::SqliteConnection;
use uuid::Uuid;

#[async_trait]
impl Maintenance for SqliteStore {
    async fn upkeep(&self, now: Timestamp, limit: u32) -> Result<Upkeep> {
        forget_calls(self, now).await?;
        // A step for each hook with waiting deliveries, whatever their number.
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
            more: keep_order(self, now, limit).await?,
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

    async fn prune(&self, keep: &Retention, now: Timestamp, batch: u32) -> Result<Pruned> {
        prune(self, keep, now, batch).await
    }

    async fn erase(&self, events: &[EventId], now: Timestamp) -> Result<Erased> {
        erase(self, events, now).await
    }

    async fn erase_rejected(&self, account: &str, limit: u32) -> Result<u32> {
        erase_rejected_of(self, account, limit).await
    }
}

/// Cancels up to `limit` deliveries of a deleted hook; those with a lease may still end otherwise.
async fn cancel(tx: &mut SqliteConnection, hook: Uuid, now: Timestamp, limit: u32) -> Result<u32> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: cancel_find
        SELECT id FROM postrider_deliveries INDEXED BY postrider_deliveries_waiting
        WHERE slot = 0 AND hook_id = ?1 AND lease_token IS NULL LIMIT ?2",
    )
    .bind(hook)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    Ok(count(
        end_waiting(tx, ids, "cancelled", Reason::HookDeleted, now).await?,
    ))
}
