//! Deliveries whose lease ended without a settlement become due again.
//!
//! A delivery that loses its worker again and again is suspected itself: the third time counts
//! as an attempt, so that one which kills its worker does not loop.

use super::SqliteStore;
use super::attempt_rows::{AttemptRow, insert_attempts};
use super::lease_group::recover_started;
use super::operational_events::announce;
use super::order::give_turns;
use super::settle_rows::{EndedRow, Waiting, delete_deliveries, insert_ended, reschedule};
use super::values::{micros, rows};
use crate::operational_events::{LostDelivery, of_lost};
use crate::order::never;
use crate::{HookCache, RecoverResult, Result};
use postrider_core::{
    AttemptId, DeliveryId, EventId, HookId, NextStep, OnFailure, Outcome, Reason, Schedules,
    Timestamp, next_step,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use uuid::Uuid;

/// Leases in a row that may end without a settlement before that counts as an attempt.
const LOST_LEASES: u32 = 3;

impl SqliteStore {
    pub(super) async fn recover_lost(
        &self,
        slot: i16,
        now: Timestamp,
        limit: u32,
        schedules: &dyn Schedules,
    ) -> Result<RecoverResult> {
        let mut recovered = RecoverResult::default();
        // A look without the right to write: nearly always there is nothing to do.
        if slot != 0 || !self.has_lost_leases(now).await? {
            return Ok(recovered);
        }
        let mut tx = self.writer.begin().await?;
        recovered.recovered = recover_started(&mut tx, now, limit).await?;
        let mut lost: Vec<LostRow> = sqlx::query_as(
            "-- postrider: recover_find
            SELECT id, day, event_id, hook_id, attempts, earlier_attempts, lost_leases,
                ordering_key, batch_id
            FROM postrider_deliveries INDEXED BY postrider_deliveries_leased
            WHERE slot = 0 AND lease_token IS NOT NULL AND lease_expires_at <= ?1
                AND (batch_id IS NULL OR batch_id = id)
            ORDER BY lease_expires_at LIMIT ?2",
        )
        .bind(micros(now))
        .bind(limit - recovered.recovered)
        .fetch_all(&mut *tx)
        .await?;
        add_companions(&mut tx, now, &mut lost).await?;
        let cache = self.refresh_hooks(&mut tx).await?;
        let (mut waiting, mut attempts, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        let (mut gone, mut freed, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for row in &lost {
            if row.lost_leases + 1 < LOST_LEASES {
                recovered.recovered += 1;
                waiting.push(row.waits(micros(now), row.attempts, row.lost_leases + 1));
                continue;
            }
            recovered.worker_lost += 1;
            attempts.push(row.attempt(now));
            match row.next_step(&cache, schedules) {
                NextStep::RetryIn(wait) => {
                    waiting.push(row.waits(micros(now + wait), row.attempts + 1, 0));
                }
                NextStep::Failed(reason) => {
                    ended.push(row.ended(reason.name()));
                    if cache.is_any_account_watched() {
                        failed.push(row.lost(&mut tx, reason).await?);
                    }
                    if row.holds_key(&cache) {
                        waiting.push(row.waits(micros(never()), row.attempts + 1, 0));
                    } else {
                        gone.push(row.id.0.simple());
                        freed.extend(row.ordering_key.as_deref().map(|key| (row.hook_id, key)));
                    }
                }
                // A lost worker delivers nothing.
                NextStep::Delivered => {}
            }
        }
        insert_attempts(&mut tx, attempts, false).await?;
        delete_deliveries(&mut tx, gone).await?;
        insert_ended(&mut tx, &ended, now).await?;
        reschedule(&mut tx, &waiting).await?;
        give_turns(&mut tx, freed, now).await?;
        announce(&mut tx, &of_lost(&cache, failed, now), now).await?;
        tx.commit().await?;
        Ok(recovered)
    }

    async fn has_lost_leases(&self, now: Timestamp) -> Result<bool> {
        sqlx::query_scalar(
            "-- postrider: recover_any
            SELECT EXISTS (
                SELECT 1 FROM postrider_deliveries INDEXED BY postrider_deliveries_leased
                WHERE slot = 0 AND lease_token IS NOT NULL AND lease_expires_at <= ?1
            ) OR EXISTS (SELECT 1 FROM postrider_leases WHERE slot = 0 AND expires_at <= ?1)",
        )
        .bind(micros(now))
        .fetch_one(&self.readers)
        .await
        .map_err(Into::into)
    }
}

/// Adds what goes in the same batches as these: a batch comes back as a whole.
async fn add_companions(
    tx: &mut SqliteConnection,
    now: Timestamp,
    lost: &mut Vec<LostRow>,
) -> Result<()> {
    let batches: Vec<_> = lost.iter().filter_map(|row| row.batch).collect();
    if batches.is_empty() {
        return Ok(());
    }
    let companions: Vec<LostRow> = sqlx::query_as(
        "-- postrider: recover_along
        SELECT id, day, event_id, hook_id, attempts, earlier_attempts, lost_leases,
            ordering_key, batch_id
        FROM postrider_deliveries INDEXED BY postrider_deliveries_batched
        WHERE slot = 0 AND batch_id IN (SELECT unhex(value) FROM json_each(?1))
            AND batch_id IS NOT NULL AND batch_id <> id
            AND lease_token IS NOT NULL AND lease_expires_at <= ?2",
    )
    .bind(rows(batches.iter().map(|batch| batch.simple())))
    .bind(micros(now))
    .fetch_all(tx)
    .await?;
    lost.extend(companions);
    Ok(())
}

/// A delivery whose lease ended without a settlement.
struct LostRow {
    id: DeliveryId,
    day: i32,
    event_id: EventId,
    hook_id: HookId,
    attempts: u32,
    earlier_attempts: u32,
    lost_leases: u32,
    ordering_key: Option<String>,
    batch: Option<Uuid>,
}

impl FromRow<'_, SqliteRow> for LostRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: DeliveryId(row.try_get("id")?),
            day: row.try_get("day")?,
            event_id: EventId(row.try_get("event_id")?),
            hook_id: HookId(row.try_get("hook_id")?),
            attempts: row.try_get("attempts")?,
            earlier_attempts: row.try_get("earlier_attempts")?,
            lost_leases: row.try_get("lost_leases")?,
            ordering_key: row.try_get("ordering_key")?,
            batch: row.try_get("batch_id")?,
        })
    }
}

impl LostRow {
    /// Whether those of its key behind it wait, if it has failed for good.
    fn holds_key(&self, cache: &HookCache) -> bool {
        let hook = cache.get(self.hook_id);
        self.ordering_key.is_some()
            && hook.and_then(|hook| hook.settings.after_failure()) == Some(OnFailure::Hold)
    }

    fn waits(&self, until: i64, attempts: u32, lost_leases: u32) -> Waiting {
        (self.id.0.simple(), until, attempts, lost_leases)
    }

    /// What becomes of the delivery now that losing its worker counts as an attempt.
    fn next_step(&self, cache: &HookCache, schedules: &dyn Schedules) -> NextStep {
        let attempt = (self.attempts + 1).saturating_sub(self.earlier_attempts);
        next_step(
            &Outcome::WorkerLost,
            self.batch.map_or(self.id, DeliveryId),
            attempt,
            schedules.of(cache.get(self.hook_id).map(AsRef::as_ref)),
        )
    }

    fn attempt(&self, now: Timestamp) -> AttemptRow<'static> {
        AttemptRow {
            day: self.day,
            delivery_id: self.id.0,
            id: AttemptId::draw(now).0,
            event_id: self.event_id.0,
            hook_id: self.hook_id.0,
            number: self.attempts + 1,
            at: micros(now),
            duration_ms: 0,
            outcome: Outcome::WorkerLost.name(),
            status: None,
            error: Some(Outcome::WorkerLost.to_string()),
            response: &[],
        }
    }

    async fn lost(&self, tx: &mut SqliteConnection, reason: Reason) -> Result<LostDelivery> {
        let event_type: Option<String> = sqlx::query_scalar(
            "-- postrider: recover_type
            SELECT event_type FROM postrider_events WHERE slot = 0 AND day = ?1 AND id = ?2",
        )
        .bind(self.day)
        .bind(self.event_id.0)
        .fetch_optional(tx)
        .await?;
        Ok(LostDelivery {
            id: self.id,
            event: self.event_id,
            event_type: event_type.unwrap_or_default(),
            hook: self.hook_id,
            reason,
            attempts: self.attempts + 1,
        })
    }

    fn ended(&self, reason: &'static str) -> EndedRow {
        EndedRow {
            day: self.day,
            delivery_id: self.id.0.simple(),
            event_id: self.event_id.0.simple(),
            hook_id: self.hook_id.0.simple(),
            state: "failed",
            reason,
            attempts: self.attempts + 1,
        }
    }
}
