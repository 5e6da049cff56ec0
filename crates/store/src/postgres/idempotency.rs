//! Calls that publish events once, however often they are made.
//!
//! Whoever records a call first holds its row until the events are committed with it: another
//! with the same key waits for that, and then finds what became of the first.

use super::PostgresStore;
use crate::Result;
use crate::{EnqueuedOnce, Error, IDEMPOTENCY_KEPT, Idempotency};
use postrider_core::{EventId, NewEvent, Timestamp};
use postrider_producer::postgres::enqueue_many;
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;
use uuid::Uuid;

/// Calls forgotten at a time.
const FORGOTTEN: i64 = 100_000;

impl PostgresStore {
    pub(super) async fn insert_once(
        &self,
        call: &Idempotency,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<EnqueuedOnce> {
        for event in events {
            event.check()?;
        }
        let mut tx = self.intake.begin().await?;
        if !record(&mut tx, call, now).await? {
            tx.rollback().await?;
            return self.recorded(call).await;
        }
        let ids = enqueue_many(&mut tx, events).await?;
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

    /// What became of the call that was first.
    async fn recorded(&self, call: &Idempotency) -> Result<EnqueuedOnce> {
        let found: Option<(Vec<u8>, Vec<Uuid>)> = sqlx::query_as(
            "-- postrider: idempotency_recorded
            SELECT digest, ids FROM postrider_idempotency WHERE caller = $1 AND key = $2",
        )
        .bind(call.caller.0)
        .bind(&call.key)
        .fetch_optional(&self.intake)
        .await?;
        match found {
            Some((digest, ids)) if digest == call.digest => {
                let ids = ids.into_iter().map(EventId);
                Ok(EnqueuedOnce::Before(ids.collect()))
            }
            Some(_) => Ok(EnqueuedOnce::Mismatch),
            None => Err(Error::Conflict(
                "the call with this key was forgotten in this moment: make it again".into(),
            )),
        }
    }
}

/// Records a call, unless it is on record.
async fn record(connection: &mut PgConnection, call: &Idempotency, now: Timestamp) -> Result<bool> {
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

/// Forgets calls that are too old.
pub(super) async fn forget_calls(connection: &mut PgConnection, now: Timestamp) -> Result<()> {
    sqlx::query(
        "-- postrider: forget_calls
        DELETE FROM postrider_idempotency WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM postrider_idempotency WHERE created_at <= $1
            ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
        ))",
    )
    .bind(now - IDEMPOTENCY_KEPT)
    .bind(FORGOTTEN)
    .execute(connection)
    .await?;
    Ok(())
}
