//! Sending deliveries again, and discarding them.

use super::batches::replace_leaders;
use super::lease_group::leave_group;
use super::order::give_turns;
use super::settle_rows::{EndedRow, delete_deliveries, insert_ended};
use super::values::{day_number, micros, moment};
use super::{SqliteStore, deliveries};
use crate::bulk::{discard_held, redeliver_many};
use crate::delivery_change::{
    DeliveryStatements, GroupMembership, WaitingDelivery, discard, redeliver,
};
use crate::history_rows::DeliveryRow;
use crate::{
    BulkPage, BulkPageResult, DeliveryChanges, DeliveryReport, Discard, Redelivery, Result,
};
use async_trait::async_trait;
use postrider_core::{DeliveryId, HookId, Reason, Timestamp};
use sqlx::SqliteConnection;

#[async_trait]
impl DeliveryChanges for SqliteStore {
    async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        let mut tx = self.writer.begin().await?;
        let report = redeliver(&mut *tx, id, now).await?;
        tx.commit().await?;
        Ok(report)
    }

    async fn redeliver_many(
        &self,
        which: &Redelivery,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult> {
        let mut tx = self.writer.begin().await?;
        let done = redeliver_many(&mut *tx, which, page, now).await?;
        tx.commit().await?;
        Ok(done)
    }

    async fn discard(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        let mut tx = self.writer.begin().await?;
        let report = discard(&mut *tx, id, now).await?;
        tx.commit().await?;
        Ok(report)
    }

    async fn discard_held(
        &self,
        which: &Discard,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult> {
        let mut tx = self.writer.begin().await?;
        let done = discard_held(&mut *tx, which, page, now).await?;
        tx.commit().await?;
        Ok(done)
    }
}

#[async_trait]
impl DeliveryStatements for SqliteConnection {
    async fn find(&mut self, id: DeliveryId) -> Result<DeliveryRow> {
        deliveries::find(self, id).await
    }

    async fn report(&mut self, row: DeliveryRow) -> Result<DeliveryReport> {
        deliveries::report(self, row).await
    }

    async fn hook_exists(&mut self, hook: HookId) -> Result<bool> {
        let exists = sqlx::query_scalar(
            "-- postrider: redeliver_hook
            SELECT EXISTS (SELECT 1 FROM postrider_hooks WHERE id = ?1 AND deleted_at IS NULL)",
        )
        .bind(hook.0)
        .fetch_one(self)
        .await?;
        Ok(exists)
    }

    async fn lock_event(&mut self, row: &DeliveryRow) -> Result<Option<bool>> {
        let is_erased = sqlx::query_scalar(
            "-- postrider: redeliver_event
            SELECT erased_at IS NOT NULL FROM postrider_events
            WHERE slot = 0 AND day = ?1 AND id = ?2",
        )
        .bind(day_number(row.day))
        .bind(row.event.0)
        .fetch_optional(self)
        .await?;
        Ok(is_erased)
    }

    async fn lock_waiting(&mut self, row: &DeliveryRow) -> Result<Option<WaitingDelivery>> {
        let waiting: Option<(Option<i64>, Option<String>)> = sqlx::query_as(
            "-- postrider: delivery_lock
            SELECT lease_expires_at, ordering_key FROM postrider_deliveries
            WHERE slot = 0 AND id = ?1",
        )
        .bind(row.id.0)
        .fetch_optional(self)
        .await?;
        Ok(
            waiting.map(|(lease_expires_at, ordering_key)| WaitingDelivery {
                lease_expires_at: lease_expires_at.map(moment),
                ordering_key,
            }),
        )
    }

    async fn make_due(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<()> {
        forget_end(self, row).await?;
        sqlx::query(
            "-- postrider: redeliver_waiting
            UPDATE postrider_deliveries
            SET next_attempt_at = ?2, earlier_attempts = attempts, lost_leases = 0,
                lease_token = NULL, lease_expires_at = NULL, turn_at = NULL, holds_key = 0,
                batch_id = NULL, target = NULL
            WHERE slot = 0 AND id = ?1",
        )
        .bind(row.id.0)
        .bind(micros(now))
        .execute(&mut *self)
        .await?;
        replace_leaders(self, [row.id.0]).await
    }

    async fn leave_group(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<GroupMembership> {
        leave_group(self, row.id, now).await
    }

    async fn revive(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<()> {
        forget_end(self, row).await?;
        sqlx::query(
            "-- postrider: redeliver_ended
            INSERT INTO postrider_deliveries
                (slot, id, day, event_id, hook_id, event_seq, attempts, earlier_attempts,
                 next_attempt_at)
            SELECT 0, ?1, e.day, e.id, ?2, e.seq, made.number, made.number, ?3
            FROM postrider_events AS e CROSS JOIN (
                SELECT coalesce(max(number), 0) AS number FROM postrider_attempts
                WHERE slot = 0 AND day = ?4 AND delivery_id = ?1 AND NOT late
            ) AS made
            WHERE e.slot = 0 AND e.day = ?4 AND e.id = ?5",
        )
        .bind(row.id.0)
        .bind(row.hook.0)
        .bind(micros(now))
        .bind(day_number(row.day))
        .bind(row.event.0)
        .execute(self)
        .await?;
        Ok(())
    }

    async fn cancel(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<()> {
        let id = row.id.0.simple();
        let ended = EndedRow {
            day: day_number(row.day),
            delivery_id: id,
            event_id: row.event.0.simple(),
            hook_id: row.hook.0.simple(),
            state: "cancelled",
            reason: Reason::Discarded.name(),
            attempts: row.attempts,
        };
        delete_deliveries(self, [id]).await?;
        insert_ended(self, &[ended], now).await?;
        replace_leaders(self, [row.id.0]).await
    }

    async fn give_turn(&mut self, row: &DeliveryRow, key: &str, now: Timestamp) -> Result<()> {
        give_turns(self, vec![(row.hook, key)], now).await
    }
}

/// Deletes the row that says how the delivery ended.
async fn forget_end(tx: &mut SqliteConnection, row: &DeliveryRow) -> Result<()> {
    sqlx::query(
        "-- postrider: redeliver_forget
        DELETE FROM postrider_ended WHERE slot = 0 AND day = ?1 AND delivery_id = ?2",
    )
    .bind(day_number(row.day))
    .bind(row.id.0)
    .execute(tx)
    .await?;
    Ok(())
}
