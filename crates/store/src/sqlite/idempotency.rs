//! Calls that publish events once, however often they are made.
//!
//! There is one writer: a second call with the same key reads the result of the first.

use super::SqliteStore;
use super::values::micros;
use crate::idempotency::{FORGOTTEN_AT_ONCE, answer_to_repeat};
use crate::{EnqueuedOnce, IDEMPOTENCY_KEPT, Idempotency, Result};
use postrider_core::{EventId, NewEvent, Timestamp};
use sqlx::SqliteConnection;
use uuid::Uuid;

impl SqliteStore {
    pub(super) async fn enqueue_once(
        &self,
        call: &Idempotency,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<EnqueuedOnce> {
        for event in events {
            event.check()?;
        }
        let mut tx = self.writer.begin().await?;
        if let Some(before) = recorded(&mut tx, call, now).await? {
            return Ok(before);
        }
        let ids = postrider_producer::sqlite::enqueue_many(&mut tx, events).await?;
        sqlx::query(
            "-- postrider: idempotency
            REPLACE INTO postrider_idempotency (caller, key, digest, ids, created_at)
            VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(call.caller.0)
        .bind(&call.key)
        .bind(call.digest.as_slice())
        .bind(
            ids.iter()
                .flat_map(|id| *id.0.as_bytes())
                .collect::<Vec<u8>>(),
        )
        .bind(micros(now))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(EnqueuedOnce::Now(ids))
    }

    /// Deletes calls that are older than [`IDEMPOTENCY_KEPT`].
    pub(super) async fn forget_calls(&self, now: Timestamp) -> Result<()> {
        let oldest = micros(now - IDEMPOTENCY_KEPT);
        let found: bool = sqlx::query_scalar(
            "-- postrider: forgettable_calls
            SELECT EXISTS (SELECT 1 FROM postrider_idempotency WHERE created_at <= ?1)",
        )
        .bind(oldest)
        .fetch_one(&self.readers)
        .await?;
        if !found {
            return Ok(());
        }
        let mut tx = self.writer.begin().await?;
        sqlx::query(
            "-- postrider: forget_calls
            DELETE FROM postrider_idempotency WHERE rowid IN (
                SELECT rowid FROM postrider_idempotency WHERE created_at <= ?1
                ORDER BY created_at LIMIT ?2
            )",
        )
        .bind(oldest)
        .bind(FORGOTTEN_AT_ONCE)
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }
}

/// The result of the first call with this key, if it is on record.
async fn recorded(
    tx: &mut SqliteConnection,
    call: &Idempotency,
    now: Timestamp,
) -> Result<Option<EnqueuedOnce>> {
    let found: Option<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "-- postrider: idempotency_recorded
        SELECT digest, ids FROM postrider_idempotency
        WHERE caller = ?1 AND key = ?2 AND created_at > ?3",
    )
    .bind(call.caller.0)
    .bind(&call.key)
    .bind(micros(now - IDEMPOTENCY_KEPT))
    .fetch_optional(tx)
    .await?;
    Ok(found.map(|(digest, ids)| {
        let ids = ids.chunks_exact(16);
        let ids = ids.filter_map(|id| Uuid::from_slice(id).ok());
        answer_to_repeat(call, &digest, ids.map(EventId).collect())
    }))
}
