//! Deliveries whose lease ended without a settlement become due again.
//!
//! A delivery that loses its worker again and again is suspected itself: the third time counts
//! as an attempt, so that one which kills its worker does not loop.

use super::PostgresStore;
use super::batches::{along, waits_until};
use super::lease_group;
use super::operational_events::announce;
use super::order::give_turns;
use crate::Result;
use crate::operational_events::{LostDelivery, of_lost};
use crate::order::never;
use crate::{HookCache, RecoverResult};
use chrono::NaiveDate;
use postrider_core::{
    AttemptId, DeliveryId, EventId, HookId, NextStep, OnFailure, Outcome, Schedules, Timestamp,
    next_step,
};
use sqlx::postgres::{PgBindIterExt, PgRow};
use sqlx::{PgConnection, Row};
use std::collections::HashMap;
use uuid::Uuid;

/// After so many leases in a row that ended without a settlement, the delivery itself is
/// suspected.
const LOST_LEASES_MAX: i16 = 3;

impl PostgresStore {
    pub(super) async fn recover(
        &self,
        slot: i16,
        now: Timestamp,
        limit: u32,
        schedules: &dyn Schedules,
    ) -> Result<RecoverResult> {
        let mut tx = self.hot.begin().await?;
        let members = lease_group::recover(&mut tx, slot, now, limit).await?;
        let mut rows: Vec<Expired> = sqlx::query(
            "-- postrider: recover_find
            SELECT id, day, event_id, hook_id, attempts, earlier_attempts, lost_leases,
                   ordering_key, batch_id
            FROM postrider_deliveries
            WHERE slot = $1 AND lease_token IS NOT NULL AND lease_expires_at <= $2
              AND (batch_id IS NULL OR batch_id = id)
            ORDER BY lease_expires_at LIMIT $3
            FOR UPDATE SKIP LOCKED",
        )
        .bind(slot)
        .bind(now)
        .bind(i64::from(limit - members))
        .try_map(|row: PgRow| Expired::of(&row))
        .fetch_all(&mut *tx)
        .await?;
        add_companions(&mut tx, slot, now, &mut rows).await?;
        let mut freed = Vec::new();
        let (lost, recovered): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|row| row.lost_leases + 1 >= LOST_LEASES_MAX);
        if !recovered.is_empty() {
            make_due(&mut tx, slot, now, &recovered).await?;
        }
        if !lost.is_empty() {
            let cache = self.refresh_hooks(&mut tx).await?;
            freed = record_lost(&mut tx, slot, now, &lost, &cache, schedules).await?;
        }
        give_turns(&mut tx, slot, freed, now).await?;
        tx.commit().await?;
        Ok(RecoverResult {
            recovered: members + u32::try_from(recovered.len()).unwrap_or(u32::MAX),
            worker_lost: u32::try_from(lost.len()).unwrap_or(u32::MAX),
        })
    }
}

/// A delivery whose lease ended without a settlement.
struct Expired {
    id: DeliveryId,
    day: NaiveDate,
    event: Uuid,
    hook: HookId,
    attempts: u32,
    earlier_attempts: u32,
    lost_leases: i16,
    ordering_key: Option<String>,
    batch: Option<Uuid>,
}

impl Expired {
    fn of(row: &PgRow) -> std::result::Result<Self, sqlx::Error> {
        Ok(Self {
            id: DeliveryId(row.try_get(0)?),
            day: row.try_get(1)?,
            event: row.try_get(2)?,
            hook: HookId(row.try_get(3)?),
            attempts: row.try_get::<i32, _>(4)?.unsigned_abs(),
            earlier_attempts: row.try_get::<i32, _>(5)?.unsigned_abs(),
            lost_leases: row.try_get(6)?,
            ordering_key: row.try_get(7)?,
            batch: row.try_get(8)?,
        })
    }

    /// The number of the attempt that the lost workers stand for.
    fn number(&self) -> i32 {
        i32::try_from(self.attempts + 1).unwrap_or(i32::MAX)
    }

    /// Whether those of its key behind it wait, if it has failed for good.
    fn holds_key(&self, cache: &HookCache) -> bool {
        let hook = cache.get(self.hook);
        self.ordering_key.is_some()
            && hook.and_then(|hook| hook.settings.after_failure()) == Some(OnFailure::Hold)
    }

    fn next_step(&self, cache: &HookCache, schedules: &dyn Schedules) -> NextStep {
        let round = (self.attempts + 1).saturating_sub(self.earlier_attempts);
        next_step(
            &Outcome::WorkerLost,
            self.batch.map_or(self.id, DeliveryId),
            round,
            schedules.of(cache.get(self.hook).map(AsRef::as_ref)),
        )
    }
}

/// Adds what goes in the same batches as these: a batch comes back as a whole.
async fn add_companions(
    connection: &mut PgConnection,
    slot: i16,
    now: Timestamp,
    rows: &mut Vec<Expired>,
) -> Result<()> {
    let batches: Vec<_> = rows.iter().filter_map(|row| row.batch).collect();
    if batches.is_empty() {
        return Ok(());
    }
    let companions: Vec<Expired> = sqlx::query(
        "-- postrider: recover_along
        SELECT id, day, event_id, hook_id, attempts, earlier_attempts, lost_leases, ordering_key,
               batch_id
        FROM postrider_deliveries
        WHERE slot = $1 AND batch_id = ANY($2) AND batch_id IS NOT NULL AND batch_id <> id
          AND lease_token IS NOT NULL AND lease_expires_at <= $3
        ORDER BY id FOR UPDATE",
    )
    .bind(slot)
    .bind(batches)
    .bind(now)
    .try_map(|row: PgRow| Expired::of(&row))
    .fetch_all(connection)
    .await?;
    rows.extend(companions);
    Ok(())
}

async fn make_due(
    connection: &mut PgConnection,
    slot: i16,
    now: Timestamp,
    rows: &[Expired],
) -> Result<()> {
    sqlx::query(concat!(
        "-- postrider: recover
        UPDATE postrider_deliveries
        SET lease_token = NULL, lease_expires_at = NULL, lost_leases = lost_leases + 1, ",
        waits_until!("", "$2"),
        " WHERE slot = $1 AND ctid = ANY(ARRAY(
            SELECT d.place FROM unnest($3::uuid[]) AS i (id) CROSS JOIN LATERAL (
                SELECT ctid AS place FROM postrider_deliveries
                WHERE slot = $1 AND id = i.id LIMIT 1
            ) AS d
        ))",
    ))
    .bind(slot)
    .bind(now)
    .bind(rows.iter().map(|row| row.id.0).bind_iter())
    .execute(connection)
    .await?;
    Ok(())
}

/// Records the loss as an attempt, and returns the keys whose first delivery has failed and holds
/// up no other.
async fn record_lost<'a>(
    connection: &mut PgConnection,
    slot: i16,
    now: Timestamp,
    rows: &'a [Expired],
    cache: &HookCache,
    schedules: &dyn Schedules,
) -> Result<Vec<(HookId, &'a str)>> {
    let steps: Vec<_> = rows
        .iter()
        .map(|row| row.next_step(cache, schedules))
        .collect();
    let next = |(row, step): (&Expired, &NextStep)| match step {
        NextStep::RetryIn(wait) => Some(now + *wait),
        NextStep::Failed(_) if row.holds_key(cache) => Some(never()),
        NextStep::Delivered | NextStep::Failed(_) => None,
    };
    let reason = |step: &NextStep| match step {
        NextStep::Failed(reason) => Some(reason.name()),
        NextStep::Delivered | NextStep::RetryIn(_) => None,
    };
    let outcome = Outcome::WorkerLost;
    sqlx::query(concat!(
        "-- postrider: recover_lost
        WITH input AS MATERIALIZED (
            SELECT i.*, found.place, found.is_along AND i.reason IS NULL AS is_along
            FROM unnest($3::uuid[], $4::date[], $5::uuid[], $6::uuid[], $7::uuid[],
                        $8::integer[], $9::timestamptz[], $10::text[])
                AS i (id, day, event_id, hook_id, attempt_id, number, next_attempt_at, reason)
            CROSS JOIN LATERAL (
                SELECT ctid AS place, coalesce(batch_id <> id, false) AS is_along
                FROM postrider_deliveries
                WHERE slot = $1 AND id = i.id LIMIT 1
            ) AS found
        ), waiting AS (
            UPDATE postrider_deliveries AS d
            SET lease_token = NULL, lease_expires_at = NULL, lost_leases = 0,
                attempts = i.number,
                next_attempt_at = CASE WHEN i.is_along THEN ",
        along!(),
        " ELSE i.next_attempt_at END,
                turn_at = CASE WHEN i.is_along THEN i.next_attempt_at END,
                batch_id = CASE WHEN i.reason IS NULL THEN d.batch_id END,
                holds_key = i.reason IS NOT NULL
            FROM input AS i
            WHERE d.slot = $1 AND d.ctid = i.place AND i.next_attempt_at IS NOT NULL
        ), gone AS (
            DELETE FROM postrider_deliveries AS d USING input AS i
            WHERE d.slot = $1 AND d.ctid = i.place AND i.next_attempt_at IS NULL
        ), ended AS (
            INSERT INTO postrider_ended
                (slot, day, delivery_id, event_id, hook_id, state, reason, attempts, ended_at)
            SELECT $1, day, id, event_id, hook_id, 'failed', reason, number, $2
            FROM input WHERE reason IS NOT NULL
            ON CONFLICT (slot, day, delivery_id) DO UPDATE
            SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts,
                ended_at = excluded.ended_at
        )
        INSERT INTO postrider_attempts
            (slot, day, delivery_id, id, event_id, hook_id, number, at, duration_ms, outcome,
             error, late)
        SELECT $1, day, id, attempt_id, event_id, hook_id, number, $2, 0, $11, $12, false
        FROM input",
    ))
    .bind(slot)
    .bind(now)
    .bind(rows.iter().map(|row| row.id.0).bind_iter())
    .bind(rows.iter().map(|row| row.day).bind_iter())
    .bind(rows.iter().map(|row| row.event).bind_iter())
    .bind(rows.iter().map(|row| row.hook.0).bind_iter())
    .bind(rows.iter().map(|_| AttemptId::draw(now).0).bind_iter())
    .bind(rows.iter().map(Expired::number).bind_iter())
    .bind(rows.iter().zip(&steps).map(next).bind_iter())
    .bind(steps.iter().map(reason).bind_iter())
    .bind(outcome.name())
    .bind(outcome.to_string())
    .execute(&mut *connection)
    .await?;
    if cache.is_any_account_watched() {
        let failed = failed(connection, slot, rows, &steps).await?;
        announce(connection, slot, &of_lost(cache, failed, now), now).await?;
    }
    let failed = rows
        .iter()
        .zip(&steps)
        .filter(|(row, step)| matches!(step, NextStep::Failed(_)) && !row.holds_key(cache));
    let freed = failed.filter_map(|(row, _)| Some((row.hook, row.ordering_key.as_deref()?)));
    Ok(freed.collect())
}

/// Those of the deliveries that have failed for good.
async fn failed(
    connection: &mut PgConnection,
    slot: i16,
    rows: &[Expired],
    steps: &[NextStep],
) -> Result<Vec<LostDelivery>> {
    let mut failed = Vec::new();
    for (row, step) in rows.iter().zip(steps) {
        if let NextStep::Failed(reason) = step {
            failed.push((row, *reason));
        }
    }
    let types: Vec<(Uuid, String)> = sqlx::query_as(
        "-- postrider: recover_types
        SELECT e.id, e.event_type
        FROM unnest($2::date[], $3::uuid[]) AS k (day, id) CROSS JOIN LATERAL (
            SELECT id, event_type FROM postrider_events
            WHERE slot = $1 AND day = k.day AND id = k.id LIMIT 1
        ) AS e",
    )
    .bind(slot)
    .bind(failed.iter().map(|(row, _)| row.day).bind_iter())
    .bind(failed.iter().map(|(row, _)| row.event).bind_iter())
    .fetch_all(connection)
    .await?;
    let types: HashMap<_, _> = types.into_iter().collect();
    let failed = failed.into_iter().filter_map(|(row, reason)| {
        Some(LostDelivery {
            id: row.id,
            event: EventId(row.event),
            event_type: types.get(&row.event)?.clone(),
            hook: row.hook,
            reason,
            attempts: row.number().unsigned_abs(),
        })
    });
    Ok(failed.collect())
}
