//! Writes events into the outbox of a SQLite database.
//!
//! Events are part of the caller's transaction, if one is open: they are delivered when it commits,
//! and never when it rolls back. Begin it with `BEGIN IMMEDIATE`: a transaction that reads first and
//! writes later fails at once when another connection has written in between.

use crate::EnqueueError;
use postrider_core::{EventId, NewEvent, Timestamp};
use serde::Serialize;
use sqlx::SqliteConnection;
use uuid::fmt::Hyphenated;

/// Writes one event and returns its id, which receivers see as `webhook-id`.
///
/// # Errors
/// When the event exceeds a limit, or the database refuses it.
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

/// Writes all events or none, in one statement, and returns their ids in the same order. Every limit
/// is checked before anything is written.
///
/// # Errors
/// When an event exceeds a limit, or the database refuses one.
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
    let rows: Vec<_> = events.iter().map(columns).collect();
    // RETURNING has no defined order; `seq` grows in the order of insertion.
    let mut ids: Vec<(i64, Hyphenated)> = sqlx::query_as(
        "-- postrider: enqueue_many
        WITH s (n, v) AS MATERIALIZED (SELECT key, value FROM json_each(?1))
        INSERT INTO postrider_outbox
            (account, event_type, payload, ordering_key, dedup_key, deliver_after, occurred_at, headers)
        SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, v ->> 4, v ->> 5, v ->> 6, v ->> 7
        FROM s ORDER BY n
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

/// One element of the JSON array that `enqueue_many` sends to the database. The payload is a string
/// in it, so that its bytes do not change.
fn columns(event: &NewEvent) -> impl Serialize {
    (
        &event.account,
        &event.event_type,
        event.payload.get(),
        &event.ordering_key,
        &event.dedup_key,
        event.deliver_after.map(text),
        event.occurred_at.map(text),
        &event.headers,
    )
}

fn text(at: Timestamp) -> String {
    at.to_rfc3339()
}
