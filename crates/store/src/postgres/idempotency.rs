//! Calls that publish events once, however often they are made.
//!
//! The first call holds the row of its key until its events are committed. Another call with the
//! same key waits for that, and then reads the result of the first.

use super::PostgresStore;
use super::connection::Connection;
use crate::idempotency::{FORGOTTEN_AT_ONCE, answer_to_repeat};
use crate::{EnqueuedOnce, Error, IDEMPOTENCY_KEPT, Idempotency, Result};
use postrider_core::{EventId, NewEvent, Timestamp};
use postrider_producer::postgres::enqueue_many;
use sqlx::postgres::PgBindIterExt;
use uuid::Uuid;

/// Publishes events, unless a call with the same key did before.
pub(super) async fn enqueue_once(
    store: &PostgresStore,
    call: &Idempotency,
    events: &[NewEvent],
    now: Timestamp,
) -> Result<EnqueuedOnce> {
    for event in events {
        event.check()?;
    }
    let mut tx = store.intake.begin().await?;
    if !record(&mut tx, call, now).await? {
        tx.rollback().await?;
        return recorded(store, call).await;
    }
    let ids = tx.lend(|raw| enqueue_many(raw, events)).await?;
    sqlx::query(
        "-- postrider: idempotency_ids
        UPDATE postrider_idempotency SET ids = $3 WHERE caller = $1 AND key = $2",
    )
    .bind(call.caller.0)
    .bind(&call.key)
    .bind(ids.iter().map(|id| id.0).bind_iter())
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(EnqueuedOnce::Now(ids))
}

/// The result of the first call with this key.
async fn recorded(store: &PostgresStore, call: &Idempotency) -> Result<EnqueuedOnce> {
    let found: Option<(Vec<u8>, Vec<Uuid>)> = sqlx::query_as(
        "-- postrider: idempotency_recorded
        SELECT digest, ids FROM postrider_idempotency WHERE caller = $1 AND key = $2",
    )
    .bind(call.caller.0)
    .bind(&call.key)
    .fetch_optional(&store.intake)
    .await?;
    let (digest, ids) = found.ok_or_else(|| {
        Error::Conflict("the call with this key was forgotten in this moment: make it again".into())
    })?;
    let events = ids.into_iter().map(EventId).collect();
    Ok(answer_to_repeat(call, &digest, events))
}

/// Records a call. `false`: its key is on record.
async fn record(connection: &mut Connection, call: &Idempotency, now: Timestamp) -> Result<bool> {
    let recorded = sqlx::query(
        "-- postrider: idempotency
        INSERT INTO postrider_idempotency AS i (caller, key, digest, ids, created_at)
        VALUES ($1, $2, $3, '{}', $4)
        ON CONFLICT (caller, key) DO UPDATE SET digest = $3, ids = '{}', created_at = $4
        WHERE i.created_at <= $5",
    )
    .bind(call.caller.0)
    .bind(&call.key)
    .bind(call.digest.as_slice())
    .bind(now)
    .bind(now - IDEMPOTENCY_KEPT)
    .execute(connection)
    .await?;
    Ok(recorded.rows_affected() > 0)
}

/// Deletes calls that are older than [`IDEMPOTENCY_KEPT`].
pub(super) async fn forget_calls(connection: &mut Connection, now: Timestamp) -> Result<()> {
    sqlx::query(
        "-- postrider: forget_calls
        DELETE FROM postrider_idempotency WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM postrider_idempotency WHERE created_at <= $1
            ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
        ))",
    )
    .bind(now - IDEMPOTENCY_KEPT)
    .bind(FORGOTTEN_AT_ONCE)
    .execute(connection)
    .await?;
    Ok(())
}
