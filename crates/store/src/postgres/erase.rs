//! The statements that erase the content of events.

use super::PostgresStore;
use super::batches::replace_leaders_of;
use super::connection::Connection;
use super::days::{AT_ONCE, HistoryExtent, Walk, slots_of};
use crate::count::count;
use crate::erase::{self, EraseStatements, Erasure, FannedOutEvent};
use crate::{Erased, Result};
use async_trait::async_trait;
use chrono::NaiveDate;
use postrider_core::{EventId, HookId, Reason, Timestamp};
use sqlx::postgres::{PgBindIterExt, PgRow};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use uuid::Uuid;

/// See [`Maintenance::erase`](crate::Maintenance::erase).
pub(super) async fn erase(
    store: &PostgresStore,
    events: &[EventId],
    now: Timestamp,
) -> Result<Erased> {
    let mut tx = store.calm.begin().await?;
    let by_day = fanned_out_on(&mut tx, events).await?;
    tx.rollback().await?;
    let found: HashSet<_> = by_day.values().flatten().copied().collect();
    let elsewhere: Vec<_> = events
        .iter()
        .copied()
        .filter(|id| !found.contains(id))
        .collect();
    // A transaction for a few days at a time: it keeps the locks of their partitions.
    let days: Vec<_> = by_day.into_values().collect();
    let parts = days.chunks(AT_ONCE).map(<[_]>::concat).chain([elsewhere]);
    let mut all = Erased::default();
    for part in parts.filter(|part| !part.is_empty()) {
        let mut tx = store.calm.begin().await?;
        let (erased, erasure) = erase::erase(&mut *tx, &part, now).await?;
        tx.commit().await?;
        all.add(erased);
        // A lease may have been released in between. From now on none is given.
        let mut connection = store.calm.acquire().await?;
        all.cancelled += count(connection.cancel(&erasure, now).await?);
    }
    all.in_flight.sort_unstable();
    Ok(all)
}

/// Those of the events that were fanned out, by day; in a transaction.
async fn fanned_out_on(
    connection: &mut Connection,
    ids: &[EventId],
) -> Result<BTreeMap<NaiveDate, Vec<EventId>>> {
    let extent = HistoryExtent::read(connection).await?;
    let mut walk = Walk::within(connection).await?;
    let mut left: BTreeSet<_> = ids.iter().map(|id| id.0).collect();
    let mut by_day: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for days in extent.stretches_for(ids.iter().map(|id| id.0)) {
        if left.is_empty() {
            break;
        }
        let slots = walk.enter(connection, &extent, &days).await?;
        let found: Vec<(NaiveDate, Uuid)> = sqlx::query_as(
            "-- postrider: erase_days
            SELECT day, id FROM postrider_events
            WHERE slot = ANY($1) AND day = ANY($2) AND id = ANY($3)",
        )
        .bind(slots)
        .bind(days)
        .bind(left.iter().copied().bind_iter())
        .fetch_all(&mut *connection)
        .await?;
        for (day, id) in found {
            left.remove(&id);
            by_day.entry(day).or_default().push(EventId(id));
        }
    }
    walk.end(connection).await?;
    Ok(by_day)
}

/// See [`Maintenance::erase_rejected`](crate::Maintenance::erase_rejected).
pub(super) async fn erase_rejected_of(
    store: &PostgresStore,
    account: &str,
    limit: u32,
) -> Result<u32> {
    let done = sqlx::query(
        "-- postrider: erase_rejected_of_account
        UPDATE postrider_rejected SET payload = NULL, headers = NULL
        WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM postrider_rejected
            WHERE account = $1 AND (payload IS NOT NULL OR headers IS NOT NULL)
            LIMIT $2
        ))",
    )
    .bind(account)
    .bind(i64::from(limit))
    .execute(&store.calm)
    .await?;
    Ok(count(done.rows_affected()))
}

#[async_trait]
impl EraseStatements for Connection {
    async fn lock_fanned_out(&mut self, ids: &[EventId]) -> Result<Vec<FannedOutEvent>> {
        let by_day = fanned_out_on(self, ids).await?;
        let days: Vec<_> = by_day.keys().copied().collect();
        let extent = HistoryExtent::read(self).await?;
        let slots = slots_of(self, &extent, &days).await?;
        let events = sqlx::query(
            "-- postrider: erase_find
            SELECT slot, day, id, account FROM postrider_events
            WHERE slot = ANY($1) AND day = ANY($2) AND id = ANY($3)
            ORDER BY slot, day, id FOR NO KEY UPDATE",
        )
        .bind(slots)
        .bind(days)
        .bind(ids.iter().map(|id| id.0).bind_iter())
        .try_map(|row: PgRow| FannedOutEvent::read(&row))
        .fetch_all(self)
        .await?;
        Ok(events)
    }

    async fn delete_queued(&mut self, ids: &[EventId]) -> Result<u64> {
        let done = sqlx::query(
            "-- postrider: erase_queued
            DELETE FROM postrider_outbox WHERE id = ANY($1)",
        )
        .bind(ids.iter().map(|id| id.0).bind_iter())
        .execute(self)
        .await?;
        Ok(done.rows_affected())
    }

    async fn erase_rejected(&mut self, ids: &[EventId]) -> Result<u64> {
        let done = sqlx::query(
            "-- postrider: erase_rejected
            UPDATE postrider_rejected SET payload = NULL, headers = NULL WHERE id = ANY($1)",
        )
        .bind(ids.iter().map(|id| id.0).bind_iter())
        .execute(self)
        .await?;
        Ok(done.rows_affected())
    }

    async fn hooks_of(&mut self, accounts: &BTreeSet<&str>) -> Result<Vec<(String, HookId)>> {
        let hooks: Vec<(String, Uuid)> = sqlx::query_as(
            "-- postrider: erase_hooks
            SELECT account, id FROM postrider_hooks WHERE account = ANY($1)",
        )
        .bind(accounts.iter().copied().bind_iter())
        .fetch_all(self)
        .await?;
        let hooks = hooks.into_iter().map(|(account, id)| (account, HookId(id)));
        Ok(hooks.collect())
    }

    async fn cancel(&mut self, of: &Erasure, now: Timestamp) -> Result<u64> {
        // Locked in the order in which a lease locks those of a batch.
        let done: Vec<(i16, Uuid)> = sqlx::query_as(
            "-- postrider: erase_cancel
            WITH doomed AS MATERIALIZED (
                SELECT slot, id FROM postrider_deliveries
                WHERE slot = ANY($1) AND id = ANY($2) AND lease_token IS NULL
                ORDER BY next_attempt_at FOR UPDATE
            ), gone AS (
                DELETE FROM postrider_deliveries AS d USING doomed
                WHERE d.slot = doomed.slot AND d.id = doomed.id
                RETURNING d.slot, d.day, d.id, d.event_id, d.hook_id, d.attempts
            )
            INSERT INTO postrider_ended
                (slot, day, delivery_id, event_id, hook_id, state, reason, attempts, ended_at)
            SELECT slot, day, id, event_id, hook_id, 'cancelled', $3, attempts, $4 FROM gone
            ON CONFLICT (slot, day, delivery_id) DO UPDATE
            SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts,
                ended_at = excluded.ended_at
            RETURNING slot, delivery_id",
        )
        .bind(of.slots())
        .bind(of.delivery_ids())
        .bind(Reason::Erased.name())
        .bind(now)
        .fetch_all(&mut *self)
        .await?;
        replace_leaders_of(self, &done).await?;
        Ok(done.len() as u64)
    }

    async fn in_flight(&mut self, of: &Erasure) -> Result<BTreeSet<EventId>> {
        let events: Vec<Uuid> = sqlx::query_scalar(
            "-- postrider: erase_in_flight
            SELECT event_id FROM postrider_deliveries
            WHERE slot = ANY($1) AND id = ANY($2) AND lease_token IS NOT NULL
            UNION
            SELECT m.event_id
            FROM postrider_leases AS l
            CROSS JOIN LATERAL unnest(l.events) WITH ORDINALITY AS m (event_id, nth)
            WHERE l.slot = ANY($1) AND m.event_id = ANY($3)
              AND get_bit(l.closed, m.nth::integer - 1) = 0",
        )
        .bind(of.slots())
        .bind(of.delivery_ids())
        .bind(of.event_ids())
        .fetch_all(self)
        .await?;
        Ok(events.into_iter().map(EventId).collect())
    }

    async fn erase_events(&mut self, of: &Erasure, now: Timestamp) -> Result<u64> {
        let done = sqlx::query(
            "-- postrider: erase
            UPDATE postrider_events SET payload = 'null', headers = NULL, erased_at = $4
            WHERE slot = ANY($1) AND day = ANY($2) AND id = ANY($3) AND erased_at IS NULL",
        )
        .bind(of.slots())
        .bind(of.days())
        .bind(of.event_ids())
        .bind(now)
        .execute(self)
        .await?;
        Ok(done.rows_affected())
    }

    async fn erase_responses(&mut self, of: &Erasure) -> Result<u64> {
        let done = sqlx::query(
            "-- postrider: erase_responses
            UPDATE postrider_attempts SET response = NULL
            WHERE slot = ANY($1) AND day = ANY($2) AND delivery_id = ANY($3)
              AND response IS NOT NULL",
        )
        .bind(of.slots())
        .bind(of.days())
        .bind(of.delivery_ids())
        .execute(self)
        .await?;
        Ok(done.rows_affected())
    }
}

impl Erasure {
    fn slots(&self) -> Vec<i16> {
        let slots: BTreeSet<_> = self.events.iter().map(|event| event.slot).collect();
        slots.into_iter().collect()
    }

    fn days(&self) -> Vec<NaiveDate> {
        let days: BTreeSet<_> = self.events.iter().map(|event| event.day).collect();
        days.into_iter().collect()
    }

    fn event_ids(&self) -> Vec<Uuid> {
        self.events.iter().map(|event| event.id.0).collect()
    }

    fn delivery_ids(&self) -> Vec<Uuid> {
        self.deliveries.iter().map(|(id, _)| id.0).collect()
    }
}
