//! Redelivers and discards deliveries. Expired leases are recovered in `recover.rs`.
//!
//! Only the holder of the lock of a delivery's event may make the delivery wait again. Of several
//! calls at once one does it, and the others find it done. A call that ends the delivery
//! meanwhile holds the lock of the delivery itself.

use super::batches::replace_leaders;
use super::connection::Connection;
use super::days::{HistoryExtent, Walk};
use super::lease_group::leave_group;
use super::order::give_turns;
use super::{PostgresStore, bulk, deliveries};
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

#[async_trait]
impl DeliveryChanges for PostgresStore {
    async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        let mut tx = self.calm.begin().await?;
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
        let mut tx = self.calm.begin().await?;
        bulk::use_indexes(&mut tx).await?;
        let done = redeliver_many(&mut *tx, which, page, now).await?;
        tx.commit().await?;
        Ok(done)
    }

    async fn discard(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        let mut tx = self.calm.begin().await?;
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
        let mut tx = self.calm.begin().await?;
        bulk::use_indexes(&mut tx).await?;
        let done = discard_held(&mut *tx, which, page, now).await?;
        tx.commit().await?;
        Ok(done)
    }
}

#[async_trait]
impl DeliveryStatements for Connection {
    async fn find(&mut self, id: DeliveryId) -> Result<DeliveryRow> {
        let extent = HistoryExtent::read(self).await?;
        let mut walk = Walk::within(self).await?;
        let found = deliveries::find(self, &extent, &mut walk, id).await?;
        walk.end(self).await?;
        Ok(found)
    }

    async fn report(&mut self, row: DeliveryRow) -> Result<DeliveryReport> {
        deliveries::report(self, &mut Walk::default(), row).await
    }

    async fn hook_exists(&mut self, hook: HookId) -> Result<bool> {
        let exists = sqlx::query_scalar(
            "-- postrider: redeliver_hook
            SELECT EXISTS (SELECT FROM postrider_hooks WHERE id = $1 AND deleted_at IS NULL)",
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
            WHERE slot = $1 AND day = $2 AND id = $3
            FOR NO KEY UPDATE",
        )
        .bind(row.slot)
        .bind(row.day)
        .bind(row.event.0)
        .fetch_optional(self)
        .await?;
        Ok(is_erased)
    }

    async fn lock_waiting(&mut self, row: &DeliveryRow) -> Result<Option<WaitingDelivery>> {
        let waiting: Option<(Option<Timestamp>, Option<String>)> = sqlx::query_as(
            "-- postrider: delivery_lock
            SELECT lease_expires_at, ordering_key FROM postrider_deliveries
            WHERE slot = $1 AND id = $2 FOR UPDATE",
        )
        .bind(row.slot)
        .bind(row.id.0)
        .fetch_optional(self)
        .await?;
        Ok(
            waiting.map(|(lease_expires_at, ordering_key)| WaitingDelivery {
                lease_expires_at,
                ordering_key,
            }),
        )
    }

    async fn make_due(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<()> {
        sqlx::query(
            "-- postrider: redeliver_waiting
            WITH forgotten AS (
                DELETE FROM postrider_ended WHERE slot = $1 AND day = $4 AND delivery_id = $2
            )
            UPDATE postrider_deliveries
            SET next_attempt_at = $3, earlier_attempts = attempts, lost_leases = 0,
                lease_token = NULL, lease_expires_at = NULL, turn_at = NULL, holds_key = false,
                batch_id = NULL, target = NULL
            WHERE slot = $1 AND id = $2",
        )
        .bind(row.slot)
        .bind(row.id.0)
        .bind(now)
        .bind(row.day)
        .execute(&mut *self)
        .await?;
        replace_leaders(self, row.slot, &[row.id.0]).await
    }

    async fn leave_group(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<GroupMembership> {
        leave_group(self, row.slot, row.id, now).await
    }

    async fn revive(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<()> {
        // The call that ended it may have committed since it was found: its attempts are counted
        // here.
        sqlx::query(
            "-- postrider: redeliver_ended
            WITH forgotten AS (
                DELETE FROM postrider_ended WHERE slot = $1 AND day = $2 AND delivery_id = $3
            )
            INSERT INTO postrider_deliveries
                (slot, day, id, event_id, hook_id, event_seq, attempts, earlier_attempts,
                 next_attempt_at)
            SELECT slot, day, $3, id, $5, seq, made.number, made.number, $6
            FROM postrider_events CROSS JOIN (
                SELECT coalesce(max(number), 0) AS number FROM postrider_attempts
                WHERE slot = $1 AND day = $2 AND delivery_id = $3 AND NOT late
            ) AS made
            WHERE slot = $1 AND day = $2 AND id = $4",
        )
        .bind(row.slot)
        .bind(row.day)
        .bind(row.id.0)
        .bind(row.event.0)
        .bind(row.hook.0)
        .bind(now)
        .execute(self)
        .await?;
        Ok(())
    }

    async fn cancel(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<()> {
        sqlx::query(
            "-- postrider: discard
            WITH gone AS (DELETE FROM postrider_deliveries WHERE slot = $1 AND id = $3)
            INSERT INTO postrider_ended
                (slot, day, delivery_id, event_id, hook_id, state, reason, attempts, ended_at)
            VALUES ($1, $2, $3, $4, $5, 'cancelled', $6, $7, $8)
            ON CONFLICT (slot, day, delivery_id) DO UPDATE
            SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts,
                ended_at = excluded.ended_at",
        )
        .bind(row.slot)
        .bind(row.day)
        .bind(row.id.0)
        .bind(row.event.0)
        .bind(row.hook.0)
        .bind(Reason::Discarded.name())
        .bind(i32::try_from(row.attempts).unwrap_or(i32::MAX))
        .bind(now)
        .execute(&mut *self)
        .await?;
        replace_leaders(self, row.slot, &[row.id.0]).await
    }

    async fn give_turn(&mut self, row: &DeliveryRow, key: &str, now: Timestamp) -> Result<()> {
        give_turns(self, row.slot, vec![(row.hook, key)], now).await
    }
}
