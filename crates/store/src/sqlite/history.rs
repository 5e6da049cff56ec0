//! What happened: events, attempts and rejected rows.
//!
//! History is kept by `day`, and within a day its ids sort by time. A lookup by id goes from day
//! to day; a listing merges the newest rows of each day. The cost of neither grows with the
//! amount of history.

use super::{SqliteStore, deliveries, delivery_search};
use crate::error::event_not_found;
use crate::history_rows::{attempt_report, event_report, id_bound, lowest_id, rejected_report};
use crate::{
    AttemptReport, DeliveryFilter, DeliveryReport, EventFilter, EventReport, History,
    RejectedReport, Result,
};
use async_trait::async_trait;
use postrider_core::{DeliveryId, EventId};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

/// The days of which a table has rows, newest first, as the common table expression `days`.
macro_rules! days {
    ($table:literal) => {
        concat!(
            "WITH RECURSIVE days (day) AS (
                SELECT (SELECT t.day FROM ",
            $table,
            " AS t WHERE t.slot = 0 ORDER BY t.day DESC LIMIT 1)
                UNION ALL
                SELECT (SELECT t.day FROM ",
            $table,
            " AS t WHERE t.slot = 0 AND t.day < days.day ORDER BY t.day DESC LIMIT 1)
                FROM days WHERE day IS NOT NULL
            )\n"
        )
    };
}
pub(super) use days;

#[async_trait]
impl History for SqliteStore {
    async fn event(&self, id: EventId) -> Result<EventReport> {
        // One snapshot of all three tables: the event may be moving from one to the next.
        let mut tx = self.readers.begin().await?;
        let fanned_out = sqlx::query(concat!(
            "-- postrider: event\n",
            days!("postrider_events"),
            "SELECT 'fanned_out' AS state, e.id, e.account, e.event_type, e.ordering_key,
                e.dedup_key, e.payload, e.occurred_at, e.fanned_out_at, e.erased_at
            FROM days CROSS JOIN postrider_events AS e
            WHERE e.slot = 0 AND e.day = days.day AND e.id = ?1 LIMIT 1"
        ))
        .bind(id.0)
        .try_map(|row: SqliteRow| event_report(&row))
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(report) = fanned_out {
            return Ok(report);
        }
        let elsewhere = sqlx::query(
            "-- postrider: event_elsewhere
            SELECT 'queued' AS state, ?1 AS id, account, event_type, ordering_key, dedup_key,
                payload, coalesce(occurred_at, created_at) AS occurred_at,
                NULL AS fanned_out_at, NULL AS erased_at
            FROM postrider_outbox WHERE id = ?2
            UNION ALL
            SELECT 'rejected', id, account, event_type, ordering_key, dedup_key, payload,
                occurred_at, NULL, NULL
            FROM postrider_rejected WHERE slot = 0 AND id = ?1
            LIMIT 1",
        )
        .bind(id.0)
        .bind(id.to_string())
        .try_map(|row: SqliteRow| event_report(&row))
        .fetch_optional(&mut *tx)
        .await?;
        elsewhere.ok_or_else(|| event_not_found(id))
    }

    async fn events(&self, filter: EventFilter) -> Result<Vec<EventReport>> {
        let limit = filter.limit as usize;
        let mut tx = self.readers.begin().await?;
        let mut found = queued_events(&mut tx, &filter).await?;
        for day in event_days(&mut tx).await? {
            // Ids below that of the last row of a full page are not read.
            let full = limit.checked_sub(1).and_then(|last| found.get(last));
            let lowest = full.map_or(Uuid::nil(), |report| report.id.0);
            let lowest = lowest.max(lowest_id(filter.since));
            found.extend(events_of_day(&mut tx, day, &filter, lowest).await?);
            found.sort_by_key(|report| std::cmp::Reverse(report.id));
            found.truncate(limit);
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn delivery(&self, id: DeliveryId) -> Result<DeliveryReport> {
        let mut tx = self.readers.begin().await?;
        let found = deliveries::find(&mut tx, id).await?;
        deliveries::report(&mut tx, found).await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryReport>> {
        let mut tx = self.readers.begin().await?;
        let places = delivery_search::search(&mut tx, &filter).await?;
        deliveries::reports_at(&mut tx, &places).await
    }

    async fn attempts(&self, id: DeliveryId) -> Result<Vec<AttemptReport>> {
        let mut tx = self.readers.begin().await?;
        let attempts = sqlx::query(concat!(
            "-- postrider: attempts\n",
            days!("postrider_attempts"),
            "SELECT a.id, a.number, a.at, a.outcome, a.status, a.error, a.duration_ms, a.response,
                a.late
            FROM days CROSS JOIN postrider_attempts AS a
            WHERE a.slot = 0 AND a.day = days.day AND a.delivery_id = ?1
            ORDER BY a.at, a.number, a.id"
        ))
        .bind(id.0)
        .try_map(|row: SqliteRow| attempt_report(&row))
        .fetch_all(&mut *tx)
        .await?;
        if attempts.is_empty() {
            // A delivery without attempts has an empty list; an unknown one is an error.
            deliveries::locate(&mut tx, id).await?;
        }
        Ok(attempts)
    }

    async fn rejected(&self, limit: u32) -> Result<Vec<RejectedReport>> {
        let rows = sqlx::query(
            "-- postrider: rejected
            SELECT id, reason, rejected_at, account, event_type
            FROM (SELECT * FROM postrider_rejected WHERE slot = 0 ORDER BY id DESC LIMIT ?1)
            ORDER BY rejected_at DESC, id DESC",
        )
        .bind(limit)
        .try_map(|row: SqliteRow| rejected_report(&row))
        .fetch_all(&self.readers)
        .await?;
        Ok(rows)
    }
}

async fn queued_events(
    tx: &mut SqliteConnection,
    filter: &EventFilter,
) -> Result<Vec<EventReport>> {
    let found = sqlx::query(
        "-- postrider: events_queued
        SELECT 'queued' AS state, unhex(replace(id, '-', '')) AS id,
            account, event_type, ordering_key, dedup_key, NULL AS payload,
            coalesce(occurred_at, created_at) AS occurred_at, NULL AS fanned_out_at,
            NULL AS erased_at
        FROM postrider_outbox
        WHERE id < ?1 AND id >= ?5 AND length(unhex(replace(id, '-', ''))) = 16
            AND (?2 IS NULL OR account = ?2) AND (?3 IS NULL OR event_type = ?3)
        ORDER BY id DESC LIMIT ?4",
    )
    .bind(id_bound(filter.before.map(|id| id.0), filter.until).to_string())
    .bind(&filter.account)
    .bind(&filter.event_type)
    .bind(filter.limit)
    .bind(lowest_id(filter.since).to_string())
    .try_map(|row: SqliteRow| event_report(&row))
    .fetch_all(tx)
    .await?;
    Ok(found)
}

async fn event_days(tx: &mut SqliteConnection) -> Result<Vec<i32>> {
    let days = sqlx::query_scalar(concat!(
        "-- postrider: event_days\n",
        days!("postrider_events"),
        "SELECT day FROM days WHERE day IS NOT NULL"
    ));
    Ok(days.fetch_all(tx).await?)
}

async fn events_of_day(
    tx: &mut SqliteConnection,
    day: i32,
    filter: &EventFilter,
    lowest: Uuid,
) -> Result<Vec<EventReport>> {
    let found = sqlx::query(
        "-- postrider: events
        SELECT 'fanned_out' AS state, id, account, event_type, ordering_key, dedup_key,
            NULL AS payload, occurred_at, fanned_out_at, erased_at
        FROM postrider_events
        WHERE slot = 0 AND day = ?1 AND id >= ?2 AND id < ?3
            AND (?4 IS NULL OR account = ?4) AND (?5 IS NULL OR event_type = ?5)
        ORDER BY id DESC LIMIT ?6",
    )
    .bind(day)
    .bind(lowest)
    .bind(id_bound(filter.before.map(|id| id.0), filter.until))
    .bind(&filter.account)
    .bind(&filter.event_type)
    .bind(filter.limit)
    .try_map(|row: SqliteRow| event_report(&row))
    .fetch_all(tx)
    .await?;
    Ok(found)
}
