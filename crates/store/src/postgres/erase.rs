//! Erases the content of events: payloads, headers and the responses of receivers.
//!
//! An erased event is never sent: deliveries that wait are cancelled, a lease leaves out erased
//! events, and an event with a delivery in flight stays until the attempt has ended.

use super::PostgresStore;
use super::batches::replace_leaders_of;
use super::days::{AT_ONCE, HistoryExtent, slots_of};
use crate::retention::count;
use crate::{Erased, Result};
use chrono::NaiveDate;
use postrider_core::{DeliveryId, EventId, HookId, Reason, Timestamp};
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// See [`Maintenance::erase`](crate::Maintenance::erase).
pub(super) async fn erase(
    store: &PostgresStore,
    events: &[EventId],
    now: Timestamp,
) -> Result<Erased> {
    let ids: Vec<_> = events.iter().map(|id| id.0).collect();
    let mut erased = Erased::default();
    let elsewhere = erase_fanned_out(store, &ids, now, &mut erased).await?;
    if !elsewhere.is_empty() {
        let mut tx = store.calm.begin().await?;
        erased.queued = take_out_of_the_outbox(&mut tx, &elsewhere).await?;
        erased.rejected = erase_rejected(&mut tx, &elsewhere).await?;
        tx.commit().await?;
        // An event may have left the outbox since the first query.
        erase_fanned_out(store, &elsewhere, now, &mut erased).await?;
    }
    Ok(erased)
}

/// Erases those of the events that were fanned out, and returns the others. A transaction for a few
/// days at a time: it keeps the locks of their partitions.
async fn erase_fanned_out(
    store: &PostgresStore,
    ids: &[Uuid],
    now: Timestamp,
    erased: &mut Erased,
) -> Result<Vec<Uuid>> {
    let by_day = fanned_out_on(store, ids).await?;
    let days: Vec<_> = by_day.keys().copied().collect();
    for days in days.chunks(AT_ONCE) {
        let (slots, ids): (Vec<_>, Vec<_>) =
            days.iter().flat_map(|day| &by_day[day]).copied().unzip();
        let mut tx = store.calm.begin().await?;
        let kept = HeldEvents::find(&mut tx, &slots, days, &ids).await?;
        let deliveries = kept.deliveries(&mut tx).await?;
        erased.cancelled += kept.cancel(&mut tx, &deliveries, now).await?;
        let in_flight = kept.in_flight(&mut tx, &deliveries).await?;
        let (kept, left) = kept.split(&in_flight);
        erased.in_flight.extend(left.into_iter().map(EventId));
        erased.events += kept.erase(&mut tx, now).await?;
        let deliveries: Vec<_> = deliveries
            .into_iter()
            .filter(|(_, event)| !in_flight.contains(event))
            .collect();
        erased.responses += kept.erase_responses(&mut tx, &deliveries).await?;
        tx.commit().await?;
        // A lease may have been released in between. From now on none is given.
        let mut connection = store.calm.acquire().await?;
        erased.cancelled += kept.cancel(&mut connection, &deliveries, now).await?;
    }
    erased.in_flight.sort_unstable();
    let found: HashSet<_> = by_day.into_values().flatten().map(|(_, id)| id).collect();
    let others = ids.iter().filter(|id| !found.contains(id));
    Ok(others.copied().collect())
}

/// The events that were fanned out, by day, with their slots. Each query is a transaction of its own, whose locks end
/// with it.
async fn fanned_out_on(
    store: &PostgresStore,
    ids: &[Uuid],
) -> Result<BTreeMap<NaiveDate, Vec<(i16, Uuid)>>> {
    let mut connection = store.calm.acquire().await?;
    let extent = HistoryExtent::read(&mut connection).await?;
    let mut left: HashSet<_> = ids.iter().copied().collect();
    let mut by_day: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for days in extent.stretches_for(ids.iter().copied()) {
        if left.is_empty() {
            break;
        }
        let slots = slots_of(&mut connection, &extent, &days).await?;
        let found: Vec<(NaiveDate, i16, Uuid)> = sqlx::query_as(
            "-- postrider: erase_days
            SELECT day, slot, id FROM postrider_events
            WHERE slot = ANY($1) AND day = ANY($2) AND id = ANY($3)",
        )
        .bind(slots)
        .bind(days)
        .bind(left.iter().copied().collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
        for (day, slot, id) in found {
            left.remove(&id);
            by_day.entry(day).or_default().push((slot, id));
        }
    }
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

/// Events that were fanned out, locked, so that none of their deliveries is sent again meanwhile.
struct HeldEvents {
    slots: Vec<i16>,
    days: Vec<NaiveDate>,
    /// The accounts of the events.
    events: HashMap<Uuid, String>,
}

impl HeldEvents {
    async fn find(
        connection: &mut PgConnection,
        slots: &[i16],
        days: &[NaiveDate],
        ids: &[Uuid],
    ) -> Result<Self> {
        let rows = sqlx::query(
            "-- postrider: erase_find
            SELECT slot, day, id, account FROM postrider_events
            WHERE slot = ANY($1) AND day = ANY($2) AND id = ANY($3)
            ORDER BY slot, day, id FOR NO KEY UPDATE",
        )
        .bind(slots)
        .bind(days)
        .bind(ids)
        .fetch_all(connection)
        .await?;
        let (mut slots, mut days) = (BTreeSet::new(), BTreeSet::new());
        let mut events = HashMap::with_capacity(rows.len());
        for row in rows {
            slots.insert(row.try_get(0)?);
            days.insert(row.try_get(1)?);
            events.insert(row.try_get(2)?, row.try_get(3)?);
        }
        Ok(Self {
            slots: slots.into_iter().collect(),
            days: days.into_iter().collect(),
            events,
        })
    }

    fn ids(&self) -> Vec<Uuid> {
        self.events.keys().copied().collect()
    }

    /// Splits off the given events.
    fn split(mut self, given: &BTreeSet<Uuid>) -> (Self, Vec<Uuid>) {
        let given = given.iter().filter(|id| self.events.contains_key(id));
        let given: Vec<_> = given.copied().collect();
        for id in &given {
            self.events.remove(id);
        }
        (self, given)
    }

    /// All possible deliveries of these events, each with its event: one for each hook that the
    /// account has or had.
    async fn deliveries(&self, connection: &mut PgConnection) -> Result<Vec<(Uuid, Uuid)>> {
        let accounts: BTreeSet<_> = self.events.values().collect();
        let hooks: Vec<(String, Uuid)> = sqlx::query_as(
            "-- postrider: erase_hooks
            SELECT account, id FROM postrider_hooks WHERE account = ANY($1)",
        )
        .bind(accounts.into_iter().collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
        let mut of: HashMap<&str, Vec<Uuid>> = HashMap::new();
        for (account, hook) in &hooks {
            of.entry(account).or_default().push(*hook);
        }
        let all = self.events.iter().flat_map(|(event, account)| {
            let hooks = of.get(account.as_str()).into_iter().flatten();
            hooks.map(|hook| (DeliveryId::of(EventId(*event), HookId(*hook)).0, *event))
        });
        Ok(all.collect())
    }

    /// Cancels the deliveries that wait.
    async fn cancel(
        &self,
        connection: &mut PgConnection,
        deliveries: &[(Uuid, Uuid)],
        now: Timestamp,
    ) -> Result<u32> {
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
        .bind(&self.slots)
        .bind(first(deliveries))
        .bind(Reason::Erased.name())
        .bind(now)
        .fetch_all(&mut *connection)
        .await?;
        replace_leaders_of(connection, &done).await?;
        Ok(count(done.len() as u64))
    }

    /// The events that have deliveries in flight.
    async fn in_flight(
        &self,
        connection: &mut PgConnection,
        deliveries: &[(Uuid, Uuid)],
    ) -> Result<BTreeSet<Uuid>> {
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
        .bind(&self.slots)
        .bind(first(deliveries))
        .bind(self.ids())
        .fetch_all(connection)
        .await?;
        Ok(events.into_iter().collect())
    }

    async fn erase(&self, connection: &mut PgConnection, now: Timestamp) -> Result<u32> {
        let done = sqlx::query(
            "-- postrider: erase
            UPDATE postrider_events SET payload = 'null', headers = NULL, erased_at = $4
            WHERE slot = ANY($1) AND day = ANY($2) AND id = ANY($3) AND erased_at IS NULL",
        )
        .bind(&self.slots)
        .bind(&self.days)
        .bind(self.ids())
        .bind(now)
        .execute(connection)
        .await?;
        Ok(count(done.rows_affected()))
    }

    /// Deletes the responses of receivers.
    async fn erase_responses(
        &self,
        connection: &mut PgConnection,
        deliveries: &[(Uuid, Uuid)],
    ) -> Result<u32> {
        let done = sqlx::query(
            "-- postrider: erase_responses
            UPDATE postrider_attempts SET response = NULL
            WHERE slot = ANY($1) AND day = ANY($2) AND delivery_id = ANY($3)
              AND response IS NOT NULL",
        )
        .bind(&self.slots)
        .bind(&self.days)
        .bind(first(deliveries))
        .execute(connection)
        .await?;
        Ok(count(done.rows_affected()))
    }
}

async fn take_out_of_the_outbox(connection: &mut PgConnection, ids: &[Uuid]) -> Result<u32> {
    let done = sqlx::query(
        "-- postrider: erase_queued
        DELETE FROM postrider_outbox WHERE id = ANY($1)",
    )
    .bind(ids)
    .execute(connection)
    .await?;
    Ok(count(done.rows_affected()))
}

async fn erase_rejected(connection: &mut PgConnection, ids: &[Uuid]) -> Result<u32> {
    let done = sqlx::query(
        "-- postrider: erase_rejected
        UPDATE postrider_rejected SET payload = NULL, headers = NULL WHERE id = ANY($1)",
    )
    .bind(ids)
    .execute(connection)
    .await?;
    Ok(count(done.rows_affected()))
}

fn first(pairs: &[(Uuid, Uuid)]) -> Vec<Uuid> {
    pairs.iter().map(|(first, _)| *first).collect()
}
