//! Many deliveries of a hook are sent again because a person asks for it.
//!
//! As with one: only who holds the locks of the events may make deliveries wait again. They are
//! taken in the order of the events, so that two who ask at once cannot wait for each other in
//! a circle.

use super::PostgresStore;
use super::batches::lead_rest;
use super::bulk::{Seen, add_companions, ended, go_by_indexes, hold_hook, waiting};
use crate::Result;
use crate::error::{hook_deleted, on_its_way};
use crate::{BulkPage, BulkPageResult, DeliveryState, Redelivery};
use postrider_core::Timestamp;
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;
use std::collections::HashMap;
use uuid::Uuid;

impl PostgresStore {
    pub(super) async fn redeliver_many(
        &self,
        which: &Redelivery,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult> {
        if matches!(
            which.state,
            DeliveryState::Pending | DeliveryState::InFlight
        ) {
            return Err(on_its_way(which.state));
        }
        let held = which.state == DeliveryState::Held;
        let mut tx = self.calm.begin().await?;
        go_by_indexes(&mut tx).await?;
        let hook = hold_hook(&mut tx, which.hook).await?;
        if hook.is_deleted {
            return Err(hook_deleted(which.hook));
        }
        if held && hook.is_active {
            return Ok(page.done(0, 0, None));
        }
        let seen = match held {
            true => waiting(&mut tx, which.hook, page, now).await?,
            false => ended(&mut tx, which, page).await?,
        };
        let (looked_at, last) = (seen.len(), seen.last().map(Seen::mark));
        let mut meant = seen;
        if held {
            add_companions(&mut tx, &mut meant).await?;
        }
        meant.retain(|seen| {
            let state = seen.ended.as_deref();
            which.spans(seen.id) && state.is_none_or(|state| state == which.state.name())
        });
        hold_events(&mut tx, which, &mut meant).await?;
        let count = match (meant.as_slice(), which.state) {
            ([], _) => 0,
            (meant, DeliveryState::Held) => hasten(&mut tx, meant, now).await?,
            (meant, DeliveryState::Delivered) => repeat(&mut tx, which, meant, now).await?,
            (meant, _) => revive(&mut tx, which, meant, now).await?,
        };
        tx.commit().await?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(page.done(count, looked_at, last))
    }
}

/// Keeps everyone else who asks for deliveries of these events waiting. Those whose event is
/// gone, or of another type than is meant, are meant no more.
async fn hold_events(
    connection: &mut PgConnection,
    which: &Redelivery,
    meant: &mut Vec<Seen>,
) -> Result<()> {
    meant.sort_by_key(|seen| (seen.event, seen.slot));
    let events: Vec<(Uuid, String)> = sqlx::query_as(
        "-- postrider: bulk_events
        SELECT e.id, e.event_type
        FROM unnest($1::smallint[], $2::date[], $3::uuid[]) WITH ORDINALITY
             AS k (slot, day, id, place)
        CROSS JOIN LATERAL (
            SELECT id, event_type FROM postrider_events
            WHERE slot = k.slot AND day = k.day AND id = k.id AND erased_at IS NULL LIMIT 1
            FOR NO KEY UPDATE
        ) AS e
        ORDER BY k.place",
    )
    .bind(meant.iter().map(|seen| seen.slot).bind_iter())
    .bind(meant.iter().map(|seen| seen.day).bind_iter())
    .bind(meant.iter().map(|seen| seen.event).bind_iter())
    .fetch_all(connection)
    .await?;
    let types: HashMap<_, _> = events.into_iter().collect();
    meant.retain(|seen| {
        let event_type = types.get(&seen.event);
        event_type.is_some_and(|event_type| which.wants(event_type))
    });
    Ok(())
}

/// Makes deliveries that wait due now, their schedules begun anew.
async fn hasten(connection: &mut PgConnection, meant: &[Seen], now: Timestamp) -> Result<u64> {
    let hastened: Vec<(i16, Uuid)> = sqlx::query_as(
        "-- postrider: bulk_hasten
        WITH meant AS MATERIALIZED (
            SELECT d.slot, d.id
            FROM unnest($1::smallint[], $2::uuid[]) AS i (slot, id)
            JOIN postrider_deliveries AS d ON d.slot = i.slot AND d.id = i.id
            WHERE d.lease_token IS NULL
            FOR UPDATE OF d SKIP LOCKED
        )
        UPDATE postrider_deliveries AS d
        SET next_attempt_at = $3, earlier_attempts = d.attempts, lost_leases = 0, turn_at = NULL,
            batch_id = NULL, target = NULL
        FROM meant WHERE d.slot = meant.slot AND d.id = meant.id
        RETURNING d.slot, d.id",
    )
    .bind(meant.iter().map(|seen| seen.slot).bind_iter())
    .bind(meant.iter().map(|seen| seen.id.0).bind_iter())
    .bind(now)
    .fetch_all(&mut *connection)
    .await?;
    lead_rest(connection, &hastened).await?;
    Ok(hastened.len() as u64)
}

/// Makes deliveries that have ended otherwise than delivered wait again. The row that tells so
/// goes first: who finds it gone does nothing. One that holds its key keeps its place there; the
/// others have no key any more, because the order went on without them.
async fn revive(
    connection: &mut PgConnection,
    which: &Redelivery,
    meant: &[Seen],
    now: Timestamp,
) -> Result<u64> {
    let revived = sqlx::query(
        "-- postrider: bulk_revive
        WITH forgotten AS (
            DELETE FROM postrider_ended AS e
            USING unnest($1::smallint[], $2::date[], $3::uuid[]) AS i (slot, day, id)
            WHERE e.slot = i.slot AND e.day = i.day AND e.delivery_id = i.id AND e.state = $6
            RETURNING e.slot, e.day, e.delivery_id, e.event_id
        )
        INSERT INTO postrider_deliveries
            (slot, day, id, event_id, hook_id, event_seq, attempts, earlier_attempts,
             next_attempt_at)
        SELECT f.slot, f.day, f.delivery_id, f.event_id, $4, e.seq, made.number, made.number, $5
        FROM forgotten AS f CROSS JOIN LATERAL (
            SELECT seq FROM postrider_events
            WHERE slot = f.slot AND day = f.day AND id = f.event_id LIMIT 1
        ) AS e CROSS JOIN LATERAL (
            SELECT coalesce(max(number), 0) AS number FROM postrider_attempts
            WHERE slot = f.slot AND day = f.day AND delivery_id = f.delivery_id AND NOT late
        ) AS made
        ON CONFLICT (slot, id) DO UPDATE
        SET next_attempt_at = excluded.next_attempt_at, attempts = excluded.attempts,
            earlier_attempts = excluded.earlier_attempts, lost_leases = 0, turn_at = NULL,
            holds_key = false, target = NULL",
    )
    .bind(meant.iter().map(|seen| seen.slot).bind_iter())
    .bind(meant.iter().map(|seen| seen.day).bind_iter())
    .bind(meant.iter().map(|seen| seen.id.0).bind_iter())
    .bind(which.hook.0)
    .bind(now)
    .bind(which.state.name())
    .execute(connection)
    .await?;
    Ok(revived.rows_affected())
}

/// Makes deliveries that were delivered wait again, unless they do already or have ended
/// otherwise since. They are repeats outside of the order of their keys.
async fn repeat(
    connection: &mut PgConnection,
    which: &Redelivery,
    meant: &[Seen],
    now: Timestamp,
) -> Result<u64> {
    let repeated = sqlx::query(
        "-- postrider: bulk_repeat
        INSERT INTO postrider_deliveries
            (slot, day, id, event_id, hook_id, event_seq, attempts, earlier_attempts,
             next_attempt_at)
        SELECT i.slot, i.day, i.id, i.event_id, $5, e.seq, made.number, made.number, $6
        FROM unnest($1::smallint[], $2::date[], $3::uuid[], $4::uuid[])
             AS i (slot, day, id, event_id)
        CROSS JOIN LATERAL (
            SELECT seq FROM postrider_events
            WHERE slot = i.slot AND day = i.day AND id = i.event_id LIMIT 1
        ) AS e CROSS JOIN LATERAL (
            SELECT coalesce(max(number), 0) AS number FROM postrider_attempts
            WHERE slot = i.slot AND day = i.day AND delivery_id = i.id AND NOT late
        ) AS made
        WHERE (SELECT d.id FROM postrider_deliveries AS d
               WHERE d.slot = i.slot AND d.id = i.id) IS NULL
          AND (SELECT n.delivery_id FROM postrider_ended AS n
               WHERE n.slot = i.slot AND n.day = i.day AND n.delivery_id = i.id) IS NULL",
    )
    .bind(meant.iter().map(|seen| seen.slot).bind_iter())
    .bind(meant.iter().map(|seen| seen.day).bind_iter())
    .bind(meant.iter().map(|seen| seen.id.0).bind_iter())
    .bind(meant.iter().map(|seen| seen.event).bind_iter())
    .bind(which.hook.0)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(repeated.rows_affected())
}
