//! Erases what events said: payloads, headers, and what receivers answered.
//!
//! One transaction for each call: nothing moves meanwhile. What is being attempted keeps its
//! event until the attempt has ended.

use super::SqliteStore;
use super::end_waiting::end_waiting;
use super::lease_group::Started;
use super::values::{micros, rows};
use crate::retention::count;
use crate::{Erased, Result};
use postrider_core::{DeliveryId, EventId, HookId, Reason, Timestamp};
use sqlx::SqliteConnection;
use std::collections::{BTreeSet, HashSet};
use uuid::Uuid;

/// See [`Maintenance::erase`](crate::Maintenance::erase).
pub(super) async fn erase(store: &SqliteStore, ids: &[EventId], now: Timestamp) -> Result<Erased> {
    let mut erased = Erased::default();
    let mut tx = store.writer.begin().await?;
    let started: HashSet<_> = Started::all(&mut tx)
        .await?
        .iter()
        .flat_map(|started| started.open_members().collect::<Vec<_>>())
        .map(|member| member.event)
        .collect();
    for id in ids.iter().collect::<BTreeSet<_>>() {
        let Some((day, account)) = find(&mut tx, *id).await? else {
            erase_elsewhere(&mut tx, *id, &mut erased).await?;
            continue;
        };
        let deliveries = deliveries(&mut tx, *id, &account).await?;
        let leased = cancel(&mut tx, &deliveries, now, &mut erased).await?;
        if leased || started.contains(id) {
            erased.in_flight.push(*id);
            continue;
        }
        erase_event(&mut tx, *id, day, &deliveries, now, &mut erased).await?;
    }
    tx.commit().await?;
    Ok(erased)
}

/// See [`Maintenance::erase_rejected`](crate::Maintenance::erase_rejected).
pub(super) async fn erase_rejected_of(
    store: &SqliteStore,
    account: &str,
    limit: u32,
) -> Result<u32> {
    let mut tx = store.writer.begin().await?;
    let done = sqlx::query(
        "-- postrider: erase_rejected_of_account
        UPDATE postrider_rejected SET payload = NULL, headers = NULL
        WHERE rowid IN (
            SELECT rowid FROM postrider_rejected
            WHERE account = ?1 AND (payload IS NOT NULL OR headers IS NOT NULL) LIMIT ?2)",
    )
    .bind(account)
    .bind(limit)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(count(done.rows_affected()))
}

/// The day and the account of an event that was fanned out.
async fn find(tx: &mut SqliteConnection, id: EventId) -> Result<Option<(i32, String)>> {
    sqlx::query_as(concat!(
        "-- postrider: erase_find\n",
        super::history::days!("postrider_events"),
        "SELECT e.day, e.account FROM days CROSS JOIN postrider_events AS e
        WHERE e.slot = 0 AND e.day = days.day AND e.id = ?1 LIMIT 1"
    ))
    .bind(id.0)
    .fetch_optional(tx)
    .await
    .map_err(Into::into)
}

/// An event that waits in the outbox goes; one that was rejected loses what it said.
async fn erase_elsewhere(
    tx: &mut SqliteConnection,
    id: EventId,
    erased: &mut Erased,
) -> Result<()> {
    let queued = sqlx::query(
        "-- postrider: erase_queued
        DELETE FROM postrider_outbox WHERE id = ?1",
    )
    .bind(id.to_string())
    .execute(&mut *tx)
    .await?;
    let rejected = sqlx::query(
        "-- postrider: erase_rejected
        UPDATE postrider_rejected SET payload = NULL, headers = NULL
        WHERE slot = 0 AND id = ?1",
    )
    .bind(id.0)
    .execute(tx)
    .await?;
    erased.queued += count(queued.rows_affected());
    erased.rejected += count(rejected.rows_affected());
    Ok(())
}

/// All deliveries that there can be of an event: one for each hook the account has or had.
async fn deliveries(tx: &mut SqliteConnection, event: EventId, account: &str) -> Result<Vec<Uuid>> {
    let hooks: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: erase_hooks
        SELECT id FROM postrider_hooks WHERE account = ?1",
    )
    .bind(account)
    .fetch_all(tx)
    .await?;
    let of = |hook| DeliveryId::of(event, HookId(hook)).0;
    Ok(hooks.into_iter().map(of).collect())
}

/// Cancels the deliveries that wait; returns whether others are leased.
async fn cancel(
    tx: &mut SqliteConnection,
    deliveries: &[Uuid],
    now: Timestamp,
    erased: &mut Erased,
) -> Result<bool> {
    let ids = deliveries.iter().copied();
    let cancelled = end_waiting(tx, ids, "cancelled", Reason::Erased, now).await?;
    erased.cancelled += count(cancelled);
    let leased = sqlx::query_scalar(
        "-- postrider: erase_in_flight
        SELECT EXISTS (SELECT 1 FROM postrider_deliveries
            WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1)))",
    )
    .bind(rows(deliveries.iter().map(|id| id.simple())))
    .fetch_one(tx)
    .await?;
    Ok(leased)
}

/// Takes away what the event said, and what receivers answered.
async fn erase_event(
    tx: &mut SqliteConnection,
    id: EventId,
    day: i32,
    deliveries: &[Uuid],
    now: Timestamp,
    erased: &mut Erased,
) -> Result<()> {
    let events = sqlx::query(
        "-- postrider: erase
        UPDATE postrider_events SET payload = 'null', headers = NULL, erased_at = ?3
        WHERE slot = 0 AND day = ?1 AND id = ?2 AND erased_at IS NULL",
    )
    .bind(day)
    .bind(id.0)
    .bind(micros(now))
    .execute(&mut *tx)
    .await?;
    let responses = sqlx::query(
        "-- postrider: erase_responses
        UPDATE postrider_attempts SET response = NULL
        WHERE slot = 0 AND day = ?1 AND response IS NOT NULL
            AND delivery_id IN (SELECT unhex(value) FROM json_each(?2))",
    )
    .bind(day)
    .bind(rows(deliveries.iter().map(|id| id.simple())))
    .execute(tx)
    .await?;
    erased.events += count(events.rows_affected());
    erased.responses += count(responses.rows_affected());
    Ok(())
}
