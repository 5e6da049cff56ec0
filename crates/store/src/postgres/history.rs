//! What happened: events, attempts and rejected rows.
//!
//! History is partitioned by day and slot, and every query names both. A page is read from the
//! newest day on, through an index; older days are not read. What has an id is looked for on the
//! days that its id allows first.

use super::connection::Connection;
use super::days::{HistoryExtent, SNAPSHOT, Walk, reaches};
use super::values::within_calendar;
use super::{PostgresStore, deliveries, delivery_search};
use crate::error::{delivery_not_found, event_not_found};
use crate::history_rows::{attempt_report, event_report, id_bound, lowest_id, rejected_report};
use crate::{
    AttemptReport, DeliveryFilter, DeliveryReport, EventFilter, EventReport, History,
    RejectedReport, Result,
};
use async_trait::async_trait;
use chrono::NaiveDate;
use postrider_core::{DeliveryId, EventId};
use sqlx::postgres::PgRow;

#[async_trait]
impl History for PostgresStore {
    async fn event(&self, id: EventId) -> Result<EventReport> {
        let mut connection = self.calm.acquire().await?;
        let extent = HistoryExtent::read(&mut connection).await?;
        let mut tx = connection.begin_with(SNAPSHOT).await?;
        let mut walk = Walk::default();
        for (number, days) in extent.stretches_for([id.0]).iter().enumerate() {
            let slots = walk.enter(&mut tx, &extent, days).await?;
            let mut found = kept_event(&mut tx, &slots, days, id).await?;
            if number == 0 && found.is_none() {
                found = event_elsewhere(&mut tx, extent.slots(), id).await?;
            }
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(event_not_found(id))
    }

    async fn events(&self, filter: EventFilter) -> Result<Vec<EventReport>> {
        let limit = filter.limit as usize;
        let mut connection = self.calm.acquire().await?;
        let mut extent = HistoryExtent::read(&mut connection).await?;
        extent.begin_at(filter.since);
        let mut tx = connection.begin_with(SNAPSHOT).await?;
        let mut walk = Walk::default();
        let mut found = queued_events(&mut tx, &filter).await?;
        for days in extent.stretches() {
            let slots = walk.enter(&mut tx, &extent, days).await?;
            found.extend(kept_events(&mut tx, &slots, days, &filter).await?);
            found.sort_by_key(|event| std::cmp::Reverse(event.id));
            found.truncate(limit);
            if found.len() == limit && found.last().is_some_and(|e| reaches(e.id.0, days)) {
                break;
            }
        }
        Ok(found)
    }

    async fn delivery(&self, id: DeliveryId) -> Result<DeliveryReport> {
        let mut connection = self.calm.acquire().await?;
        let extent = HistoryExtent::read(&mut connection).await?;
        let mut tx = connection.begin_with(SNAPSHOT).await?;
        let mut walk = Walk::default();
        let found = deliveries::find(&mut tx, &extent, &mut walk, id).await?;
        deliveries::report(&mut tx, &mut walk, found).await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryReport>> {
        let mut connection = self.calm.acquire().await?;
        let mut extent = HistoryExtent::read(&mut connection).await?;
        extent.begin_at(filter.since);
        let mut tx = connection.begin_with(SNAPSHOT).await?;
        let mut walk = Walk::default();
        let found = delivery_search::search(&mut tx, &extent, &mut walk, &filter).await?;
        deliveries::reports(&mut tx, &mut walk, found).await
    }

    async fn attempts(&self, id: DeliveryId) -> Result<Vec<AttemptReport>> {
        let mut connection = self.calm.acquire().await?;
        let extent = HistoryExtent::read(&mut connection).await?;
        let mut tx = connection.begin_with(SNAPSHOT).await?;
        let mut walk = Walk::default();
        for days in extent.stretches_for([id.0]) {
            let slots = walk.enter(&mut tx, &extent, &days).await?;
            let attempts = attempts_of(&mut tx, &slots, &days, id).await?;
            if !attempts.is_empty() {
                return Ok(attempts);
            }
            // A delivery without attempts has an empty list; an unknown one is an error.
            let found = deliveries::by_ids(&mut tx, &slots, &days, &[id.0]).await?;
            if let Some(found) = found.first() {
                return attempts_of(&mut tx, &[found.slot], &[found.day], id).await;
            }
        }
        Err(delivery_not_found(id))
    }

    async fn rejected(&self, limit: u32) -> Result<Vec<RejectedReport>> {
        let rows = sqlx::query(
            "-- postrider: rejected
            WITH RECURSIVE occupied AS (
                (SELECT slot FROM postrider_rejected ORDER BY slot LIMIT 1)
                UNION ALL
                SELECT (SELECT next.slot FROM postrider_rejected AS next
                        WHERE next.slot > o.slot ORDER BY next.slot LIMIT 1)
                FROM occupied AS o WHERE o.slot IS NOT NULL
            )
            SELECT r.id, r.reason, r.rejected_at, r.account, r.event_type
            FROM occupied AS o CROSS JOIN LATERAL (
                SELECT * FROM postrider_rejected WHERE slot = o.slot ORDER BY id DESC LIMIT $1
            ) AS r
            ORDER BY r.rejected_at DESC, r.id DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .try_map(|row: PgRow| rejected_report(&row))
        .fetch_all(&self.calm)
        .await?;
        Ok(rows)
    }
}

/// An event that was fanned out on one of these days.
async fn kept_event(
    connection: &mut Connection,
    slots: &[i16],
    days: &[NaiveDate],
    id: EventId,
) -> Result<Option<EventReport>> {
    let found = sqlx::query(
        "-- postrider: event
        SELECT e.id, e.account, e.event_type, 'fanned_out' AS state, e.occurred_at,
               e.fanned_out_at, e.ordering_key, e.dedup_key, e.erased_at,
               e.payload::text AS payload
        FROM unnest($2::smallint[]) AS s (slot) CROSS JOIN unnest($3::date[]) AS d (day)
        CROSS JOIN LATERAL (
            SELECT * FROM postrider_events
            WHERE slot = s.slot AND day = d.day AND day = ANY($3) AND id = $1 LIMIT 1
        ) AS e
        LIMIT 1",
    )
    .bind(id.0)
    .bind(slots)
    .bind(days)
    .try_map(|row: PgRow| event_report(&row))
    .fetch_optional(connection)
    .await?;
    Ok(found)
}

/// An event that is in the outbox, or was rejected.
async fn event_elsewhere(
    connection: &mut Connection,
    slots: &[i16],
    id: EventId,
) -> Result<Option<EventReport>> {
    let found = sqlx::query(concat!(
        "-- postrider: event_elsewhere
        SELECT id, account, event_type, 'queued' AS state,
               CASE WHEN coalesce(occurred_at, created_at) ",
        within_calendar!(),
        " THEN coalesce(occurred_at, created_at) END AS occurred_at,
               NULL::timestamptz AS fanned_out_at, ordering_key, dedup_key,
               NULL::timestamptz AS erased_at, payload::text AS payload
        FROM postrider_outbox WHERE id = $1
        UNION ALL
        SELECT id, coalesce(account, ''), coalesce(event_type, ''), 'rejected',
               CASE WHEN occurred_at ",
        within_calendar!(),
        " THEN occurred_at END,
               NULL, ordering_key, dedup_key, NULL, payload
        FROM postrider_rejected WHERE slot = ANY($2) AND id = $1
        LIMIT 1",
    ))
    .bind(id.0)
    .bind(slots)
    .try_map(|row: PgRow| event_report(&row))
    .fetch_optional(connection)
    .await?;
    Ok(found)
}

async fn attempts_of(
    connection: &mut Connection,
    slots: &[i16],
    days: &[NaiveDate],
    id: DeliveryId,
) -> Result<Vec<AttemptReport>> {
    let attempts = sqlx::query(
        "-- postrider: attempts
        SELECT a.id, a.number, a.at, a.outcome, a.status, a.error, a.duration_ms, a.response,
               a.late
        FROM unnest($2::smallint[]) AS s (slot) CROSS JOIN unnest($3::date[]) AS d (day)
        CROSS JOIN LATERAL (
            SELECT * FROM postrider_attempts
            WHERE slot = s.slot AND day = d.day AND day = ANY($3) AND delivery_id = $1 OFFSET 0
        ) AS a
        ORDER BY a.at, a.number, a.id",
    )
    .bind(id.0)
    .bind(slots)
    .bind(days)
    .try_map(|row: PgRow| attempt_report(&row))
    .fetch_all(connection)
    .await?;
    Ok(attempts)
}

async fn queued_events(
    connection: &mut Connection,
    filter: &EventFilter,
) -> Result<Vec<EventReport>> {
    let rows = sqlx::query(concat!(
        "-- postrider: events_queued
        WITH RECURSIVE occupied AS (
            (SELECT slot FROM postrider_outbox ORDER BY slot LIMIT 1)
            UNION ALL
            SELECT (SELECT next.slot FROM postrider_outbox AS next
                    WHERE next.slot > o.slot ORDER BY next.slot LIMIT 1)
            FROM occupied AS o WHERE o.slot IS NOT NULL
        )
        SELECT e.id, e.account, e.event_type, 'queued' AS state,
               CASE WHEN coalesce(e.occurred_at, e.created_at) ",
        within_calendar!(),
        " THEN coalesce(e.occurred_at, e.created_at) END AS occurred_at,
               NULL::timestamptz AS fanned_out_at, e.ordering_key, e.dedup_key,
               NULL::timestamptz AS erased_at, NULL::text AS payload
        FROM occupied AS o CROSS JOIN LATERAL (
            SELECT * FROM postrider_outbox
            WHERE slot = o.slot AND id < $1 AND id >= $5
              AND ($2::text IS NULL OR account = $2) AND ($3::text IS NULL OR event_type = $3)
            ORDER BY id DESC LIMIT $4
        ) AS e
        ORDER BY e.id DESC LIMIT $4",
    ))
    .bind(id_bound(filter.before.map(|id| id.0), filter.until))
    .bind(&filter.account)
    .bind(&filter.event_type)
    .bind(i64::from(filter.limit))
    .bind(lowest_id(filter.since))
    .try_map(|row: PgRow| event_report(&row))
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

async fn kept_events(
    connection: &mut Connection,
    slots: &[i16],
    days: &[NaiveDate],
    filter: &EventFilter,
) -> Result<Vec<EventReport>> {
    let rows = sqlx::query(
        "-- postrider: events
        SELECT e.id, e.account, e.event_type, 'fanned_out' AS state, e.occurred_at,
               e.fanned_out_at, e.ordering_key, e.dedup_key, e.erased_at, NULL::text AS payload
        FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN unnest($2::date[]) AS d (day)
        CROSS JOIN LATERAL (
            SELECT * FROM postrider_events
            WHERE slot = s.slot AND day = d.day AND day = ANY($2) AND id < $3 AND id >= $7
              AND ($4::text IS NULL OR account = $4) AND ($5::text IS NULL OR event_type = $5)
            ORDER BY id DESC LIMIT $6
        ) AS e
        ORDER BY e.id DESC LIMIT $6",
    )
    .bind(slots)
    .bind(days)
    .bind(id_bound(filter.before.map(|id| id.0), filter.until))
    .bind(&filter.account)
    .bind(&filter.event_type)
    .bind(i64::from(filter.limit))
    .bind(lowest_id(filter.since))
    .try_map(|row: PgRow| event_report(&row))
    .fetch_all(connection)
    .await?;
    Ok(rows)
}
