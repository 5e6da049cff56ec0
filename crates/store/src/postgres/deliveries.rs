//! Deliveries in whichever table they are, by their ids.
//!
//! A delivery that waits or is being attempted again has a row in `postrider_deliveries`; one in
//! its first attempt is a member of a row of `postrider_leases`; one that ended otherwise than
//! delivered has a row in `postrider_ended`. One without any of these was delivered if it has an
//! accepted attempt.

use super::connection::Connection;
use super::days::{AT_ONCE, HistoryExtent, Walk};
use crate::error::delivery_not_found;
use crate::history_rows::{DeliveryRow, EventNames, delivery_reports, event_names, waiting_state};
use crate::{DeliveryReport, Result};
use chrono::NaiveDate;
use postrider_core::DeliveryId;
use sqlx::postgres::{PgBindIterExt, PgRow};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The delivery in its present state.
pub(super) async fn find(
    connection: &mut Connection,
    extent: &HistoryExtent,
    walk: &mut Walk,
    id: DeliveryId,
) -> Result<DeliveryRow> {
    for days in extent.stretches_for([id.0]) {
        let slots = walk.enter(connection, extent, &days).await?;
        let mut found = by_ids(connection, &slots, &days, &[id.0]).await?;
        if let Some(found) = found.pop() {
            return Ok(found);
        }
    }
    Err(delivery_not_found(id))
}

/// The deliveries with these ids in their present state, newest first, if they have not ended or
/// their events were fanned out on one of these days.
pub(super) async fn by_ids(
    connection: &mut Connection,
    slots: &[i16],
    days: &[NaiveDate],
    ids: &[Uuid],
) -> Result<Vec<DeliveryRow>> {
    let mut found = sqlx::query(concat!(
        "-- postrider: deliveries_by_id
        SELECT l.slot, l.day, l.id, l.event_id, l.hook_id,
               CASE WHEN l.lease_token IS NOT NULL THEN 'in_flight' ELSE ",
        waiting_state!("l"),
        " END AS state, l.attempts, l.next_attempt_at, l.turn_at, l.batch_id,
               NULL::text AS reason, 1 AS rank
        FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($3::uuid[]) AS i (id)
        CROSS JOIN LATERAL (
            SELECT * FROM postrider_deliveries WHERE slot = s.slot AND id = i.id LIMIT 1
        ) AS l
        WHERE NOT l.holds_key
        UNION ALL
        SELECT e.slot, e.day, e.delivery_id, e.event_id, e.hook_id, e.state, e.attempts, NULL,
               NULL, NULL, e.reason, 2
        FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($2::date[]) AS d (day)
        CROSS JOIN unnest($3::uuid[]) AS i (id)
        CROSS JOIN LATERAL (
            SELECT * FROM postrider_ended
            WHERE slot = s.slot AND day = d.day AND day = ANY($2) AND delivery_id = i.id LIMIT 1
        ) AS e
        UNION ALL
        SELECT a.slot, a.day, a.delivery_id, a.event_id, a.hook_id, 'delivered', a.attempts,
               NULL, NULL, NULL, NULL, 3
        FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($2::date[]) AS d (day)
        CROSS JOIN unnest($3::uuid[]) AS i (id)
        CROSS JOIN LATERAL (
            SELECT slot, day, delivery_id, event_id, hook_id, max(number) AS attempts
            FROM postrider_attempts
            WHERE slot = s.slot AND day = d.day AND day = ANY($2) AND delivery_id = i.id
              AND NOT late
            GROUP BY slot, day, delivery_id, event_id, hook_id
            HAVING bool_or(outcome = 'accepted')
        ) AS a
        UNION ALL
        SELECT l.slot, l.day, m.id, m.event_id, m.hook_id, 'in_flight', 0, NULL, NULL,
               NULL, NULL, 1
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
    .try_map(|row: PgRow| DeliveryRow::read(&row))
    .fetch_all(connection)
    .await?;
    // The first row of a delivery is its present state, the others are its past.
    found.dedup_by_key(|found| found.id);
    Ok(found)
}

/// The delivery as it is shown.
pub(super) async fn report(
    connection: &mut Connection,
    walk: &mut Walk,
    found: DeliveryRow,
) -> Result<DeliveryReport> {
    let id = found.id;
    let mut reports = reports(connection, walk, vec![found]).await?;
    reports.pop().ok_or_else(|| delivery_not_found(id))
}

/// The deliveries as they are shown, in their order.
pub(super) async fn reports(
    connection: &mut Connection,
    walk: &mut Walk,
    found: Vec<DeliveryRow>,
) -> Result<Vec<DeliveryReport>> {
    let days: BTreeSet<_> = found.iter().map(|found| found.day).collect();
    let days: Vec<_> = days.into_iter().collect();
    let mut names = EventNames::new();
    for days in days.chunks(AT_ONCE) {
        walk.step(connection).await?;
        let of_days = || found.iter().filter(|found| days.contains(&found.day));
        let events: Vec<_> = sqlx::query(
            "-- postrider: event_types
            SELECT e.id, e.account, e.event_type
            FROM unnest($1::smallint[], $2::date[], $3::uuid[]) AS k (slot, day, id)
            CROSS JOIN LATERAL (
                SELECT id, account, event_type FROM postrider_events
                WHERE slot = k.slot AND day = k.day AND day = ANY($4) AND id = k.id LIMIT 1
            ) AS e",
        )
        .bind(of_days().map(|found| found.slot).bind_iter())
        .bind(of_days().map(|found| found.day).bind_iter())
        .bind(of_days().map(|found| found.event.0).bind_iter())
        .bind(days)
        .try_map(|row: PgRow| event_names(&row))
        .fetch_all(&mut *connection)
        .await?;
        names.extend(events);
    }
    Ok(delivery_reports(found, &names))
}
