//! A row of the outbox as it was read, and whether it can become an event.
//!
//! SQLite stores any bytes as text, and any text as an id or a time. What an application wrote
//! is therefore read as bytes and judged here; what does not pass is a rejected row, never an
//! error that stops its batch.

use super::values::parse_time;
use crate::fan_out::{OutboxRow, objection};
use postrider_core::{Event, EventError, EventId, Payload, Timestamp};
use serde_json::value::RawValue;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};
use std::sync::Arc;
use uuid::Uuid;

/// A row as it was read, with what was read beside it.
pub(super) struct RawRow {
    pub seq: i64,
    id: Vec<u8>,
    account: Vec<u8>,
    event_type: Vec<u8>,
    payload: Vec<u8>,
    ordering_key: Option<Vec<u8>>,
    dedup_key: Option<Vec<u8>>,
    deliver_after: Option<Vec<u8>>,
    occurred_at: Option<Vec<u8>>,
    headers: Option<Vec<u8>>,
    created_at: Vec<u8>,
    /// The version of the hooks at the moment of reading.
    pub hooks_version: i64,
    /// How many rows stand in the outbox, counted up to the most that were asked for.
    pub queued: u32,
}

impl FromRow<'_, SqliteRow> for RawRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
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
            hooks_version: row.try_get("hooks_version")?,
            queued: row.try_get("queued")?,
        })
    }
}

/// What is to become of a row.
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

impl RawRow {
    /// Judges the row; one that is not to be delivered before `deliver_before` is refused.
    pub(super) fn judge(self, now: Timestamp, deliver_before: Timestamp) -> Verdict {
        let (seq, id) = (self.seq, Self::kept_id(&self.id, now));
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

    /// The id a rejected row is kept under: its own, if it is one.
    pub(super) fn kept_id(id: &[u8], now: Timestamp) -> EventId {
        Uuid::try_parse_ascii(id).map_or_else(|_| EventId::draw(now), EventId)
    }

    fn parse(self) -> Result<OutboxRow, String> {
        let id = Uuid::try_parse_ascii(&self.id)
            .map_err(|_| "the id is not a UUID: leave the column id out".to_owned())?;
        let payload = text("payload", self.payload)?;
        serde_json::from_str::<&RawValue>(&payload)
            .map_err(|error| EventError::PayloadMalformed(error.to_string()).to_string())?;
        let created_at = time("created_at", self.created_at)?;
        let occurred_at = optional(self.occurred_at, |at| time("occurred_at", at))?;
        Ok(OutboxRow {
            seq: self.seq,
            event: Arc::new(Event {
                id: EventId(id),
                account: text("account", self.account)?,
                event_type: text("event_type", self.event_type)?,
                payload: Payload::from_checked(payload),
                ordering_key: optional(self.ordering_key, |key| text("ordering_key", key))?,
                headers: optional(self.headers, |headers| text("headers", headers))?,
                occurred_at: occurred_at.unwrap_or(created_at),
            }),
            dedup_key: optional(self.dedup_key, |key| text("dedup_key", key))?,
            deliver_after: optional(self.deliver_after, |at| time("deliver_after", at))?,
        })
    }
}

fn optional<T>(
    bytes: Option<Vec<u8>>,
    parse: impl FnOnce(Vec<u8>) -> Result<T, String>,
) -> Result<Option<T>, String> {
    bytes.map(parse).transpose()
}

fn text(column: &str, bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| format!("the {column} is not valid UTF-8"))
}

fn time(column: &str, bytes: Vec<u8>) -> Result<Timestamp, String> {
    let text = text(column, bytes)?;
    parse_time(&text)
        .ok_or_else(|| format!("the {column} {text:?} is not a time such as 2026-01-31T12:00:00Z"))
}
