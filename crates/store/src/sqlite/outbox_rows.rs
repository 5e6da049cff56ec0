//! Rows of the outbox as they were read, and whether they can become events.
//!
//! SQLite stores any bytes as text, and any text as an id or a time. What an application wrote
//! is therefore read as bytes and judged here; what does not pass is a rejected row, never an
//! error that stops its batch.
//!
//! A batch comes as one text, its fields separated by a byte that stands in no UTF-8: a value
//! for each field of each row would cost more than all else in reading. If that text cannot be
//! taken apart, some row has that byte, and the rows are read field by field.

use super::values::parse_time;
use crate::Result as StoreResult;
use crate::fan_out::{OutboxRow, objection};
use postrider_core::{Event, EventError, EventId, HookId, Payload, Timestamp};
use serde_json::value::RawValue;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::sync::Arc;
use uuid::Uuid;

/// The byte between two fields.
const SEPARATOR: u8 = 0xff;

/// A row as it was read.
pub(super) struct RawRow<'a> {
    pub seq: i64,
    id: &'a [u8],
    account: &'a [u8],
    event_type: &'a [u8],
    payload: &'a [u8],
    ordering_key: Option<&'a [u8]>,
    dedup_key: Option<&'a [u8]>,
    deliver_after: Option<&'a [u8]>,
    occurred_at: Option<&'a [u8]>,
    headers: Option<&'a [u8]>,
    created_at: &'a [u8],
    about_hook: Option<&'a [u8]>,
}

/// Reads the rows up to `last_seq`, and judges them; one that is not to be delivered before
/// `deliver_before` is refused.
pub(super) async fn read_rows(
    tx: &mut SqliteConnection,
    last_seq: i64,
    now: Timestamp,
    deliver_before: Timestamp,
) -> StoreResult<Vec<Verdict>> {
    let batch = sqlx::query(
        "-- postrider: fan_out_rows
        SELECT count(*), group_concat(concat_ws(CAST(x'ff' AS TEXT), seq, id, account, event_type,
            created_at, ifnull('=' || ordering_key, ''), ifnull('=' || dedup_key, ''),
            ifnull('=' || deliver_after, ''), ifnull('=' || occurred_at, ''),
            ifnull('=' || headers, ''), ifnull('=' || about_hook, ''), octet_length(payload),
            payload), '')
        FROM postrider_outbox WHERE seq <= ?1",
    )
    .bind(last_seq)
    .fetch_one(&mut *tx)
    .await?;
    let count: u32 = batch.try_get(0)?;
    let packed: &[u8] = batch.try_get(1)?;
    let judge = |row: RawRow<'_>| row.judge(now, deliver_before);
    if let Some(mut rows) = unpack(packed, count as usize) {
        rows.sort_by_key(|row| row.seq);
        return Ok(rows.into_iter().map(judge).collect());
    }
    let apart = sqlx::query(
        "-- postrider: fan_out_fields
        SELECT seq, id, account, event_type, payload, ordering_key, dedup_key, deliver_after,
            occurred_at, headers, created_at, about_hook
        FROM postrider_outbox WHERE seq <= ?1 ORDER BY seq",
    )
    .bind(last_seq)
    .fetch_all(tx)
    .await?;
    apart
        .iter()
        .map(|row| Ok(judge(RawRow::of(row)?)))
        .collect()
}

/// Takes a batch apart that is exactly `count` rows.
fn unpack(mut packed: &[u8], count: usize) -> Option<Vec<RawRow<'_>>> {
    let mut rows = Vec::with_capacity(count);
    while rows.len() < count {
        rows.push(take_row(&mut packed)?);
    }
    packed.is_empty().then_some(rows)
}

fn take_row<'a>(packed: &mut &'a [u8]) -> Option<RawRow<'a>> {
    let seq = number(take_field(packed)?)?;
    let id = take_field(packed)?;
    let account = take_field(packed)?;
    let event_type = take_field(packed)?;
    let created_at = take_field(packed)?;
    let ordering_key = take_optional(packed)?;
    let dedup_key = take_optional(packed)?;
    let deliver_after = take_optional(packed)?;
    let occurred_at = take_optional(packed)?;
    let headers = take_optional(packed)?;
    let about_hook = take_optional(packed)?;
    let length = usize::try_from(number(take_field(packed)?)?).ok()?;
    Some(RawRow {
        seq,
        id,
        account,
        event_type,
        payload: packed.split_off(..length)?,
        ordering_key,
        dedup_key,
        deliver_after,
        occurred_at,
        headers,
        created_at,
        about_hook,
    })
}

fn take_field<'a>(packed: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = packed.iter().position(|byte| *byte == SEPARATOR)?;
    let field = packed.split_off(..end)?;
    packed.split_off_first()?;
    Some(field)
}

/// A field that may be missing: one that is there begins with a sign.
fn take_optional<'a>(packed: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let field = take_field(packed)?;
    match field.split_first() {
        None => Some(None),
        Some((b'=', value)) => Some(Some(value)),
        Some(_) => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The decision about a row.
pub(super) enum Verdict {
    /// It can become an event.
    Accepted(OutboxRow),
    /// It cannot.
    Rejected {
        seq: i64,
        id: EventId,
        reason: String,
    },
}

impl<'a> RawRow<'a> {
    fn of(row: &'a SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            seq: row.try_get("seq")?,
            id: row.try_get("id")?,
            account: row.try_get("account")?,
            event_type: row.try_get("event_type")?,
            payload: row.try_get("payload")?,
            ordering_key: row.try_get("ordering_key")?,
            dedup_key: row.try_get("dedup_key")?,
            deliver_after: row.try_get("deliver_after")?,
            occurred_at: row.try_get("occurred_at")?,
            headers: row.try_get("headers")?,
            created_at: row.try_get("created_at")?,
            about_hook: row.try_get("about_hook")?,
        })
    }

    /// Judges the row; one that is not to be delivered before `deliver_before` is refused.
    fn judge(self, now: Timestamp, deliver_before: Timestamp) -> Verdict {
        let (seq, id) = (self.seq, kept_id(self.id, now));
        let accepted = self
            .parse()
            .and_then(|row| match objection(&row, deliver_before) {
                Some(reason) => Err(reason),
                None => Ok(row),
            });
        match accepted {
            Ok(row) => Verdict::Accepted(row),
            Err(reason) => Verdict::Rejected { seq, id, reason },
        }
    }

    fn parse(self) -> Result<OutboxRow, String> {
        let id = Uuid::try_parse_ascii(self.id)
            .map_err(|_| "the id is not a UUID: leave the column id out".to_owned())?;
        let payload = text("payload", self.payload)?;
        serde_json::from_str::<&RawValue>(payload)
            .map_err(|error| EventError::PayloadMalformed(error.to_string()).to_string())?;
        let created_at = time("created_at", self.created_at)?;
        let occurred_at = optional(self.occurred_at, |at| time("occurred_at", at))?;
        Ok(OutboxRow {
            seq: self.seq,
            event: Arc::new(Event {
                id: EventId(id),
                account: text("account", self.account)?.into(),
                event_type: text("event_type", self.event_type)?.into(),
                payload: Payload::from_checked(payload),
                ordering_key: owned("ordering_key", self.ordering_key)?,
                headers: owned("headers", self.headers)?,
                occurred_at: occurred_at.unwrap_or(created_at),
            }),
            dedup_key: owned("dedup_key", self.dedup_key)?,
            deliver_after: optional(self.deliver_after, |at| time("deliver_after", at))?,
            about: self
                .about_hook
                .and_then(|id| Uuid::try_parse_ascii(id).ok())
                .map(HookId),
        })
    }
}

/// The id a rejected row is kept under: its own, if it is one.
pub(super) fn kept_id(id: &[u8], now: Timestamp) -> EventId {
    Uuid::try_parse_ascii(id).map_or_else(|_| EventId::draw(now), EventId)
}

fn optional<T>(
    bytes: Option<&[u8]>,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<Option<T>, String> {
    bytes.map(parse).transpose()
}

fn owned(column: &str, bytes: Option<&[u8]>) -> Result<Option<String>, String> {
    optional(bytes, |bytes| text(column, bytes).map(str::to_owned))
}

fn text<'a>(column: &str, bytes: &'a [u8]) -> Result<&'a str, String> {
    str::from_utf8(bytes).map_err(|_| format!("the {column} is not valid UTF-8"))
}

fn time(column: &str, bytes: &[u8]) -> Result<Timestamp, String> {
    let text = text(column, bytes)?;
    parse_time(text)
        .ok_or_else(|| format!("the {column} {text:?} is not a time such as 2026-01-31T12:00:00Z"))
}
