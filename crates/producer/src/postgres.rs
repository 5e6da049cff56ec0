//! Writes events into the outbox of a PostgreSQL database.
//!
//! The statements need the privileges of a plain `INSERT` into the outbox: they read no other table
//! of Postrider.

use crate::EnqueueError;
use postrider_core::{EventId, NewEvent};
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;
use uuid::Uuid;

/// Writes one event and returns its id, which receivers see as `webhook-id`. In a transaction the
/// event commits or rolls back with it.
///
/// # Errors
/// When the event exceeds a limit, or the database refuses it.
pub async fn enqueue(
    connection: &mut PgConnection,
    event: &NewEvent,
) -> Result<EventId, EnqueueError> {
    let ids = enqueue_many(connection, std::slice::from_ref(event)).await?;
    let first = ids.into_iter().next();
    Ok(first.ok_or(sqlx::Error::RowNotFound)?)
}

/// Writes all events or none, in one statement, and returns their ids in the same order.
///
/// # Errors
/// When an event exceeds a limit, before anything is sent, or the database refuses one.
pub async fn enqueue_many(
    connection: &mut PgConnection,
    events: &[NewEvent],
) -> Result<Vec<EventId>, EnqueueError> {
    for event in events {
        event.check()?;
    }
    if events.is_empty() {
        return Ok(Vec::new());
    }
    // Events without a key may go to any slot. One random key for each call spreads the calls over
    // the slots without reading their number.
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: enqueue
        INSERT INTO postrider_outbox
            (slot, account, event_type, payload, ordering_key, dedup_key, deliver_after,
             occurred_at, headers)
        SELECT CASE WHEN coalesce(ordering_key, dedup_key) IS NULL
                    THEN (SELECT postrider_slot($9::text))
                    ELSE postrider_slot(coalesce(ordering_key, dedup_key)) END,
               account, event_type, payload::json, ordering_key, dedup_key, deliver_after,
               occurred_at, headers::json
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
                    $6::timestamptz[], $7::timestamptz[], $8::text[])
            WITH ORDINALITY AS e (account, event_type, payload, ordering_key, dedup_key,
                                  deliver_after, occurred_at, headers, place)
        ORDER BY place
        RETURNING id",
    )
    .bind(events.iter().map(|e| e.account.as_str()).bind_iter())
    .bind(events.iter().map(|e| e.event_type.as_str()).bind_iter())
    .bind(events.iter().map(|e| e.payload.get()).bind_iter())
    .bind(events.iter().map(|e| e.ordering_key.as_deref()).bind_iter())
    .bind(events.iter().map(|e| e.dedup_key.as_deref()).bind_iter())
    .bind(events.iter().map(|e| e.deliver_after).bind_iter())
    .bind(events.iter().map(|e| e.occurred_at).bind_iter())
    .bind(events.iter().map(|e| e.headers.as_deref()).bind_iter())
    .bind(Uuid::now_v7().to_string())
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(EventId).collect())
}
