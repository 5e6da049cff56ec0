//! What happened: events, attempts, and rows that were rejected.
//!
//! History is kept by `day`, and its ids sort by time within a day. A lookup by id goes from
//! day to day; a listing takes the newest of each day, and the newest of those. Neither reads
//! more because there is more history.

use super::SqliteStore;
use super::values::{moment, parse_time};
use crate::{AttemptReport, Error, EventFilter, EventReport, EventState, RejectedReport, Result};
use postrider_core::{AttemptId, DeliveryId, EventId, Timestamp};
use serde_json::value::RawValue;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use uuid::Uuid;

/// An id below which all others lie: 16 bytes never sort after 17 of the highest.
pub(super) const AFTER_ALL: [u8; 17] = [0xff; 17];

/// The days of which a table has rows, newest first, as the common table `days`.
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

impl SqliteStore {
    pub(super) async fn find_event(&self, id: EventId) -> Result<EventReport> {
        // One view of all three tables: the event may be moving from one to the next.
        let mut tx = self.readers.begin().await?;
        let fanned_out: Option<EventRow> = sqlx::query_as(concat!(
            "-- postrider: event\n",
            days!("postrider_events"),
            "SELECT 'fanned_out' AS state, e.id, CAST(e.account AS BLOB) AS account,
                CAST(e.event_type AS BLOB) AS event_type,
                CAST(e.ordering_key AS BLOB) AS ordering_key,
                CAST(e.dedup_key AS BLOB) AS dedup_key, CAST(e.payload AS BLOB) AS payload,
                e.occurred_at, e.fanned_out_at, e.erased_at, NULL AS time
            FROM days CROSS JOIN postrider_events AS e
            WHERE e.slot = 0 AND e.day = days.day AND e.id = ?1 LIMIT 1"
        ))
        .bind(id.0)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(row) = fanned_out {
            return Ok(row.into_report());
        }
        let elsewhere: Option<EventRow> = sqlx::query_as(
            "-- postrider: event_elsewhere
            SELECT 'queued' AS state, ?1 AS id, CAST(account AS BLOB) AS account,
                CAST(event_type AS BLOB) AS event_type,
                CAST(ordering_key AS BLOB) AS ordering_key,
                CAST(dedup_key AS BLOB) AS dedup_key, CAST(payload AS BLOB) AS payload,
                NULL AS occurred_at, NULL AS fanned_out_at, NULL AS erased_at,
                CAST(coalesce(occurred_at, created_at) AS BLOB) AS time
            FROM postrider_outbox WHERE id = ?2
            UNION ALL
            SELECT 'rejected', id, CAST(account AS BLOB), CAST(event_type AS BLOB),
                CAST(ordering_key AS BLOB), CAST(dedup_key AS BLOB), CAST(payload AS BLOB),
                NULL, NULL, NULL, CAST(occurred_at AS BLOB)
            FROM postrider_rejected WHERE slot = 0 AND id = ?1
            LIMIT 1",
        )
        .bind(id.0)
        .bind(id.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        elsewhere
            .map(EventRow::into_report)
            .ok_or_else(|| Error::NotFound {
                what: "event",
                id: id.to_string(),
            })
    }

    pub(super) async fn list_events(&self, filter: EventFilter) -> Result<Vec<EventReport>> {
        let limit = filter.limit as usize;
        let mut tx = self.readers.begin().await?;
        let mut found = queued_events(&mut tx, &filter).await?;
        for day in event_days(&mut tx).await? {
            found.extend(events_of_day(&mut tx, day, &filter, nth_newest(&found, limit)).await?);
            found.sort_by_key(|row| std::cmp::Reverse(row.id));
            found.truncate(limit);
        }
        found.truncate(limit);
        Ok(found.into_iter().map(EventRow::into_report).collect())
    }

    pub(super) async fn list_attempts(&self, id: DeliveryId) -> Result<Vec<AttemptReport>> {
        let mut tx = self.readers.begin().await?;
        let found: Vec<AttemptRow> = sqlx::query_as(concat!(
            "-- postrider: attempts\n",
            days!("postrider_attempts"),
            "SELECT a.id, a.number, a.at, a.outcome, a.status, a.error, a.duration_ms, a.response,
                a.late
            FROM days CROSS JOIN postrider_attempts AS a
            WHERE a.slot = 0 AND a.day = days.day AND a.delivery_id = ?1
            ORDER BY a.at, a.id"
        ))
        .bind(id.0)
        .fetch_all(&mut *tx)
        .await?;
        if found.is_empty() {
            // None made yet, or no such delivery.
            self.locate(&mut tx, id).await?;
        }
        Ok(found.into_iter().map(|row| row.0).collect())
    }

    pub(super) async fn list_rejected(&self, limit: u32) -> Result<Vec<RejectedReport>> {
        type Columns = (Uuid, String, i64, Option<Vec<u8>>, Option<Vec<u8>>);
        let found: Vec<Columns> = sqlx::query_as(
            "-- postrider: rejected
            SELECT id, reason, rejected_at, CAST(account AS BLOB), CAST(event_type AS BLOB)
            FROM postrider_rejected WHERE slot = 0 ORDER BY id DESC LIMIT ?1",
        )
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        let reports = found
            .into_iter()
            .map(
                |(id, reason, rejected_at, account, event_type)| RejectedReport {
                    id: EventId(id),
                    reason,
                    rejected_at: moment(rejected_at),
                    account: account.map(readable),
                    event_type: event_type.map(readable),
                },
            );
        Ok(reports.collect())
    }
}

async fn queued_events(tx: &mut SqliteConnection, filter: &EventFilter) -> Result<Vec<EventRow>> {
    let found: Vec<EventRow> = sqlx::query_as(
        "-- postrider: events_queued
        SELECT 'queued' AS state, unhex(replace(id, '-', '')) AS id,
            CAST(account AS BLOB) AS account, CAST(event_type AS BLOB) AS event_type,
            CAST(ordering_key AS BLOB) AS ordering_key, CAST(dedup_key AS BLOB) AS dedup_key,
            NULL AS payload, NULL AS occurred_at, NULL AS fanned_out_at, NULL AS erased_at,
            CAST(coalesce(occurred_at, created_at) AS BLOB) AS time
        FROM postrider_outbox
        WHERE (?1 IS NULL OR id < ?1) AND id >= ?5 AND length(unhex(replace(id, '-', ''))) = 16
            AND (?2 IS NULL OR account = ?2) AND (?3 IS NULL OR event_type = ?3)
        ORDER BY id DESC LIMIT ?4",
    )
    .bind(last_before(filter.before.map(|id| id.0), filter.until).map(|id| id.to_string()))
    .bind(&filter.account)
    .bind(&filter.event_type)
    .bind(filter.limit)
    .bind(
        filter
            .since
            .map_or(Uuid::nil(), |at| DeliveryId::first_since(at).0)
            .to_string(),
    )
    .fetch_all(tx)
    .await?;
    Ok(found)
}

async fn event_days(tx: &mut SqliteConnection) -> Result<Vec<i32>> {
    sqlx::query_scalar(concat!(
        "-- postrider: event_days\n",
        days!("postrider_events"),
        "SELECT day FROM days WHERE day IS NOT NULL"
    ))
    .fetch_all(tx)
    .await
    .map_err(Into::into)
}

async fn events_of_day(
    tx: &mut SqliteConnection,
    day: i32,
    filter: &EventFilter,
    newer_than: Option<Uuid>,
) -> Result<Vec<EventRow>> {
    sqlx::query_as(
        "-- postrider: events
        SELECT 'fanned_out' AS state, id, CAST(account AS BLOB) AS account,
            CAST(event_type AS BLOB) AS event_type, CAST(ordering_key AS BLOB) AS ordering_key,
            CAST(dedup_key AS BLOB) AS dedup_key, NULL AS payload, occurred_at, fanned_out_at,
            erased_at, NULL AS time
        FROM postrider_events
        WHERE slot = 0 AND day = ?1 AND id > ?2 AND id < ?3
            AND (?4 IS NULL OR account = ?4) AND (?5 IS NULL OR event_type = ?5)
        ORDER BY id DESC LIMIT ?6",
    )
    .bind(day)
    .bind(after(newer_than).max(since(filter.since)))
    .bind(before(last_before(
        filter.before.map(|id| id.0),
        filter.until,
    )))
    .bind(&filter.account)
    .bind(&filter.event_type)
    .bind(filter.limit)
    .fetch_all(tx)
    .await
    .map_err(Into::into)
}

/// The id that an older day's rows must beat to be among the newest `limit`.
fn nth_newest(found: &[EventRow], limit: usize) -> Option<Uuid> {
    let last = found.get(limit.checked_sub(1)?)?;
    Some(last.id)
}

/// The bound below, as it is compared: nothing sorts before the empty one.
pub(super) fn after(id: Option<Uuid>) -> Vec<u8> {
    id.map(|id| id.as_bytes().to_vec()).unwrap_or_default()
}

/// The bound below of what was inserted at this time or later, as it is compared.
pub(super) fn since(time: Option<Timestamp>) -> Vec<u8> {
    time.map(|time| DeliveryId::first_since(time).0.as_bytes()[..6].to_vec())
        .unwrap_or_default()
}

/// The id that all others must be below, if there is one.
pub(super) fn last_before(id: Option<Uuid>, until: Option<Timestamp>) -> Option<Uuid> {
    let until = until.map(|at| DeliveryId::first_since(at).0);
    [id, until].into_iter().flatten().min()
}

/// The bound above, as it is compared.
pub(super) fn before(id: Option<Uuid>) -> Vec<u8> {
    id.map_or_else(|| AFTER_ALL.to_vec(), |id| id.as_bytes().to_vec())
}

/// An event as it is read, from any of the three tables it may be in.
struct EventRow {
    state: EventState,
    id: Uuid,
    account: Option<Vec<u8>>,
    event_type: Option<Vec<u8>>,
    ordering_key: Option<Vec<u8>>,
    dedup_key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    occurred_at: Option<i64>,
    fanned_out_at: Option<i64>,
    erased_at: Option<i64>,
    /// When it happened, as the application wrote it.
    time: Option<Vec<u8>>,
}

impl FromRow<'_, SqliteRow> for EventRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            state: match row.try_get("state")? {
                "fanned_out" => EventState::FannedOut,
                "queued" => EventState::Queued,
                _ => EventState::Rejected,
            },
            id: row.try_get("id")?,
            account: row.try_get("account")?,
            event_type: row.try_get("event_type")?,
            ordering_key: row.try_get("ordering_key")?,
            dedup_key: row.try_get("dedup_key")?,
            payload: row.try_get("payload")?,
            occurred_at: row.try_get("occurred_at")?,
            fanned_out_at: row.try_get("fanned_out_at")?,
            erased_at: row.try_get("erased_at")?,
            time: row.try_get("time")?,
        })
    }
}

impl EventRow {
    fn into_report(self) -> EventReport {
        let written = self.time.map(readable);
        EventReport {
            id: EventId(self.id),
            account: self.account.map(readable).unwrap_or_default(),
            event_type: self.event_type.map(readable).unwrap_or_default(),
            state: self.state,
            occurred_at: self
                .occurred_at
                .map(moment)
                .or_else(|| parse_time(&written?)),
            fanned_out_at: self.fanned_out_at.map(moment),
            ordering_key: self.ordering_key.map(readable),
            dedup_key: self.dedup_key.map(readable),
            erased_at: self.erased_at.map(moment),
            // A rejected payload may be no JSON; then there is nothing to show.
            payload: self
                .payload
                .and_then(|payload| String::from_utf8(payload).ok())
                .and_then(|payload| RawValue::from_string(payload).ok()),
        }
    }
}

struct AttemptRow(AttemptReport);

impl FromRow<'_, SqliteRow> for AttemptRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self(AttemptReport {
            id: AttemptId(row.try_get("id")?),
            number: row.try_get("number")?,
            at: moment(row.try_get("at")?),
            outcome: row.try_get("outcome")?,
            status: row.try_get("status")?,
            error: row.try_get("error")?,
            duration_ms: row.try_get("duration_ms")?,
            response: row.try_get::<Option<Vec<u8>>, _>("response")?.map(readable),
            late: row.try_get("late")?,
        }))
    }
}

/// Bytes as text; what is not UTF-8 is replaced.
fn readable(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
