//! Deliveries whose lease ended without a settlement become due again.

use super::SqliteStore;
use super::attempt_rows::{AttemptRow, insert_attempts};
use super::lease_group;
use super::operational_events::announce;
use super::order::give_turns;
use super::settle_rows::{EndedRow, Rescheduled, delete_deliveries, insert_ended, reschedule};
use super::values::{day_number, micros, rows};
use crate::count::count;
use crate::lost_lease::{LostLease, LostStep, announcements, failed, freed_keys};
use crate::row_state::RowState;
use crate::{HookCache, RecoverResult, Result};
use postrider_core::{AttemptId, Outcome, Reason, Schedules, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

/// See [`Queue::recover`](crate::Queue::recover).
pub(super) async fn recover(
    store: &SqliteStore,
    slot: i16,
    now: Timestamp,
    limit: u32,
    schedules: &dyn Schedules,
) -> Result<RecoverResult> {
    // Checked without the right to write: nearly always there is nothing to do.
    if slot != 0 || !has_lost_leases(store, now).await? {
        return Ok(RecoverResult::default());
    }
    let mut tx = store.writer.begin().await?;
    let members = lease_group::recover(&mut tx, now, limit).await?;
    let mut expired = sqlx::query(
        "-- postrider: recover_find
        SELECT id, day, event_id, hook_id, attempts, earlier_attempts, lost_leases,
            ordering_key, batch_id
        FROM postrider_deliveries INDEXED BY postrider_deliveries_leased
        WHERE slot = 0 AND lease_token IS NOT NULL AND lease_expires_at <= ?1
            AND (batch_id IS NULL OR batch_id = id)
        ORDER BY lease_expires_at LIMIT ?2",
    )
    .bind(micros(now))
    .bind(limit - members)
    .try_map(|row: SqliteRow| LostLease::read(&row))
    .fetch_all(&mut *tx)
    .await?;
    add_batch_members(&mut tx, now, &mut expired).await?;
    let (lost, due): (Vec<_>, Vec<_>) = expired.into_iter().partition(LostLease::is_attempt);
    let waiting: Vec<_> = due
        .iter()
        .map(|lease| {
            rescheduled(
                lease,
                RowState::Waiting { at: now },
                lease.attempts,
                lease.lost_leases + 1,
            )
        })
        .collect();
    reschedule(&mut tx, &waiting).await?;
    let result = RecoverResult {
        recovered: members + count(due.len()),
        worker_lost: count(lost.len()),
    };
    if !lost.is_empty() {
        let cache = store.refresh_hooks(&mut tx).await?;
        let lost = lost.into_iter().map(|lease| {
            let step = lease.step(&cache, schedules, now);
            (lease, step)
        });
        record_lost(&mut tx, &lost.collect::<Vec<_>>(), &cache, now).await?;
    }
    tx.commit().await?;
    Ok(result)
}

async fn has_lost_leases(store: &SqliteStore, now: Timestamp) -> Result<bool> {
    let any = sqlx::query_scalar(
        "-- postrider: recover_any
        SELECT EXISTS (
            SELECT 1 FROM postrider_deliveries INDEXED BY postrider_deliveries_leased
            WHERE slot = 0 AND lease_token IS NOT NULL AND lease_expires_at <= ?1
        ) OR EXISTS (SELECT 1 FROM postrider_leases WHERE slot = 0 AND expires_at <= ?1)",
    )
    .bind(micros(now))
    .fetch_one(&store.readers)
    .await?;
    Ok(any)
}

/// Adds the other members of the batches: a batch is recovered as a whole.
async fn add_batch_members(
    tx: &mut SqliteConnection,
    now: Timestamp,
    expired: &mut Vec<LostLease>,
) -> Result<()> {
    let batches: Vec<_> = expired.iter().filter_map(|lease| lease.batch).collect();
    if batches.is_empty() {
        return Ok(());
    }
    let members = sqlx::query(
        "-- postrider: recover_batches
        SELECT id, day, event_id, hook_id, attempts, earlier_attempts, lost_leases,
            ordering_key, batch_id
        FROM postrider_deliveries INDEXED BY postrider_deliveries_batched
        WHERE slot = 0 AND batch_id IN (SELECT unhex(value) FROM json_each(?1))
            AND batch_id IS NOT NULL AND batch_id <> id
            AND lease_token IS NOT NULL AND lease_expires_at <= ?2",
    )
    .bind(rows(batches.iter().map(|batch| batch.simple())))
    .bind(micros(now))
    .try_map(|row: SqliteRow| LostLease::read(&row))
    .fetch_all(tx)
    .await?;
    expired.extend(members);
    Ok(())
}

/// Records the losses as attempts and makes the next steps.
async fn record_lost(
    tx: &mut SqliteConnection,
    lost: &[(LostLease, LostStep)],
    cache: &HookCache,
    now: Timestamp,
) -> Result<()> {
    let attempts = lost.iter().map(|(lease, _)| attempt(lease, now)).collect();
    insert_attempts(tx, attempts, false).await?;
    let gone = lost.iter().filter(|(_, step)| step.state.is_none());
    delete_deliveries(tx, gone.map(|(lease, _)| lease.id.0.simple())).await?;
    let ended: Vec<_> = failed(lost)
        .map(|(lease, reason)| ended(lease, reason))
        .collect();
    insert_ended(tx, &ended, now).await?;
    let waiting = lost
        .iter()
        .filter_map(|(lease, step)| Some(rescheduled(lease, step.state?, lease.number(), 0)));
    reschedule(tx, &waiting.collect::<Vec<_>>()).await?;
    give_turns(tx, freed_keys(lost), now).await?;
    if cache.is_any_account_watched() {
        let keys = failed(lost).map(|(lease, _)| (day_number(lease.day), lease.event.0.simple()));
        let types: Vec<(Uuid, String)> = sqlx::query_as(
            "-- postrider: recover_types
            WITH k (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
            SELECT e.id, e.event_type FROM k CROSS JOIN postrider_events AS e
            ON e.slot = 0 AND e.day = v ->> 0 AND e.id = unhex(v ->> 1)",
        )
        .bind(rows(keys))
        .fetch_all(&mut *tx)
        .await?;
        let events = announcements(lost, &types.into_iter().collect(), cache, now);
        announce(tx, &events, now).await?;
    }
    Ok(())
}

fn rescheduled(lease: &LostLease, state: RowState, attempts: u32, lost_leases: u32) -> Rescheduled {
    Rescheduled {
        id: lease.id,
        state,
        attempts,
        lost_leases,
    }
}

fn attempt(lease: &LostLease, now: Timestamp) -> AttemptRow<'static> {
    AttemptRow {
        day: day_number(lease.day),
        delivery_id: lease.id.0,
        id: AttemptId::draw(now).0,
        event_id: lease.event.0,
        hook_id: lease.hook.0,
        number: lease.number(),
        at: micros(now),
        duration_ms: 0,
        outcome: Outcome::WorkerLost.name(),
        status: None,
        error: Some(Outcome::WorkerLost.to_string()),
        response: &[],
    }
}

fn ended(lease: &LostLease, reason: Reason) -> EndedRow {
    EndedRow {
        day: day_number(lease.day),
        delivery_id: lease.id.0.simple(),
        event_id: lease.event.0.simple(),
        hook_id: lease.hook.0.simple(),
        state: "failed",
        reason: reason.name(),
        attempts: lease.number(),
    }
}
