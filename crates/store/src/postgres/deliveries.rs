//! Deliveries as they are shown, wherever they stand by now.
//!
//! One that waits or runs has a row of its own; one that ended otherwise than delivered has a
//! row of history; one that was delivered is told by its last attempt and the lack of both.

use super::PostgresStore;
use super::batches::along;
use super::history::{Extent, before, reaches};
use crate::Result;
use crate::order::{BEHIND, never};
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
        let found = by_ids(&mut tx, &extent.slots, &extent.days, &[id.0]).await?;
        let mut reports = reports(&mut tx, found).await?;
        reports.pop().ok_or_else(|| not_found(id))
    }

    pub(super) async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryReport>> {
        let mut tx = self.snapshot().await?;
        let mut extent = Extent::read(&mut tx).await?;
        extent.begin_at(filter.since);
        let found = match filter.event {
            Some(event) => of_event(&mut tx, &extent, event, filter).await?,
            None => page(&mut tx, &extent, filter).await?,
        };
        reports(&mut tx, found).await
    }
}

pub(super) fn not_found(id: DeliveryId) -> Error {
    Error::NotFound {
        what: "delivery",
        id: id.to_string(),
    }
}

/// When a delivery is due, also one that goes along with another.
macro_rules! due {
    ($of:literal) => {
        concat!(
            "CASE WHEN ",
            $of,
            ".next_attempt_at = ",
            along!(),
            " THEN ",
            $of,
            ".turn_at
             ELSE ",
            $of,
            ".next_attempt_at END"
        )
    };
}

/// A delivery that was found.
pub(super) struct Found {
    pub slot: i16,
    pub day: NaiveDate,
    pub id: DeliveryId,
    pub event: Uuid,
    pub hook: Uuid,
    pub state: DeliveryState,
    pub attempts: i32,
    next_attempt_at: Option<Timestamp>,
    reason: Option<String>,
}

/// The deliveries of one event: one for each hook the account has or had, if it was made.
async fn of_event(
    connection: &mut PgConnection,
    extent: &Extent,
    event: EventId,
    filter: &DeliveryFilter,
) -> Result<Vec<Found>> {
    let place: Option<(i16, NaiveDate, Vec<Uuid>)> = sqlx::query_as(
        "-- postrider: deliveries_of_event
        SELECT e.slot, e.day, ARRAY(SELECT id FROM postrider_hooks WHERE account = e.account)
        FROM unnest($2::smallint[]) AS s (slot) CROSS JOIN unnest($3::date[]) AS d (day)
        CROSS JOIN LATERAL (
            SELECT slot, day, account FROM postrider_events
            WHERE slot = s.slot AND day = d.day AND id = $1
              AND ($4::text IS NULL OR account = $4)
            LIMIT 1
        ) AS e
        LIMIT 1",
    )
    .bind(event.0)
    .bind(&extent.slots)
    .bind(&extent.days)
    .bind(&filter.account)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((slot, day, hooks)) = place else {
        return Ok(Vec::new());
    };
    let ids = hooks
        .into_iter()
        .map(|hook| DeliveryId::of(event, HookId(hook)).0);
    let ids: Vec<_> = ids.collect();
    let mut found = by_ids(connection, &[slot], &[day], &ids).await?;
    let search = Search::of(filter);
    found.retain(|found| {
        found.id.0 < search.before
            && found.id.0 >= search.from
            && filter.hook.is_none_or(|hook| found.hook == hook.0)
            && filter.state.is_none_or(|state| found.state == state)
    });
    found.truncate(filter.limit as usize);
    Ok(found)
}

/// The deliveries with these ids, newest first, each as it stands now.
pub(super) async fn by_ids(
    connection: &mut PgConnection,
    slots: &[i16],
    days: &[NaiveDate],
    ids: &[Uuid],
) -> Result<Vec<Found>> {
    let mut found = sqlx::query(concat!(
        "-- postrider: deliveries_by_id
        SELECT l.slot, l.day, l.id, l.event_id, l.hook_id,
               CASE WHEN l.lease_token IS NOT NULL THEN 'in_flight'
                    WHEN h.status = 'active' AND h.deleted_at IS NULL THEN 'pending'
                    ELSE 'held' END AS state,
               l.attempts, ",
        due!("l"),
        " AS next_attempt_at, NULL::text AS reason, 1 AS rank
        FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($3::uuid[]) AS i (id)
        CROSS JOIN LATERAL (
            SELECT * FROM postrider_deliveries WHERE slot = s.slot AND id = i.id LIMIT 1
        ) AS l
        LEFT JOIN postrider_hooks AS h ON h.id = l.hook_id
        WHERE NOT l.holds_key
        UNION ALL
        SELECT e.slot, e.day, e.delivery_id, e.event_id, e.hook_id, e.state, e.attempts, NULL,
               e.reason, 2
        FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($2::date[]) AS d (day)
        CROSS JOIN unnest($3::uuid[]) AS i (id)
        CROSS JOIN LATERAL (
            SELECT * FROM postrider_ended
            WHERE slot = s.slot AND day = d.day AND delivery_id = i.id LIMIT 1
        ) AS e
        UNION ALL
        SELECT a.slot, a.day, a.delivery_id, a.event_id, a.hook_id, 'delivered', a.attempts,
               NULL, NULL, 3
        FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($2::date[]) AS d (day)
        CROSS JOIN unnest($3::uuid[]) AS i (id)
        CROSS JOIN LATERAL (
            SELECT slot, day, delivery_id, event_id, hook_id, max(number) AS attempts
            FROM postrider_attempts
            WHERE slot = s.slot AND day = d.day AND delivery_id = i.id AND NOT late
            GROUP BY slot, day, delivery_id, event_id, hook_id
            HAVING bool_or(outcome = 'accepted')
        ) AS a
        UNION ALL
        SELECT l.slot, l.day, m.id, m.event_id, m.hook_id, 'in_flight', 0, NULL, NULL, 1
        FROM postrider_leases AS l
        CROSS JOIN LATERAL unnest(l.deliveries, l.events, l.hooks) WITH ORDINALITY
            AS m (id, event_id, hook_id, nth)
        WHERE l.slot = ANY($1) AND m.id = ANY($3)
          AND get_bit(l.closed, m.nth::integer - 1) = 0
        ORDER BY id DESC, rank",
    ))
    .bind(slots)
    .bind(days)
    .bind(ids)
    .try_map(|row: PgRow| found_from(&row))
    .fetch_all(connection)
    .await?;
    // What stands first tells the present, what follows the past of the same delivery.
    found.dedup_by_key(|found| found.id);
    Ok(found)
}

/// A page of deliveries, newest first.
async fn page(
    connection: &mut PgConnection,
    extent: &Extent,
    filter: &DeliveryFilter,
) -> Result<Vec<Found>> {
    use DeliveryState::{Delivered, Held, InFlight, Pending};
    let search = Search::of(filter);
    let limit = filter.limit as usize;
    let mut found = Vec::new();
    if matches!(filter.state, None | Some(Pending | InFlight | Held)) {
        found = search.live(connection, &extent.slots).await?;
    }
    if matches!(filter.state, Some(Pending | InFlight | Held)) {
        return Ok(found);
    }
    for days in extent.stretches() {
        if filter.state != Some(Delivered) {
            found.extend(search.ended(connection, &extent.slots, days).await?);
        }
        if matches!(filter.state, None | Some(Delivered)) {
            found.extend(search.delivered(connection, &extent.slots, days).await?);
        }
        found.sort_by_key(|found| std::cmp::Reverse(found.id));
        found.truncate(limit);
        if found.len() == limit && found.last().is_some_and(|d| reaches(d.id.0, days)) {
            break;
        }
    }
    Ok(found)
}

/// What is looked for, and from where on.
struct Search {
    hook: Option<Uuid>,
    account: Option<String>,
    state: Option<DeliveryState>,
    before: Uuid,
    from: Uuid,
    limit: i64,
}

impl Search {
    fn of(filter: &DeliveryFilter) -> Self {
        Self {
            hook: filter.hook.map(|hook| hook.0),
            account: filter.account.clone(),
            state: filter.state,
            before: before(filter.before.map(|id| id.0), filter.until),
            from: filter
                .since
                .map_or(Uuid::nil(), |at| DeliveryId::first_since(at).0),
            limit: i64::from(filter.limit),
        }
    }

    async fn live(&self, connection: &mut PgConnection, slots: &[i16]) -> Result<Vec<Found>> {
        // Two halves, so that each has its partial index, and the open members of leases.
        let rows = sqlx::query(concat!(
            "-- postrider: deliveries_live
            SELECT d.slot, d.day, d.id, d.event_id, d.hook_id, d.state, d.attempts,
                   d.next_attempt_at, NULL::text AS reason
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN LATERAL (
                (SELECT w.slot, w.day, w.id, w.event_id, w.hook_id, w.attempts,
                        ",
            due!("w"),
            " AS next_attempt_at, h.state
                 FROM postrider_deliveries AS w CROSS JOIN LATERAL (
                     SELECT CASE WHEN EXISTS (
                         SELECT FROM postrider_hooks
                         WHERE id = w.hook_id AND status = 'active' AND deleted_at IS NULL
                     ) THEN 'pending' ELSE 'held' END AS state
                 ) AS h
                 WHERE w.slot = s.slot AND w.lease_token IS NULL AND NOT w.holds_key
                   AND w.id < $2 AND w.id >= $6
                   AND ($3::uuid IS NULL OR w.hook_id = $3)
                   AND ($7::text IS NULL
                        OR w.hook_id IN (SELECT id FROM postrider_hooks WHERE account = $7))
                   AND ($4::text IS NULL OR h.state = $4)
                 ORDER BY w.id DESC LIMIT $5)
                UNION ALL
                (SELECT r.slot, r.day, r.id, r.event_id, r.hook_id, r.attempts, r.next_attempt_at,
                        'in_flight'
                 FROM postrider_deliveries AS r
                 WHERE r.slot = s.slot AND r.lease_token IS NOT NULL AND r.id < $2 AND r.id >= $6
                   AND ($3::uuid IS NULL OR r.hook_id = $3)
                   AND ($7::text IS NULL
                        OR r.hook_id IN (SELECT id FROM postrider_hooks WHERE account = $7))
                   AND ($4::text IS NULL OR $4 = 'in_flight')
                 ORDER BY r.id DESC LIMIT $5)
                UNION ALL
                (SELECT l.slot, l.day, m.id, m.event_id, m.hook_id, 0, NULL, 'in_flight'
                 FROM postrider_leases AS l
                 CROSS JOIN LATERAL unnest(l.deliveries, l.events, l.hooks) WITH ORDINALITY
                     AS m (id, event_id, hook_id, nth)
                 WHERE l.slot = s.slot AND m.id < $2 AND m.id >= $6
                   AND ($3::uuid IS NULL OR m.hook_id = $3)
                   AND ($7::text IS NULL
                        OR m.hook_id IN (SELECT id FROM postrider_hooks WHERE account = $7))
                   AND ($4::text IS NULL OR $4 = 'in_flight')
                   AND get_bit(l.closed, m.nth::integer - 1) = 0
                 ORDER BY m.id DESC LIMIT $5)
            ) AS d
            ORDER BY d.id DESC LIMIT $5",
        ))
        .bind(slots)
        .bind(self.before)
        .bind(self.hook)
        .bind(self.state.map(DeliveryState::name))
        .bind(self.limit)
        .bind(self.from)
        .bind(&self.account)
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
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($6::date[]) AS d (day)
            CROSS JOIN LATERAL (
                SELECT * FROM postrider_ended
                WHERE slot = s.slot AND day = d.day AND delivery_id < $2 AND delivery_id >= $7
                  AND ($3::uuid IS NULL OR hook_id = $3)
                  AND ($8::text IS NULL
                       OR hook_id IN (SELECT id FROM postrider_hooks WHERE account = $8))
                  AND ($4::text IS NULL OR state = $4)
                ORDER BY delivery_id DESC LIMIT $5
            ) AS e
            ORDER BY e.delivery_id DESC LIMIT $5",
        )
        .bind(slots)
        .bind(self.before)
        .bind(self.hook)
        .bind(self.state.map(DeliveryState::name))
        .bind(self.limit)
        .bind(days)
        .bind(self.from)
        .bind(&self.account)
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
        // The lack of other rows is looked up one by one, and only for those on the page.
        let rows = sqlx::query(
            "-- postrider: deliveries_delivered
            SELECT a.slot, a.day, a.delivery_id AS id, a.event_id, a.hook_id,
                   'delivered' AS state,
                   (SELECT max(number) FROM postrider_attempts AS n
                    WHERE n.slot = a.slot AND n.day = a.day AND n.delivery_id = a.delivery_id
                      AND NOT n.late) AS attempts,
                   NULL::timestamptz AS next_attempt_at, NULL::text AS reason
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($5::date[]) AS d (day)
            CROSS JOIN LATERAL (
                SELECT DISTINCT ON (delivery_id) slot, day, delivery_id, event_id, hook_id
                FROM postrider_attempts AS t
                WHERE slot = s.slot AND day = d.day AND outcome = 'accepted' AND NOT late
                  AND delivery_id < $2 AND delivery_id >= $6
                  AND ($3::uuid IS NULL OR hook_id = $3)
                  AND ($7::text IS NULL
                       OR hook_id IN (SELECT id FROM postrider_hooks WHERE account = $7))
                  AND (SELECT l.id FROM postrider_deliveries AS l
                       WHERE l.slot = s.slot AND l.id = t.delivery_id) IS NULL
                  AND (SELECT e.delivery_id FROM postrider_ended AS e
                       WHERE e.slot = s.slot AND e.day = d.day
                         AND e.delivery_id = t.delivery_id) IS NULL
                ORDER BY delivery_id DESC LIMIT $4
            ) AS a
            ORDER BY a.delivery_id DESC LIMIT $4",
        )
        .bind(slots)
        .bind(self.before)
        .bind(self.hook)
        .bind(self.limit)
        .bind(days)
        .bind(self.from)
        .bind(&self.account)
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
    let is_behind = next_attempt_at.is_some_and(|at| at >= never());
    let reason = match is_behind {
        true => Some(BEHIND.to_owned()),
        false => row.try_get("reason")?,
    };
    Ok(Found {
        slot: row.try_get("slot")?,
        day: row.try_get("day")?,
        id: DeliveryId(row.try_get("id")?),
        event: row.try_get("event_id")?,
        hook: row.try_get("hook_id")?,
        state,
        attempts: row.try_get("attempts")?,
        next_attempt_at: next_attempt_at.filter(|_| state != DeliveryState::InFlight && !is_behind),
        reason,
    })
}

/// The deliveries with the accounts and types of their events.
pub(super) async fn reports(
    connection: &mut PgConnection,
    found: Vec<Found>,
) -> Result<Vec<DeliveryReport>> {
    let events: Vec<(Uuid, (String, String))> = sqlx::query(
        "-- postrider: event_types
        SELECT e.id, e.account, e.event_type
        FROM unnest($1::smallint[], $2::date[], $3::uuid[]) AS k (slot, day, id)
        CROSS JOIN LATERAL (
            SELECT id, account, event_type FROM postrider_events
            WHERE slot = k.slot AND day = k.day AND id = k.id LIMIT 1
        ) AS e",
    )
    .bind(found.iter().map(|found| found.slot).bind_iter())
    .bind(found.iter().map(|found| found.day).bind_iter())
    .bind(found.iter().map(|found| found.event).bind_iter())
    .try_map(|row: PgRow| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?))))
    .fetch_all(connection)
    .await?;
    let events: HashMap<_, _> = events.into_iter().collect();
    let reports = found.into_iter().map(|found| {
        let (account, event_type) = events.get(&found.event).cloned().unwrap_or_default();
        DeliveryReport {
            id: found.id,
            event_id: EventId(found.event),
            hook_id: HookId(found.hook),
            account,
            event_type,
            state: found.state,
            attempts: found.attempts.unsigned_abs(),
            next_attempt_at: found.next_attempt_at,
            reason: found.reason,
        }
    });
    Ok(reports.collect())
}
