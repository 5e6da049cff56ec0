//! Deliveries as they are shown, wherever they stand by now, and sent again.
//!
//! One that waits or runs has a row of its own; one that ended otherwise than delivered has a
//! row of history; one that was delivered is told by its last attempt and the lack of both.

use super::PostgresStore;
use super::errors::Result;
use super::history::{Extent, reaches};
use crate::{DeliveryFilter, DeliveryReport, DeliveryState, Error};
use chrono::NaiveDate;
use postrider_core::{DeliveryId, EventId, HookId, Timestamp};
use sqlx::postgres::{PgBindIterExt, PgRow};
use sqlx::{PgConnection, Row};
use std::collections::HashMap;
use uuid::Uuid;

impl PostgresStore {
    pub(super) async fn delivery(&self, id: DeliveryId) -> Result<DeliveryReport> {
        let mut tx = self.snapshot().await?;
        let extent = Extent::read(&mut tx).await?;
        let mut found = Search::only(id).page(&mut tx, &extent).await?;
        Ok(found.pop().ok_or_else(|| not_found(id))?)
    }

    pub(super) async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryReport>> {
        let mut tx = self.snapshot().await?;
        let mut extent = Extent::read(&mut tx).await?;
        let mut search = Search {
            hook: filter.hook.map(|hook| hook.0),
            ids: None,
            state: filter.state,
            before: filter.before.map_or(Uuid::max(), |id| id.0),
            limit: filter.limit,
        };
        if let Some(event) = filter.event {
            let Some(of_event) = OfEvent::find(&mut tx, &extent, event).await? else {
                return Ok(Vec::new());
            };
            extent.slots = vec![of_event.slot];
            extent.days = vec![of_event.day];
            search.ids = Some(of_event.deliveries);
        }
        search.page(&mut tx, &extent).await
    }

    pub(super) async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        let mut tx = self.calm.begin().await?;
        let extent = Extent::read(&mut tx).await?;
        if !hasten(&mut tx, &extent, id, now).await? {
            let past = Search::only(id)
                .ended_or_delivered(&mut tx, &extent)
                .await?;
            let past = past.into_iter().next().ok_or_else(|| not_found(id))?;
            revive(&mut tx, &past, now).await?;
        }
        let mut found = Search::only(id).page(&mut tx, &extent).await?;
        tx.commit().await?;
        Ok(found.pop().ok_or_else(|| not_found(id))?)
    }
}

fn not_found(id: DeliveryId) -> Error {
    Error::NotFound {
        what: "delivery",
        id: id.to_string(),
    }
}

/// Where the deliveries of one event can be.
struct OfEvent {
    slot: i16,
    day: NaiveDate,
    /// One for each hook the account has or had.
    deliveries: Vec<Uuid>,
}

impl OfEvent {
    async fn find(
        connection: &mut PgConnection,
        extent: &Extent,
        event: EventId,
    ) -> Result<Option<Self>> {
        let row: Option<(i16, NaiveDate, Vec<Uuid>)> = sqlx::query_as(
            "-- postrider: deliveries_of_event
            SELECT e.slot, e.day,
                   ARRAY(SELECT id FROM postrider_hooks WHERE account = e.account)
            FROM unnest($2::smallint[]) AS s (slot) CROSS JOIN unnest($3::date[]) AS d (day)
            CROSS JOIN LATERAL (
                SELECT * FROM postrider_events
                WHERE slot = s.slot AND day = d.day AND id = $1
            ) AS e
            LIMIT 1",
        )
        .bind(event.0)
        .bind(&extent.slots)
        .bind(&extent.days)
        .fetch_optional(connection)
        .await?;
        Ok(row.map(|(slot, day, hooks)| Self {
            slot,
            day,
            deliveries: hooks
                .into_iter()
                .map(|hook| DeliveryId::of(event, HookId(hook)).0)
                .collect(),
        }))
    }
}

/// What is looked for.
struct Search {
    hook: Option<Uuid>,
    ids: Option<Vec<Uuid>>,
    state: Option<DeliveryState>,
    before: Uuid,
    limit: u32,
}

/// A delivery that was found.
struct Found {
    slot: i16,
    day: NaiveDate,
    id: DeliveryId,
    event: Uuid,
    hook: Uuid,
    state: DeliveryState,
    attempts: i32,
    next_attempt_at: Option<Timestamp>,
    reason: Option<String>,
}

impl Search {
    fn only(id: DeliveryId) -> Self {
        Self {
            hook: None,
            ids: Some(vec![id.0]),
            state: None,
            before: Uuid::max(),
            limit: 1,
        }
    }

    async fn page(
        &self,
        connection: &mut PgConnection,
        extent: &Extent,
    ) -> Result<Vec<DeliveryReport>> {
        use DeliveryState::{Held, InFlight, Pending};
        let limit = self.limit as usize;
        let mut found = Vec::new();
        if matches!(self.state, None | Some(Pending | InFlight | Held)) {
            found = self.live(connection, extent).await?;
        }
        if !matches!(self.state, Some(Pending | InFlight | Held)) {
            for days in extent.stretches() {
                found.extend(self.past(connection, &extent.slots, days).await?);
                found.sort_by_key(|found| std::cmp::Reverse(found.id));
                found.truncate(limit);
                if found.len() == limit && found.last().is_some_and(|d| reaches(d.id.0, days)) {
                    break;
                }
            }
        }
        reports(connection, found).await
    }

    async fn ended_or_delivered(
        &self,
        connection: &mut PgConnection,
        extent: &Extent,
    ) -> Result<Vec<Found>> {
        self.past(connection, &extent.slots, &extent.days).await
    }

    async fn past(
        &self,
        connection: &mut PgConnection,
        slots: &[i16],
        days: &[NaiveDate],
    ) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        if self.state != Some(DeliveryState::Delivered) {
            found = self.ended(connection, slots, days).await?;
        }
        if matches!(self.state, None | Some(DeliveryState::Delivered)) {
            found.extend(self.delivered(connection, slots, days).await?);
        }
        Ok(found)
    }

    async fn live(&self, connection: &mut PgConnection, extent: &Extent) -> Result<Vec<Found>> {
        // Two halves, so that each has its partial index.
        let rows = sqlx::query(
            "-- postrider: deliveries_live
            SELECT d.slot, d.day, d.id, d.event_id, d.hook_id, d.state, d.attempts,
                   d.next_attempt_at, NULL::text AS reason
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN LATERAL (
                (SELECT w.*, h.state
                 FROM postrider_deliveries AS w CROSS JOIN LATERAL (
                     SELECT CASE WHEN EXISTS (
                         SELECT FROM postrider_hooks
                         WHERE id = w.hook_id AND status = 'active' AND deleted_at IS NULL
                     ) THEN 'pending' ELSE 'held' END AS state
                 ) AS h
                 WHERE w.slot = s.slot AND w.lease_token IS NULL AND w.id < $2
                   AND ($3::uuid IS NULL OR w.hook_id = $3)
                   AND ($4::uuid[] IS NULL OR w.id = ANY($4))
                   AND ($5::text IS NULL OR h.state = $5)
                 ORDER BY w.id DESC LIMIT $6)
                UNION ALL
                (SELECT r.*, 'in_flight'
                 FROM postrider_deliveries AS r
                 WHERE r.slot = s.slot AND r.lease_token IS NOT NULL AND r.id < $2
                   AND ($3::uuid IS NULL OR r.hook_id = $3)
                   AND ($4::uuid[] IS NULL OR r.id = ANY($4))
                   AND ($5::text IS NULL OR $5 = 'in_flight')
                 ORDER BY r.id DESC LIMIT $6)
            ) AS d
            ORDER BY d.id DESC LIMIT $6",
        )
        .bind(&extent.slots)
        .bind(self.before)
        .bind(self.hook)
        .bind(&self.ids)
        .bind(self.state.map(DeliveryState::name))
        .bind(i64::from(self.limit))
        .try_map(|row: PgRow| found_from(&row))
        .fetch_all(connection)
        .await?;
        Ok(rows)
    }

    async fn ended(
        &self,
        connection: &mut PgConnection,
        slots: &[i16],
        days: &[NaiveDate],
    ) -> Result<Vec<Found>> {
        let rows = sqlx::query(
            "-- postrider: deliveries_ended
            SELECT e.slot, e.day, e.delivery_id AS id, e.event_id, e.hook_id, e.state,
                   e.attempts, NULL::timestamptz AS next_attempt_at, e.reason
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($7::date[]) AS d (day)
            CROSS JOIN LATERAL (
                SELECT * FROM postrider_ended
                WHERE slot = s.slot AND day = d.day AND delivery_id < $2
                  AND ($3::uuid IS NULL OR hook_id = $3)
                  AND ($4::uuid[] IS NULL OR delivery_id = ANY($4))
                  AND ($5::text IS NULL OR state = $5)
                ORDER BY delivery_id DESC LIMIT $6
            ) AS e
            ORDER BY e.delivery_id DESC LIMIT $6",
        )
        .bind(slots)
        .bind(self.before)
        .bind(self.hook)
        .bind(&self.ids)
        .bind(self.state.map(DeliveryState::name))
        .bind(i64::from(self.limit))
        .bind(days)
        .try_map(|row: PgRow| found_from(&row))
        .fetch_all(connection)
        .await?;
        Ok(rows)
    }

    async fn delivered(
        &self,
        connection: &mut PgConnection,
        slots: &[i16],
        days: &[NaiveDate],
    ) -> Result<Vec<Found>> {
        let rows = sqlx::query(
            "-- postrider: deliveries_delivered
            SELECT a.slot, a.day, a.delivery_id AS id, a.event_id, a.hook_id,
                   'delivered' AS state,
                   (SELECT max(number) FROM postrider_attempts AS n
                    WHERE n.slot = a.slot AND n.day = a.day AND n.delivery_id = a.delivery_id
                      AND NOT n.late) AS attempts,
                   NULL::timestamptz AS next_attempt_at, NULL::text AS reason
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($6::date[]) AS d (day)
            CROSS JOIN LATERAL (
                SELECT DISTINCT ON (delivery_id) slot, day, delivery_id, event_id, hook_id
                FROM postrider_attempts AS t
                WHERE slot = s.slot AND day = d.day AND outcome = 'accepted' AND NOT late
                  AND delivery_id < $2
                  AND ($3::uuid IS NULL OR hook_id = $3)
                  AND ($4::uuid[] IS NULL OR delivery_id = ANY($4))
                  AND NOT EXISTS (SELECT FROM postrider_deliveries AS l
                                  WHERE l.slot = s.slot AND l.id = t.delivery_id)
                  AND NOT EXISTS (SELECT FROM postrider_ended AS e
                                  WHERE e.slot = s.slot AND e.day = d.day
                                    AND e.delivery_id = t.delivery_id)
                ORDER BY delivery_id DESC LIMIT $5
            ) AS a
            ORDER BY a.delivery_id DESC LIMIT $5",
        )
        .bind(slots)
        .bind(self.before)
        .bind(self.hook)
        .bind(&self.ids)
        .bind(i64::from(self.limit))
        .bind(days)
        .try_map(|row: PgRow| found_from(&row))
        .fetch_all(connection)
        .await?;
        Ok(rows)
    }
}

fn found_from(row: &PgRow) -> std::result::Result<Found, sqlx::Error> {
    let state: &str = row.try_get("state")?;
    let state = DeliveryState::from_name(state)
        .ok_or_else(|| sqlx::Error::Decode(format!("the state {state} is unknown").into()))?;
    let next_attempt_at: Option<Timestamp> = row.try_get("next_attempt_at")?;
    Ok(Found {
        slot: row.try_get("slot")?,
        day: row.try_get("day")?,
        id: DeliveryId(row.try_get("id")?),
        event: row.try_get("event_id")?,
        hook: row.try_get("hook_id")?,
        state,
        attempts: row.try_get("attempts")?,
        next_attempt_at: next_attempt_at.filter(|_| state != DeliveryState::InFlight),
        reason: row.try_get("reason")?,
    })
}

/// The deliveries with the types of their events.
async fn reports(connection: &mut PgConnection, found: Vec<Found>) -> Result<Vec<DeliveryReport>> {
    let types: Vec<(Uuid, String)> = sqlx::query_as(
        "-- postrider: event_types
        SELECT e.id, e.event_type
        FROM unnest($1::smallint[], $2::date[], $3::uuid[]) AS k (slot, day, id)
        CROSS JOIN LATERAL (
            SELECT id, event_type FROM postrider_events
            WHERE slot = k.slot AND day = k.day AND id = k.id
        ) AS e",
    )
    .bind(found.iter().map(|found| found.slot).bind_iter())
    .bind(found.iter().map(|found| found.day).bind_iter())
    .bind(found.iter().map(|found| found.event).bind_iter())
    .fetch_all(connection)
    .await?;
    let types: HashMap<_, _> = types.into_iter().collect();
    let reports = found.into_iter().map(|found| DeliveryReport {
        id: found.id,
        event_id: EventId(found.event),
        hook_id: HookId(found.hook),
        event_type: types.get(&found.event).cloned().unwrap_or_default(),
        state: found.state,
        attempts: found.attempts.unsigned_abs(),
        next_attempt_at: found.next_attempt_at,
        reason: found.reason,
    });
    Ok(reports.collect())
}

/// Makes a delivery that waits due now, its schedule begun anew; `false` when none waits.
async fn hasten(
    connection: &mut PgConnection,
    extent: &Extent,
    id: DeliveryId,
    now: Timestamp,
) -> Result<bool> {
    let row: Option<(i16, Uuid, Option<Timestamp>)> = sqlx::query_as(
        "-- postrider: redeliver_read
        SELECT slot, hook_id, lease_expires_at FROM postrider_deliveries
        WHERE slot = ANY($1) AND id = $2 FOR UPDATE",
    )
    .bind(&extent.slots)
    .bind(id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((slot, hook, lease_expires_at)) = row else {
        return Ok(false);
    };
    if lease_expires_at.is_some_and(|end| end > now) {
        return Err(Error::Conflict(format!(
            "delivery {id} is in flight: send it again when its attempt has ended"
        ))
        .into());
    }
    require_hook(connection, id, hook).await?;
    sqlx::query(
        "-- postrider: redeliver_waiting
        UPDATE postrider_deliveries
        SET next_attempt_at = $3, earlier_attempts = attempts, lost_leases = 0,
            lease_token = NULL, lease_expires_at = NULL
        WHERE slot = $1 AND id = $2",
    )
    .bind(slot)
    .bind(id.0)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(true)
}

/// Makes a delivery that has ended wait again.
async fn revive(connection: &mut PgConnection, past: &Found, now: Timestamp) -> Result<()> {
    require_hook(connection, past.id, past.hook).await?;
    let event = sqlx::query(
        "-- postrider: redeliver_event
        SELECT FROM postrider_events WHERE slot = $1 AND day = $2 AND id = $3",
    )
    .bind(past.slot)
    .bind(past.day)
    .bind(past.event)
    .fetch_optional(&mut *connection)
    .await?;
    if event.is_none() {
        return Err(Error::Conflict(format!(
            "the event of delivery {} is past its retention: there is nothing left to send",
            past.id
        ))
        .into());
    }
    // Someone else may have sent it again meanwhile: then it is due already.
    sqlx::query(
        "-- postrider: redeliver_ended
        WITH forgotten AS (
            DELETE FROM postrider_ended WHERE slot = $1 AND day = $2 AND delivery_id = $3
        )
        INSERT INTO postrider_deliveries
            (slot, day, id, event_id, hook_id, event_seq, ordering_key, attempts,
             earlier_attempts, next_attempt_at)
        SELECT slot, day, $3, id, $5, seq, ordering_key, $6, $6, $7
        FROM postrider_events WHERE slot = $1 AND day = $2 AND id = $4
        ON CONFLICT (slot, id) DO NOTHING",
    )
    .bind(past.slot)
    .bind(past.day)
    .bind(past.id.0)
    .bind(past.event)
    .bind(past.hook)
    .bind(past.attempts)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

async fn require_hook(connection: &mut PgConnection, id: DeliveryId, hook: Uuid) -> Result<()> {
    let there: bool = sqlx::query_scalar(
        "-- postrider: redeliver_hook
        SELECT EXISTS (SELECT FROM postrider_hooks WHERE id = $1 AND deleted_at IS NULL)",
    )
    .bind(hook)
    .fetch_one(connection)
    .await?;
    match there {
        true => Ok(()),
        false => Err(Error::Conflict(format!(
            "the hook of delivery {id} was deleted: there is nowhere to send it"
        ))
        .into()),
    }
}
