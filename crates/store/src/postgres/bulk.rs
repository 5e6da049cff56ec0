//! Walks over the deliveries of a hook, a page at a time.
//!
//! A page looks at so many rows of an index and no more, whatever is meant of them, so that its
//! cost does not depend on the backlog or on what is asked for.

use super::history::Extent;
use crate::Result;
use crate::error::hook_not_found;
use crate::{BulkCursor, BulkPage, DeliveryState, Redelivery};
use chrono::NaiveDate;
use postrider_core::{DeliveryId, HookId, Timestamp};
use sqlx::postgres::{PgBindIterExt, PgRow};
use sqlx::{PgConnection, Row};
use std::collections::HashSet;
use uuid::Uuid;

/// A delivery that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub slot: i16,
    pub day: NaiveDate,
    pub id: DeliveryId,
    pub event: Uuid,
    /// When it is due; for one that has ended, when its event was made.
    pub at: Timestamp,
    /// How it has ended, if it has otherwise than delivered.
    pub ended: Option<String>,
    /// Its key, while it waits.
    pub ordering_key: Option<String>,
}

impl Seen {
    fn of(row: &PgRow) -> std::result::Result<Self, sqlx::Error> {
        let id = DeliveryId(row.try_get("id")?);
        let due: Option<Timestamp> = row.try_get("due")?;
        Ok(Self {
            slot: row.try_get("slot")?,
            day: row.try_get("day")?,
            id,
            event: row.try_get("event_id")?,
            at: due.unwrap_or_else(|| id.event_made_at()),
            ended: row.try_get("ended")?,
            ordering_key: row.try_get("ordering_key")?,
        })
    }

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

/// Keeps the hook as it is, and tells how that is.
pub(super) async fn hold_hook(connection: &mut PgConnection, id: HookId) -> Result<HookState> {
    let row: Option<(bool, bool)> = sqlx::query_as(
        "-- postrider: hold_hook
        SELECT status = 'active', deleted_at IS NOT NULL FROM postrider_hooks
        WHERE id = $1 FOR SHARE",
    )
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    let (is_active, is_deleted) = row.ok_or_else(|| hook_not_found(id))?;
    Ok(HookState {
        is_active,
        is_deleted,
    })
}

/// Lets the transaction go by indexes, in their order, whatever statistics say: the tables may have
/// been empty a moment ago, and a page must not cost a walk over all that there is.
pub(super) async fn go_by_indexes(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;
        SET LOCAL enable_sort = off",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deliveries of the hook that wait without a lease, longest due first, but for those that are
/// due at `fresh` with nothing attempted since, which the walk itself has made so, and for those
/// that have failed and hold their keys.
pub(super) async fn waiting(
    connection: &mut PgConnection,
    hook: HookId,
    page: BulkPage,
    fresh: Timestamp,
) -> Result<Vec<Seen>> {
    let after = page.after.unwrap_or(BulkCursor {
        at: Timestamp::UNIX_EPOCH,
        id: DeliveryId(Uuid::nil()),
    });
    let seen = sqlx::query(
        "-- postrider: bulk_waiting
        WITH RECURSIVE occupied AS (
            (SELECT slot FROM postrider_deliveries ORDER BY slot LIMIT 1)
            UNION ALL
            SELECT (SELECT d.slot FROM postrider_deliveries AS d
                    WHERE d.slot > o.slot ORDER BY d.slot LIMIT 1)
            FROM occupied AS o WHERE o.slot IS NOT NULL
        )
        SELECT w.slot, w.day, w.id, w.event_id, w.next_attempt_at AS due, NULL::text AS ended,
               w.ordering_key
        FROM occupied AS o CROSS JOIN LATERAL (
            SELECT * FROM postrider_deliveries AS d
            WHERE d.slot = o.slot AND d.hook_id = $1 AND d.lease_token IS NULL
              AND d.next_attempt_at >= $2 AND (d.next_attempt_at, d.id) > ($2, $3)
              AND NOT (d.next_attempt_at = $5 AND d.attempts = d.earlier_attempts)
              AND NOT d.holds_key
            ORDER BY d.next_attempt_at, d.id LIMIT $4
        ) AS w
        ORDER BY w.next_attempt_at, w.id LIMIT $4",
    )
    .bind(hook.0)
    .bind(after.at)
    .bind(after.id.0)
    .bind(i64::from(page.limit))
    .bind(fresh)
    .try_map(|row: PgRow| Seen::of(&row))
    .fetch_all(connection)
    .await?;
    Ok(seen)
}

/// Adds what goes along with those that were seen: once they are gone another one stands for the
/// rest of their batches, which the walk has passed.
pub(super) async fn add_companions(
    connection: &mut PgConnection,
    seen: &mut Vec<Seen>,
) -> Result<()> {
    let companions = sqlx::query(
        "-- postrider: bulk_along
        SELECT d.slot, d.day, d.id, d.event_id, d.next_attempt_at AS due, NULL::text AS ended,
               d.ordering_key
        FROM unnest($1::smallint[], $2::uuid[]) AS i (slot, batch_id)
        JOIN postrider_deliveries AS d ON d.slot = i.slot AND d.batch_id = i.batch_id
        WHERE d.batch_id IS NOT NULL AND d.lease_token IS NULL",
    )
    .bind(seen.iter().map(|seen| seen.slot).bind_iter())
    .bind(seen.iter().map(|seen| seen.id.0).bind_iter())
    .try_map(|row: PgRow| Seen::of(&row))
    .fetch_all(connection)
    .await?;
    let known: HashSet<_> = seen.iter().map(|seen| seen.id).collect();
    let companions = companions.into_iter();
    seen.extend(companions.filter(|seen| !known.contains(&seen.id)));
    Ok(())
}

/// Deliveries of the hook that have ended, in the order of their events: those that were
/// delivered, or the others. The partitions' indexes are merged, as far as the page goes.
pub(super) async fn ended(
    connection: &mut PgConnection,
    which: &Redelivery,
    page: BulkPage,
) -> Result<Vec<Seen>> {
    let extent = Extent::read(connection).await?;
    let after = page.after.map_or(which.begins(), |mark| mark.id);
    let until = which
        .until
        .map_or(Uuid::max(), |until| DeliveryId::first_since(until).0);
    let statement = match which.state {
        DeliveryState::Delivered => {
            "-- postrider: bulk_delivered
            SELECT a.slot, a.day, a.delivery_id AS id, a.event_id, NULL::timestamptz AS due,
                   NULL::text AS ended, NULL::text AS ordering_key
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN LATERAL (
                SELECT DISTINCT ON (delivery_id) slot, day, delivery_id, event_id
                FROM postrider_attempts
                WHERE slot = s.slot AND hook_id = $2 AND outcome = 'accepted' AND NOT late
                  AND delivery_id > $3 AND delivery_id < $4
                ORDER BY delivery_id LIMIT $5
            ) AS a
            ORDER BY a.delivery_id LIMIT $5"
        }
        _ => {
            "-- postrider: bulk_ended
            SELECT e.slot, e.day, e.delivery_id AS id, e.event_id, NULL::timestamptz AS due,
                   e.state AS ended, NULL::text AS ordering_key
            FROM unnest($1::smallint[]) AS s (slot) CROSS JOIN LATERAL (
                SELECT slot, day, delivery_id, event_id, state FROM postrider_ended
                WHERE slot = s.slot AND hook_id = $2 AND delivery_id > $3 AND delivery_id < $4
                ORDER BY delivery_id LIMIT $5
            ) AS e
            ORDER BY e.delivery_id LIMIT $5"
        }
    };
    let seen = sqlx::query(statement)
        .bind(&extent.slots)
        .bind(which.hook.0)
        .bind(after.0)
        .bind(until)
        .bind(i64::from(page.limit))
        .try_map(|row: PgRow| Seen::of(&row))
        .fetch_all(connection)
        .await?;
    Ok(seen)
}
