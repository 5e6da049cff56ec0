//! Deliveries whose lease ended without a settlement become due again.

use super::PostgresStore;
use super::connection::Connection;
use super::days::literal;
use super::lease_group;
use super::operational_events::announce;
use super::order::give_turns;
use super::row_state::{waits_until, with_leader};
use crate::count::count;
use crate::lost_lease::{LostLease, LostStep, announcements, failed, freed_keys};
use crate::{HookCache, RecoverResult, Result};
use chrono::NaiveDate;
use postrider_core::{AttemptId, Outcome, Reason, Schedules, Timestamp};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgBindIterExt, PgRow};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// See [`Queue::recover`](crate::Queue::recover).
pub(super) async fn recover(
    store: &PostgresStore,
    slot: i16,
    now: Timestamp,
    limit: u32,
    schedules: &dyn Schedules,
) -> Result<RecoverResult> {
    let mut tx = store.hot.begin().await?;
    let members = lease_group::recover(&mut tx, slot, now, limit).await?;
    let mut expired = sqlx::query(
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
    .try_map(|row: PgRow| LostLease::read(&row))
    .fetch_all(&mut *tx)
    .await?;
    add_batch_members(&mut tx, slot, now, &mut expired).await?;
    let (lost, due): (Vec<_>, Vec<_>) = expired.into_iter().partition(LostLease::is_attempt);
    let result = RecoverResult {
        recovered: members + count(due.len()),
        worker_lost: count(lost.len()),
    };
    if !due.is_empty() {
        make_due(&mut tx, slot, now, &due).await?;
    }
    if !lost.is_empty() {
        let cache = store.refresh_hooks(&mut tx).await?;
        let lost = lost.into_iter().map(|lease| {
            let step = lease.step(&cache, schedules, now);
            (lease, step)
        });
        record_lost(&mut tx, slot, now, &lost.collect::<Vec<_>>(), &cache).await?;
    }
    tx.commit().await?;
    Ok(result)
}

/// Adds the other members of the batches: a batch is recovered as a whole.
async fn add_batch_members(
    connection: &mut Connection,
    slot: i16,
    now: Timestamp,
    expired: &mut Vec<LostLease>,
) -> Result<()> {
    let batches: Vec<_> = expired.iter().filter_map(|lease| lease.batch).collect();
    if batches.is_empty() {
        return Ok(());
    }
    let members = sqlx::query(
        "-- postrider: recover_batches
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
    .try_map(|row: PgRow| LostLease::read(&row))
    .fetch_all(connection)
    .await?;
    expired.extend(members);
    Ok(())
}

async fn make_due(
    connection: &mut Connection,
    slot: i16,
    now: Timestamp,
    due: &[LostLease],
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
    .bind(due.iter().map(|lease| lease.id.0).bind_iter())
    .execute(connection)
    .await?;
    Ok(())
}

/// Records the losses as attempts and makes the next steps.
async fn record_lost(
    connection: &mut Connection,
    slot: i16,
    now: Timestamp,
    lost: &[(LostLease, LostStep)],
    cache: &HookCache,
) -> Result<()> {
    let leases = || lost.iter().map(|(lease, _)| lease);
    let steps = || lost.iter().map(|(_, step)| step);
    let next_attempt_at = |(lease, step): &(LostLease, LostStep)| {
        let state = step.state?;
        Some(state.columns(lease.id).next_attempt_at)
    };
    let number = |lease: &LostLease| i32::try_from(lease.number()).unwrap_or(i32::MAX);
    let outcome = Outcome::WorkerLost;
    sqlx::query(concat!(
        "-- postrider: recover_lost
        WITH input AS MATERIALIZED (
            SELECT i.*, found.place, found.is_member AND i.reason IS NULL AS is_member
            FROM unnest($3::uuid[], $4::date[], $5::uuid[], $6::uuid[], $7::uuid[],
                        $8::integer[], $9::timestamptz[], $10::text[])
                AS i (id, day, event_id, hook_id, attempt_id, number, next_attempt_at, reason)
            CROSS JOIN LATERAL (
                SELECT ctid AS place, coalesce(batch_id <> id, false) AS is_member
                FROM postrider_deliveries
                WHERE slot = $1 AND id = i.id LIMIT 1
            ) AS found
        ), waiting AS (
            UPDATE postrider_deliveries AS d
            SET lease_token = NULL, lease_expires_at = NULL, lost_leases = 0,
                attempts = i.number,
                next_attempt_at = CASE WHEN i.is_member THEN ",
        with_leader!(),
        " ELSE i.next_attempt_at END,
                turn_at = CASE WHEN i.is_member THEN i.next_attempt_at END,
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
    .bind(slot) // $1 slot
    .bind(now) // $2 now
    .bind(leases().map(|lease| lease.id.0).bind_iter()) // $3 id
    .bind(leases().map(|lease| lease.day).bind_iter()) // $4 day
    .bind(leases().map(|lease| lease.event.0).bind_iter()) // $5 event_id
    .bind(leases().map(|lease| lease.hook.0).bind_iter()) // $6 hook_id
    .bind(leases().map(|_| AttemptId::draw(now).0).bind_iter()) // $7 attempt_id
    .bind(leases().map(number).bind_iter()) // $8 number
    .bind(lost.iter().map(next_attempt_at).bind_iter()) // $9 next_attempt_at
    .bind(
        steps()
            .map(|step| step.failed.map(Reason::name))
            .bind_iter(),
    ) // $10 reason
    .bind(outcome.name()) // $11 outcome
    .bind(outcome.to_string()) // $12 error
    .execute(&mut *connection)
    .await?;
    give_turns(connection, slot, freed_keys(lost), now).await?;
    if cache.is_any_account_watched() {
        let types = types_of_failed(connection, slot, lost).await?;
        let events = announcements(lost, &types, cache, now);
        announce(connection, slot, &events, now).await?;
    }
    Ok(())
}

/// The types of the events whose deliveries have failed for good, as far as the events still exist.
async fn types_of_failed(
    connection: &mut Connection,
    slot: i16,
    lost: &[(LostLease, LostStep)],
) -> Result<HashMap<Uuid, String>> {
    let mut by_day: BTreeMap<NaiveDate, Vec<Uuid>> = BTreeMap::new();
    for (lease, _) in failed(lost) {
        by_day.entry(lease.day).or_default().push(lease.event.0);
    }
    let mut types = HashMap::new();
    for (day, events) in by_day {
        // Each day has a statement of its own, so that its plan knows no other partition.
        let of_day: Vec<(Uuid, String)> = sqlx::query_as(AssertSqlSafe(format!(
            "-- postrider: recover_types
            SELECT e.id, e.event_type
            FROM unnest($2::uuid[]) AS i (id) CROSS JOIN LATERAL (
                SELECT id, event_type FROM postrider_events
                WHERE slot = $1 AND day = {} AND id = i.id LIMIT 1
            ) AS e",
            literal(day)
        )))
        .bind(slot)
        .bind(events)
        .fetch_all(&mut *connection)
        .await?;
        types.extend(of_day);
    }
    Ok(types)
}
