//! What happened: events, attempts and rejected rows.
//!
//! History is partitioned by day and slot, and every query names both. A page is read from the
//! newest day on, through an index; older days are not read.

use super::connection::Connection;
use super::pool::Pooled;
use super::transaction::Transaction;
use super::values::within_calendar;
use super::{PostgresStore, deliveries, delivery_search};
use crate::error::event_not_found;
use crate::history_rows::{attempt_report, event_report, id_bound, lowest_id, rejected_report};
use crate::{
    AttemptReport, DeliveryFilter, DeliveryReport, EventFilter, EventReport, History,
    RejectedReport, Result,
};
use async_trait::async_trait;
use chrono::{Days, NaiveDate, NaiveTime};
use postrider_core::{DeliveryId, EventId, Timestamp};
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// One snapshot for all the queries of an answer: a row that moves meanwhile is read once.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

impl PostgresStore {
    async fn snapshot(&self) -> Result<Transaction<Pooled>> {
        Ok(self.calm.begin_with(SNAPSHOT).await?)
    }
}

#[async_trait]
impl History for PostgresStore {
    async fn event(&self, id: EventId) -> Result<EventReport> {
        let mut tx = self.snapshot().await?;
        let extent = HistoryExtent::read(&mut tx).await?;
        let report = sqlx::query(concat!(
            "-- postrider: event
            SELECT e.id, e.account, e.event_type, 'fanned_out' AS state, e.occurred_at,
                   e.fanned_out_at, e.ordering_key, e.dedup_key, e.erased_at,
                   e.payload::text AS payload
            FROM unnest($2::smallint[]) AS s (slot) CROSS JOIN unnest($3::date[]) AS d (day)
            CROSS JOIN LATERAL (
                SELECT * FROM postrider_events
                WHERE slot = s.slot AND day = d.day AND id = $1 LIMIT 1
            ) AS e
            UNION ALL
            SELECT id, account, event_type, 'queued',
                   CASE WHEN coalesce(occurred_at, created_at) ",
            within_calendar!(),
            " THEN coalesce(occurred_at, created_at) END,
                   NULL, ordering_key, dedup_key, NULL, payload::text
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
        .bind(&extent.slots)
        .bind(&extent.days)
        .try_map(|row: PgRow| event_report(&row))
        .fetch_optional(&mut *tx)
        .await?;
        report.ok_or_else(|| event_not_found(id))
    }

    async fn events(&self, filter: EventFilter) -> Result<Vec<EventReport>> {
        let limit = filter.limit as usize;
        let mut tx = self.snapshot().await?;
        let mut extent = HistoryExtent::read(&mut tx).await?;
        extent.begin_at(filter.since);
        let mut found = queued_events(&mut tx, &filter).await?;
        for days in extent.stretches() {
            found.extend(kept_events(&mut tx, &extent.slots, days, &filter).await?);
            found.sort_by_key(|event| std::cmp::Reverse(event.id));
            found.truncate(limit);
            if found.len() == limit && found.last().is_some_and(|e| reaches(e.id.0, days)) {
                break;
            }
        }
        Ok(found)
    }

    async fn delivery(&self, id: DeliveryId) -> Result<DeliveryReport> {
        let mut tx = self.snapshot().await?;
        let found = deliveries::find(&mut tx, id).await?;
        deliveries::report(&mut tx, found).await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryReport>> {
        let mut tx = self.snapshot().await?;
        let found = delivery_search::search(&mut tx, &filter).await?;
        deliveries::reports(&mut tx, found).await
    }

    async fn attempts(&self, id: DeliveryId) -> Result<Vec<AttemptReport>> {
        let mut tx = self.snapshot().await?;
        let extent = HistoryExtent::read(&mut tx).await?;
        let attempts = sqlx::query(
            "-- postrider: attempts
            SELECT a.id, a.number, a.at, a.outcome, a.status, a.error, a.duration_ms, a.response,
                   a.late
            FROM unnest($2::smallint[]) AS s (slot) CROSS JOIN unnest($3::date[]) AS d (day)
            CROSS JOIN LATERAL (
                SELECT * FROM postrider_attempts
                WHERE slot = s.slot AND day = d.day AND delivery_id = $1 OFFSET 0
            ) AS a
            ORDER BY a.at, a.number, a.id",
        )
        .bind(id.0)
        .bind(&extent.slots)
        .bind(&extent.days)
        .try_map(|row: PgRow| attempt_report(&row))
        .fetch_all(&mut *tx)
        .await?;
        if attempts.is_empty() {
            // A delivery without attempts has an empty list; an unknown one is an error.
            deliveries::find(&mut tx, id).await?;
        }
        Ok(attempts)
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

/// The slots and days of which history has rows.
pub(super) struct HistoryExtent {
    pub slots: Vec<i16>,
    /// Newest first.
    pub days: Vec<NaiveDate>,
}

impl HistoryExtent {
    pub(super) async fn read(connection: &mut Connection) -> Result<Self> {
        let (slots, days) = sqlx::query_as(
            "-- postrider: extent
            WITH RECURSIVE occupied AS (
                (SELECT slot FROM postrider_events ORDER BY slot LIMIT 1)
                UNION ALL
                SELECT (SELECT next.slot FROM postrider_events AS next
                        WHERE next.slot > o.slot ORDER BY next.slot LIMIT 1)
                FROM occupied AS o WHERE o.slot IS NOT NULL
            )
            SELECT ARRAY(
                       SELECT slot FROM occupied WHERE slot IS NOT NULL
                       UNION
                       SELECT generate_series(0, slots - 1)::smallint
                       FROM postrider_meta WHERE singleton
                       ORDER BY 1
                   ),
                   ARRAY(
                       SELECT DISTINCT to_date(right(part.relname, 8), 'YYYYMMDD')
                       FROM pg_inherits AS i JOIN pg_class AS part ON part.oid = i.inhrelid
                       WHERE i.inhparent IN ('postrider_events'::regclass,
                                             'postrider_ended'::regclass)
                         AND part.relname ~ '_[0-9]{8}$'
                       ORDER BY 1 DESC
                   )",
        )
        .fetch_one(connection)
        .await?;
        Ok(Self { slots, days })
    }

    /// Leaves out the days that are too old for anything inserted at `since` or later.
    pub(super) fn begin_at(&mut self, since: Option<Timestamp>) {
        // The clock that drew an id may have run ahead of the one that fanned the event out.
        let first = since.and_then(|since| since.date_naive().checked_sub_days(Days::new(1)));
        if let Some(first) = first {
            self.days.retain(|day| *day >= first);
        }
    }

    /// The days from the newest on, in stretches of growing length: a full page is usually found
    /// in the first stretch, a sparse one with few queries.
    pub(super) fn stretches(&self) -> impl Iterator<Item = &[NaiveDate]> {
        let mut rest = self.days.as_slice();
        let mut size = 4;
        std::iter::from_fn(move || {
            let (stretch, older) = rest.split_at_checked(size).unwrap_or((rest, &[]));
            rest = older;
            size *= 4;
            (!stretch.is_empty()).then_some(stretch)
        })
    }
}

/// Whether every row older than `last` lies in days before this stretch: ids begin with their
/// time, and no event is fanned out before it happens.
pub(super) fn reaches(last: Uuid, stretch: &[NaiveDate]) -> bool {
    let born = i64::try_from(last.as_u128() >> 80).unwrap_or(i64::MAX);
    let begins = |day: &NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
    stretch.last().is_some_and(|oldest| born >= begins(oldest))
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
            WHERE slot = s.slot AND day = d.day AND id < $3 AND id >= $7
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

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};

    #[test]
    fn stretches_cover_every_day_once_and_grow() {
        let newest = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        let days: Vec<_> = (0..33).map(|n| newest - Days::new(n)).collect();
        let extent = HistoryExtent {
            slots: vec![0],
            days: days.clone(),
        };
        let stretches: Vec<_> = extent.stretches().collect();
        assert_eq!(stretches.concat(), days);
        assert_eq!(
            stretches.iter().map(|s| s.len()).collect::<Vec<_>>(),
            [4, 16, 13]
        );
    }

    #[test]
    fn a_page_is_full_when_nothing_newer_can_lie_in_older_days() {
        let day = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        let at = |hour| EventId::draw(Utc.with_ymd_and_hms(2026, 3, 1, hour, 0, 0).unwrap());
        assert!(reaches(at(0).0, &[day]));
        assert!(!reaches(at(23).0, &[day + Days::new(1)]));
        assert!(!reaches(at(0).0, &[]));
    }
}
