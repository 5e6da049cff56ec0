//! Writes events into the outbox of a SQLite database.
//!
//! The events belong to the caller's transaction, if one is open: they are delivered when it
//! commits, and never when it rolls back. Begin it with `BEGIN IMMEDIATE`: a transaction that
//! reads first and writes later fails at once when another one wrote in between.

use crate::EnqueueError;
use postrider_core::{EventId, NewEvent, Timestamp};
use serde::Serialize;
use sqlx::SqliteConnection;
use uuid::fmt::Hyphenated;

/// Writes one event and returns its id, which receivers see as `webhook-id`.
///
/// # Errors
/// When the event breaks a bound, or the database does not take it.
pub async fn enqueue(
    connection: &mut SqliteConnection,
    event: &NewEvent,
) -> Result<EventId, EnqueueError> {
    event.check()?;
    let id: Hyphenated = sqlx::query_scalar(
        "-- postrider: enqueue
        INSERT INTO postrider_outbox
            (account, event_type, payload, ordering_key, dedup_key, deliver_after, occurred_at, headers)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
        RETURNING id",
    )
    .bind(&event.account)
    .bind(&event.event_type)
    .bind(event.payload.get())
    .bind(&event.ordering_key)
    .bind(&event.dedup_key)
    .bind(event.deliver_after.map(text))
    .bind(event.occurred_at.map(text))
    .bind(&event.headers)
    .fetch_one(connection)
    .await?;
    Ok(EventId(id.into_uuid()))
}

/// Writes several events in one statement, all or none, and returns their ids in the same
/// order. Every bound is checked before anything is written.
///
/// # Errors
/// When an event breaks a bound, or the database does not take one of them.
pub async fn enqueue_many(
    connection: &mut SqliteConnection,
    events: &[NewEvent],
) -> Result<Vec<EventId>, EnqueueError> {
    for event in events {
        event.check()?;
    }
    if let [event] = events {
        return Ok(vec![enqueue(connection, event).await?]);
    }
    let rows: Vec<Row<'_>> = events.iter().map(Row::of).collect();
    // RETURNING promises no order; `seq` grows with the rows as they are inserted.
    let mut ids: Vec<(i64, Hyphenated)> = sqlx::query_as(
        "-- postrider: enqueue_many
        INSERT INTO postrider_outbox
            (account, event_type, payload, ordering_key, dedup_key, deliver_after, occurred_at, headers)
        SELECT value ->> 'account', value ->> 'event_type', value ->> 'payload',
               value ->> 'ordering_key', value ->> 'dedup_key', value ->> 'deliver_after',
               value ->> 'occurred_at', value ->> 'headers'
        FROM json_each(?1) ORDER BY key
        RETURNING seq, id",
    )
    .bind(sqlx::types::Json(&rows))
    .fetch_all(connection)
    .await?;
    ids.sort_unstable_by_key(|(seq, _)| *seq);
    Ok(ids
        .into_iter()
        .map(|(_, id)| EventId(id.into_uuid()))
        .collect())
}

/// An event as one element of the array that `enqueue_many` hands to the database.
#[derive(Serialize)]
struct Row<'a> {
    account: &'a str,
    event_type: &'a str,
    /// As a string, so that its bytes stay what they are.
    payload: &'a str,
    ordering_key: Option<&'a str>,
    dedup_key: Option<&'a str>,
    deliver_after: Option<String>,
    occurred_at: Option<String>,
    headers: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn of(event: &'a NewEvent) -> Self {
        Self {
            account: &event.account,
            event_type: &event.event_type,
            payload: event.payload.get(),
            ordering_key: event.ordering_key.as_deref(),
            dedup_key: event.dedup_key.as_deref(),
            deliver_after: event.deliver_after.map(text),
            occurred_at: event.occurred_at.map(text),
            headers: event.headers.as_deref(),
        }
    }
}

fn text(at: Timestamp) -> String {
    at.to_rfc3339()
}
