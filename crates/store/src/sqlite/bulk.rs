//! Walks over the deliveries of a hook, a page at a time.
//!
//! A page looks at so many rows of an index and no more, whatever is meant of them, so that its
//! cost does not depend on the backlog or on what is asked for.

use super::values::{micros, moment, rows};
use crate::error::hook_not_found;
use crate::{BulkCursor, BulkPage, DeliveryState, Redelivery, Result};
use postrider_core::{DeliveryId, HookId, Timestamp};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use std::collections::HashSet;
use uuid::Uuid;

/// A delivery that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub day: i32,
    pub id: DeliveryId,
    pub event: Uuid,
    pub attempts: u32,
    /// When it is due; for one that has ended, when its event was made.
    pub at: Timestamp,
    /// How it has ended, if it has otherwise than delivered.
    pub ended: Option<String>,
    /// Its key, while it waits.
    pub ordering_key: Option<String>,
}

impl FromRow<'_, SqliteRow> for Seen {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let id = DeliveryId(row.try_get("id")?);
        let due: Option<i64> = row.try_get("due")?;
        Ok(Self {
            day: row.try_get("day")?,
            id,
            event: row.try_get("event_id")?,
            attempts: row.try_get("attempts")?,
            at: due.map_or_else(|| id.event_made_at(), moment),
            ended: row.try_get("ended")?,
            ordering_key: row.try_get("ordering_key")?,
        })
    }
}

impl Seen {
    pub(super) fn mark(&self) -> BulkCursor {
        BulkCursor {
            at: self.at,
            id: self.id,
        }
    }
}

/// How a hook stands, which stays so until the transaction ends.
pub(super) struct HookState {
    pub is_active: bool,
    pub is_deleted: bool,
}

/// How the hook stands.
pub(super) async fn hold_hook(tx: &mut SqliteConnection, id: HookId) -> Result<HookState> {
    let row: Option<(bool, bool)> = sqlx::query_as(
        "-- postrider: hold_hook
        SELECT status = 'active', deleted_at IS NOT NULL FROM postrider_hooks WHERE id = ?1",
    )
    .bind(id.0)
    .fetch_optional(tx)
    .await?;
    let (is_active, is_deleted) = row.ok_or_else(|| hook_not_found(id))?;
    Ok(HookState {
        is_active,
        is_deleted,
    })
}

/// Deliveries of the hook that wait without a lease, longest due first, but for those that are
/// due at `fresh` with nothing attempted since, which the walk itself has made so, and for those
/// that have failed and hold their keys.
pub(super) async fn waiting(
    tx: &mut SqliteConnection,
    hook: HookId,
    page: BulkPage,
    fresh: Timestamp,
) -> Result<Vec<Seen>> {
    let after = page.after.unwrap_or(BulkCursor {
        at: Timestamp::UNIX_EPOCH,
        id: DeliveryId(Uuid::nil()),
    });
    sqlx::query_as(
        "-- postrider: bulk_waiting
        SELECT day, id, event_id, attempts, next_attempt_at AS due, NULL AS ended, ordering_key
        FROM postrider_deliveries INDEXED BY postrider_deliveries_waiting
        WHERE slot = 0 AND hook_id = ?1 AND lease_token IS NULL
            AND (next_attempt_at, id) > (?2, ?3)
            AND NOT (next_attempt_at = ?5 AND attempts = earlier_attempts) AND NOT holds_key
        ORDER BY next_attempt_at, id LIMIT ?4",
    )
    .bind(hook.0)
    .bind(micros(after.at))
    .bind(after.id.0)
    .bind(page.limit)
    .bind(micros(fresh))
    .fetch_all(tx)
    .await
    .map_err(Into::into)
}

/// Adds what goes along with those that were seen: once they are gone another one stands for the
/// rest of their batches, which the walk has passed.
pub(super) async fn add_companions(tx: &mut SqliteConnection, seen: &mut Vec<Seen>) -> Result<()> {
    let companions: Vec<Seen> = sqlx::query_as(
        "-- postrider: bulk_along
        SELECT day, id, event_id, attempts, next_attempt_at AS due, NULL AS ended, ordering_key
        FROM postrider_deliveries INDEXED BY postrider_deliveries_batched
        WHERE slot = 0 AND batch_id IN (SELECT unhex(value) FROM json_each(?1))
            AND batch_id IS NOT NULL AND lease_token IS NULL",
    )
    .bind(rows(seen.iter().map(|seen| seen.id.0.simple())))
    .fetch_all(tx)
    .await?;
    let known: HashSet<_> = seen.iter().map(|seen| seen.id).collect();
    let companions = companions.into_iter();
    seen.extend(companions.filter(|seen| !known.contains(&seen.id)));
    Ok(())
}

/// Deliveries of the hook that have ended, in the order of their events: those that were
/// delivered, or the others.
pub(super) async fn ended(
    tx: &mut SqliteConnection,
    which: &Redelivery,
    page: BulkPage,
) -> Result<Vec<Seen>> {
    let after = page.after.map_or(which.begins(), |mark| mark.id);
    let until = which
        .until
        .map_or(Uuid::max(), |until| DeliveryId::first_since(until).0);
    let statement = match which.state {
        DeliveryState::Delivered => {
            "-- postrider: bulk_delivered
            SELECT day, delivery_id AS id, event_id, max(number) AS attempts, NULL AS due,
                NULL AS ended, NULL AS ordering_key
            FROM postrider_attempts
            WHERE slot = 0 AND hook_id = ?1 AND delivery_id > ?2 AND delivery_id < ?3
                AND late = 0 AND outcome = 'accepted'
            GROUP BY delivery_id ORDER BY delivery_id LIMIT ?4"
        }
        _ => {
            "-- postrider: bulk_ended
            SELECT day, delivery_id AS id, event_id, attempts, NULL AS due, state AS ended,
                NULL AS ordering_key
            FROM postrider_ended
            WHERE slot = 0 AND hook_id = ?1 AND delivery_id > ?2 AND delivery_id < ?3
            ORDER BY delivery_id LIMIT ?4"
        }
    };
    sqlx::query_as(statement)
        .bind(which.hook.0)
        .bind(after.0)
        .bind(until)
        .bind(page.limit)
        .fetch_all(tx)
        .await
        .map_err(Into::into)
}
