//! Rows of the outbox as they are read, locked, and whether they can become events.
//!
//! A row that cannot is a rejected row, never an error that stops its batch. A batch holds no
//! more bytes of payload than it was asked for, however well the database compressed them.

use super::PostgresStore;
use super::connection::Connection;
use super::outbox_cursor::Stretch;
use super::values::within_calendar;
use crate::Result;
use crate::fan_out::{OutboxRow, objection};
use crate::{FanOutRequest, HookCache};
use postrider_core::{Event, EventId, HookId, Payload, Timestamp, scrub};
use sqlx::Row;
use sqlx::postgres::PgRow;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Outbox rows, locked, and the hooks they are matched against.
pub(super) struct Batch {
    pub rows: Vec<RawRow>,
    pub cache: Arc<HookCache>,
    /// Whether there may be more rows than these.
    pub more: bool,
}

/// A row as it was read.
pub(super) struct RawRow {
    pub seq: i64,
    /// The row, or why it cannot be read.
    read: std::result::Result<OutboxRow, String>,
}

/// The decision about a row.
pub(super) enum Verdict {
    /// It can become an event.
    Accepted(OutboxRow),
    /// It cannot.
    Rejected { seq: i64, reason: String },
}

impl PostgresStore {
    /// Reads and locks the first rows of a stretch of the slot, at most `size`.
    pub(super) async fn read_batch(
        &self,
        connection: &mut Connection,
        request: &FanOutRequest,
        size: u32,
        stretch: Stretch,
    ) -> Result<Batch> {
        // What is within its share fits in any number; the rest waits until that is read.
        let share = request.max_bytes / u64::from(size.max(1));
        let rows = sqlx::query(concat!(
            "-- postrider: fan_out_rows
            SELECT seq, id, account, event_type, ordering_key, dedup_key, headers,
                   CASE WHEN happened_at ",
            within_calendar!(),
            " THEN happened_at END AS happened_at,
                   CASE WHEN deliver_after ",
            within_calendar!(),
            " THEN deliver_after END AS deliver_after,
                   CASE WHEN happened_at NOT ",
            within_calendar!(),
            " THEN 'occurred_at (' || happened_at || ')'
                        WHEN deliver_after NOT ",
            within_calendar!(),
            " THEN 'deliver_after (' || deliver_after || ')' END AS odd_time,
                   CASE WHEN octet_length(payload) <= $3 THEN payload END AS payload, stored,
                   (SELECT hooks_version FROM postrider_meta WHERE singleton) AS hooks_version,
                   about_hook
            FROM (
                SELECT seq, id, account, event_type, ordering_key, dedup_key, about_hook,
                       headers::text AS headers, deliver_after,
                       coalesce(occurred_at, created_at) AS happened_at,
                       pg_column_size(payload) AS stored,
                       CASE WHEN pg_column_size(payload) <= $3 THEN payload::text END AS payload
                FROM postrider_outbox
                WHERE slot = $1 AND seq >= $4 AND seq < $5
                ORDER BY seq LIMIT $2
                FOR UPDATE SKIP LOCKED
            ) AS o",
        ))
        .bind(request.slot)
        .bind(i64::from(size))
        .bind(bytes(share))
        .bind(stretch.0)
        .bind(stretch.1)
        .fetch_all(&mut *connection)
        .await?;
        let Some(first) = rows.first() else {
            return Ok(Batch {
                rows: Vec::new(),
                cache: self.cache.get(),
                more: false,
            });
        };
        let cache = self
            .hooks_at(connection, first.try_get("hooks_version")?)
            .await?;
        let locked = rows.len();
        let rows = with_payloads(connection, request, rows).await?;
        Ok(Batch {
            more: rows.len() < locked || locked >= size as usize,
            rows,
            cache,
        })
    }
}

/// The rows up to the first whose payload would be too much.
async fn with_payloads(
    connection: &mut Connection,
    request: &FanOutRequest,
    rows: Vec<PgRow>,
) -> Result<Vec<RawRow>> {
    let mut left = request.max_bytes;
    let mut large = Vec::new();
    for row in &rows {
        match row.try_get::<Option<&str>, _>("payload")? {
            Some(payload) => left = left.saturating_sub(payload.len() as u64),
            None => large.push((row.try_get("seq")?, row.try_get("stored")?)),
        }
    }
    let first = rows.first().map_or(Ok(0), |row| row.try_get("seq"))?;
    let mut large = large_payloads(connection, request.slot, &large, first, left).await?;
    let mut read = Vec::with_capacity(rows.len());
    let mut left = request.max_bytes;
    for row in &rows {
        let payload = match row.try_get::<Option<&str>, _>("payload")? {
            Some(payload) => Payload::from_checked(payload),
            None => match large.remove(&row.try_get("seq")?) {
                Some(payload) => Payload::from_checked(payload),
                None => break,
            },
        };
        let size = payload.as_str().len() as u64;
        if size > left && !read.is_empty() {
            break;
        }
        left = left.saturating_sub(size);
        read.push(RawRow::of(row, payload)?);
    }
    Ok(read)
}

/// The payloads of these rows (`seq` and the bytes they are stored in), as far as `left` goes.
/// The first row of all is read in any case.
async fn large_payloads(
    connection: &mut Connection,
    slot: i16,
    rows: &[(i64, i32)],
    first: i64,
    left: u64,
) -> Result<HashMap<i64, String>> {
    let mut stored = 0;
    let seqs: Vec<_> = rows
        .iter()
        .take_while(|(seq, size)| {
            stored += u64::from(size.unsigned_abs());
            stored <= left || *seq == first
        })
        .map(|(seq, _)| *seq)
        .collect();
    if seqs.is_empty() {
        return Ok(HashMap::new());
    }
    let payloads: Vec<(i64, String)> = sqlx::query_as(
        "-- postrider: fan_out_large
        WITH sized AS MATERIALIZED (
            SELECT seq, (
                SELECT CASE WHEN pg_column_compression(payload) IS NULL
                            THEN pg_column_size(payload)
                            ELSE octet_length(payload::text) END
                FROM postrider_outbox WHERE slot = $1 AND seq = i.seq
            ) AS size
            FROM unnest($2::bigint[]) AS i (seq)
        ), summed AS (
            SELECT seq, sum(size) OVER (ORDER BY seq) AS upto FROM sized
        )
        SELECT seq, (SELECT payload::text FROM postrider_outbox
                     WHERE slot = $1 AND seq = summed.seq)
        FROM summed WHERE upto <= $3 OR seq = $4",
    )
    .bind(slot)
    .bind(seqs)
    .bind(bytes(left))
    .bind(first)
    .fetch_all(connection)
    .await?;
    Ok(payloads.into_iter().collect())
}

fn bytes(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl RawRow {
    fn of(row: &PgRow, payload: Payload) -> std::result::Result<Self, sqlx::Error> {
        let seq = row.try_get("seq")?;
        let odd_time: Option<&str> = row.try_get("odd_time")?;
        let read = match odd_time {
            Some(odd_time) => Err(format!("{odd_time} lies outside the years 1 to 9999")),
            None => Ok(OutboxRow {
                seq,
                event: Arc::new(Event {
                    id: EventId(row.try_get("id")?),
                    account: row.try_get("account")?,
                    event_type: row.try_get("event_type")?,
                    payload,
                    ordering_key: row.try_get("ordering_key")?,
                    headers: row.try_get("headers")?,
                    occurred_at: row.try_get("happened_at")?,
                }),
                dedup_key: row.try_get("dedup_key")?,
                deliver_after: row.try_get("deliver_after")?,
                about: row.try_get::<Option<Uuid>, _>("about_hook")?.map(HookId),
            }),
        };
        Ok(Self { seq, read })
    }

    /// Judges the row; one that is not to be delivered before `deliver_before` is refused.
    pub(super) fn judge(self, deliver_before: Timestamp) -> Verdict {
        let accepted = self
            .read
            .and_then(|row| match objection(&row, deliver_before) {
                Some(reason) => Err(reason),
                None => Ok(row),
            });
        match accepted {
            Ok(row) => Verdict::Accepted(row),
            Err(reason) => Verdict::Rejected {
                seq: self.seq,
                reason: scrub(&reason),
            },
        }
    }
}
