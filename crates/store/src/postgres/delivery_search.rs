//! Listings of deliveries, newest first.

use super::connection::Connection;
use super::days::{HistoryExtent, Walk, reaches};
use super::deliveries::by_ids;
use crate::history_rows::{DeliveryRow, id_bound, ids_of_event, lowest_id, waiting_state};
use crate::{DeliveryFilter, DeliveryState, Result};
use chrono::NaiveDate;
use postrider_core::{DeliveryId, EventId, HookId};
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// The newest deliveries that the filter selects.
pub(super) async fn search(
    connection: &mut Connection,
    extent: &HistoryExtent,
    walk: &mut Walk,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRow>> {
    match filter.event {
        Some(event) => of_event(connection, extent, walk, event, filter).await,
        None => page(connection, extent, walk, filter).await,
    }
}

/// The deliveries of one event: one for each hook the account has or had, if it was made.
async fn of_event(
    connection: &mut Connection,
    extent: &HistoryExtent,
    walk: &mut Walk,
    event: EventId,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRow>> {
    let search = DeliverySearch::of(filter);
    for days in extent.stretches_for([event.0]) {
        let slots = walk.enter(connection, extent, &days).await?;
        let place = place_of(connection, &slots, &days, event, filter).await?;
        if let Some((slot, day, hooks)) = place {
            let ids = hooks
                .into_iter()
                .map(|hook| DeliveryId::of(event, HookId(hook)).0);
            let ids: Vec<_> = ids.collect();
            let mut found = by_ids(connection, &[slot], &[day], &ids).await?;
            found.retain(|found| search.selects(found, filter));
            found.truncate(filter.limit as usize);
            return Ok(found);
        }
        // What has ended is kept for longer than its event.
        if filter.state != Some(DeliveryState::Delivered) {
            let ended = search.ended(connection, &slots, &days).await?;
            if !ended.is_empty() {
                return Ok(ended);
            }
        }
    }
    Ok(Vec::new())
}

/// Where an event is that was fanned out on one of these days, and the hooks that its account has
/// or had.
async fn place_of(
    connection: &mut Connection,
    slots: &[i16],
    days: &[NaiveDate],
    event: EventId,
    filter: &DeliveryFilter,
) -> Result<Option<(i16, NaiveDate, Vec<Uuid>)>> {
    let place = sqlx::query_as(
        "-- postrider: deliveries_of_event
        SELECT e.slot, e.day, ARRAY(SELECT id FROM postrider_hooks WHERE account = e.account)
        FROM unnest($2::smallint[]) AS s (slot) CROSS JOIN unnest($3::date[]) AS d (day)
        CROSS JOIN LATERAL (
            SELECT slot, day, account FROM postrider_events
            WHERE slot = s.slot AND day = d.day AND day = ANY($3) AND id = $1
              AND ($4::text IS NULL OR account = $4)
            LIMIT 1
        ) AS e
        LIMIT 1",
    )
    .bind(event.0)
    .bind(slots)
    .bind(days)
    .bind(&filter.account)
    .fetch_optional(connection)
    .await?;
    Ok(place)
}

/// A page of deliveries, newest first.
async fn page(
    connection: &mut Connection,
    extent: &HistoryExtent,
    walk: &mut Walk,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRow>> {
    use DeliveryState::{Delivered, Held, InFlight, Pending};
    let search = DeliverySearch::of(filter);
    let limit = filter.limit as usize;
    let mut found = Vec::new();
    if matches!(filter.state, None | Some(Pending | InFlight | Held)) {
        found = search.live(connection, extent.slots()).await?;
    }
    if matches!(filter.state, Some(Pending | InFlight | Held)) {
        return Ok(found);
    }
    for days in extent.stretches() {
        let slots = walk.enter(connection, extent, days).await?;
        if filter.state != Some(Delivered) {
            found.extend(search.ended(connection, &slots, days).await?);
        }
        if matches!(filter.state, None | Some(Delivered)) {
            found.extend(search.delivered(connection, &slots, days).await?);
        }
        found.sort_by_key(|found| std::cmp::Reverse(found.id));
        found.truncate(limit);
        if found.len() == limit && found.last().is_some_and(|d| reaches(d.id.0, days)) {
            break;
        }
    }
    Ok(found)
}

/// The conditions that every query of a listing shares.
struct DeliverySearch {
    hook: Option<Uuid>,
    event: Option<Uuid>,
    account: Option<String>,
    state: Option<DeliveryState>,
    /// Only ids below this one.
    before: Uuid,
    /// Only this id and those above it.
    from: Uuid,
    limit: i64,
}

impl DeliverySearch {
    fn of(filter: &DeliveryFilter) -> Self {
        let mut search = Self {
            hook: filter.hook.map(|hook| hook.0),
            event: filter.event.map(|event| event.0),
            account: filter.account.clone(),
            state: filter.state,
            before: id_bound(filter.before.map(|id| id.0), filter.until),
            from: lowest_id(filter.since),
            limit: i64::from(filter.limit),
        };
        if let Some((first, last)) = filter.event.map(ids_of_event) {
            search.from = search.from.max(first);
            search.before = search.before.min(last);
        }
        search
    }

    /// Whether a delivery of the event that the filter names is one of those it selects.
    fn selects(&self, found: &DeliveryRow, filter: &DeliveryFilter) -> bool {
        found.id.0 < self.before
            && found.id.0 >= self.from
            && filter.hook.is_none_or(|hook| found.hook == hook)
            && filter.state.is_none_or(|state| found.state == state)
    }

    async fn live(&self, connection: &mut Connection, slots: &[i16]) -> Result<Vec<DeliveryRow>> {
        // Rows with and without a lease, each by its own partial index, and open group members.
        let rows = sqlx::query(concat!(
            "-- postrider: deliveries_live
            SELECT d.slot, d.day, d.id, d.event_id, d.hook_id, d.state, d.attempts,
                   d.next_attempt_at, d.turn_at, d.batch_id, NULL::text AS reason
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN LATERAL (
                (SELECT w.slot, w.day, w.id, w.event_id, w.hook_id, w.attempts,
                        w.next_attempt_at, w.turn_at, w.batch_id, h.state
                 FROM postrider_deliveries AS w CROSS JOIN LATERAL (SELECT ",
            waiting_state!("w"),
            " AS state) AS h
                 WHERE w.slot = s.slot AND w.lease_token IS NULL AND NOT w.holds_key
                   AND w.id < $2 AND w.id >= $6
                   AND ($3::uuid IS NULL OR w.hook_id = $3)
                   AND ($7::text IS NULL
                        OR w.hook_id IN (SELECT id FROM postrider_hooks WHERE account = $7))
                   AND ($4::text IS NULL OR h.state = $4)
                 ORDER BY w.id DESC LIMIT $5)
                UNION ALL
                (SELECT r.slot, r.day, r.id, r.event_id, r.hook_id, r.attempts, r.next_attempt_at,
                        r.turn_at, r.batch_id, 'in_flight'
                 FROM postrider_deliveries AS r
                 WHERE r.slot = s.slot AND r.lease_token IS NOT NULL AND r.id < $2 AND r.id >= $6
                   AND ($3::uuid IS NULL OR r.hook_id = $3)
                   AND ($7::text IS NULL
                        OR r.hook_id IN (SELECT id FROM postrider_hooks WHERE account = $7))
                   AND ($4::text IS NULL OR $4 = 'in_flight')
                 ORDER BY r.id DESC LIMIT $5)
                UNION ALL
                (SELECT l.slot, l.day, m.id, m.event_id, m.hook_id, 0, NULL, NULL, NULL,
                        'in_flight'
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
        .try_map(|row: PgRow| DeliveryRow::read(&row))
        .fetch_all(connection)
        .await?;
        Ok(rows)
    }

    async fn ended(
        &self,
        connection: &mut Connection,
        slots: &[i16],
        days: &[NaiveDate],
    ) -> Result<Vec<DeliveryRow>> {
        let rows = sqlx::query(
            "-- postrider: deliveries_ended
            SELECT e.slot, e.day, e.delivery_id AS id, e.event_id, e.hook_id, e.state,
                   e.attempts, NULL::timestamptz AS next_attempt_at, NULL::timestamptz AS turn_at,
                   e.reason
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($6::date[]) AS d (day)
            CROSS JOIN LATERAL (
                SELECT * FROM postrider_ended
                WHERE slot = s.slot AND day = d.day AND day = ANY($6)
                  AND delivery_id < $2 AND delivery_id >= $7
                  AND ($3::uuid IS NULL OR hook_id = $3)
                  AND ($8::text IS NULL
                       OR hook_id IN (SELECT id FROM postrider_hooks WHERE account = $8))
                  AND ($4::text IS NULL OR state = $4)
                  AND ($9::uuid IS NULL OR event_id = $9)
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
        .bind(self.event)
        .try_map(|row: PgRow| DeliveryRow::read(&row))
        .fetch_all(connection)
        .await?;
        Ok(rows)
    }

    async fn delivered(
        &self,
        connection: &mut Connection,
        slots: &[i16],
        days: &[NaiveDate],
    ) -> Result<Vec<DeliveryRow>> {
        // Other rows of a delivery are looked for one by one, and only for those on the page.
        let rows = sqlx::query(
            "-- postrider: deliveries_delivered
            SELECT a.slot, a.day, a.delivery_id AS id, a.event_id, a.hook_id,
                   'delivered' AS state,
                   (SELECT max(number) FROM postrider_attempts AS n
                    WHERE n.slot = a.slot AND n.day = a.day AND n.day = ANY($5)
                      AND n.delivery_id = a.delivery_id AND NOT n.late) AS attempts,
                   NULL::timestamptz AS next_attempt_at, NULL::timestamptz AS turn_at,
                   NULL::text AS reason
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($5::date[]) AS d (day)
            CROSS JOIN LATERAL (
                SELECT DISTINCT ON (delivery_id) slot, day, delivery_id, event_id, hook_id
                FROM postrider_attempts AS t
                WHERE slot = s.slot AND day = d.day AND day = ANY($5)
                  AND outcome = 'accepted' AND NOT late
                  AND delivery_id < $2 AND delivery_id >= $6
                  AND ($3::uuid IS NULL OR hook_id = $3)
                  AND ($7::text IS NULL
                       OR hook_id IN (SELECT id FROM postrider_hooks WHERE account = $7))
                  AND (SELECT l.id FROM postrider_deliveries AS l
                       WHERE l.slot = s.slot AND l.id = t.delivery_id) IS NULL
                  AND (SELECT e.delivery_id FROM postrider_ended AS e
                       WHERE e.slot = s.slot AND e.day = d.day AND e.day = ANY($5)
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
        .try_map(|row: PgRow| DeliveryRow::read(&row))
        .fetch_all(connection)
        .await?;
        Ok(rows)
    }
}
