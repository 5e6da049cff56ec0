//! Many deliveries of a hook are sent again because a person asks for it.

use super::SqliteStore;
use super::batches::lead;
use super::bulk::{Seen, add_companions, ended, hold_hook, waiting};
use super::values::{micros, rows};
use crate::error::{hook_deleted, on_its_way};
use crate::{BulkPage, BulkPageResult, DeliveryState, Redelivery, Result};
use postrider_core::Timestamp;
use sqlx::SqliteConnection;
use std::collections::HashMap;
use uuid::Uuid;

impl SqliteStore {
    pub(super) async fn send_many_again(
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
        let mut tx = self.writer.begin().await?;
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
        keep_wanted(&mut tx, which, &mut meant).await?;
        let count = match (meant.as_slice(), held) {
            ([], _) => 0,
            (meant, true) => hasten(&mut tx, meant, now).await?,
            (meant, false) => revive(&mut tx, which, meant, now).await?,
        };
        tx.commit().await?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(page.done(count, looked_at, last))
    }
}

/// Those whose event is gone or erased, or of another type than is meant, are meant no more.
async fn keep_wanted(
    tx: &mut SqliteConnection,
    which: &Redelivery,
    meant: &mut Vec<Seen>,
) -> Result<()> {
    let events: Vec<(Uuid, String)> = sqlx::query_as(
        "-- postrider: bulk_events
        WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
        SELECT e.id, e.event_type FROM s CROSS JOIN postrider_events AS e
        ON e.slot = 0 AND e.day = v ->> 0 AND e.id = unhex(v ->> 1) AND e.erased_at IS NULL",
    )
    .bind(rows(
        meant.iter().map(|seen| (seen.day, seen.event.simple())),
    ))
    .fetch_all(tx)
    .await?;
    let types: HashMap<_, _> = events.into_iter().collect();
    meant.retain(|seen| {
        let event_type = types.get(&seen.event);
        event_type.is_some_and(|event_type| which.wants(event_type))
    });
    Ok(())
}

/// Makes deliveries that wait due now, their schedules begun anew.
async fn hasten(tx: &mut SqliteConnection, meant: &[Seen], now: Timestamp) -> Result<u64> {
    let hastened = sqlx::query(
        "-- postrider: bulk_hasten
        UPDATE postrider_deliveries
        SET next_attempt_at = ?2, earlier_attempts = attempts, lost_leases = 0, turn_at = NULL,
            batch_id = NULL, target = NULL
        WHERE slot = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))
            AND lease_token IS NULL",
    )
    .bind(rows(meant.iter().map(|seen| seen.id.0.simple())))
    .bind(micros(now))
    .execute(&mut *tx)
    .await?;
    lead(tx, meant.iter().map(|seen| seen.id.0)).await?;
    Ok(hastened.rows_affected())
}

/// Makes deliveries that have ended wait again, unless they do already; one that was delivered
/// and has ended otherwise since is left alone. One that has failed and holds its key keeps its
/// place there; the others are repeats without a key.
async fn revive(
    tx: &mut SqliteConnection,
    which: &Redelivery,
    meant: &[Seen],
    now: Timestamp,
) -> Result<u64> {
    let named = rows(
        meant
            .iter()
            .map(|seen| (seen.day, seen.id.0.simple(), seen.event.simple())),
    );
    let revived = sqlx::query(
        "-- postrider: bulk_revive
        WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1)),
        i AS MATERIALIZED (
            SELECT v ->> 0 AS day, unhex(v ->> 1) AS id, unhex(v ->> 2) AS event_id FROM s
        )
        INSERT INTO postrider_deliveries
            (slot, id, day, event_id, hook_id, event_seq, attempts, earlier_attempts,
             next_attempt_at)
        SELECT 0, i.id, i.day, i.event_id, ?2, e.seq,
            (SELECT coalesce(max(number), 0) FROM postrider_attempts AS a
                WHERE a.slot = 0 AND a.day = i.day AND a.delivery_id = i.id AND NOT a.late),
            (SELECT coalesce(max(number), 0) FROM postrider_attempts AS a
                WHERE a.slot = 0 AND a.day = i.day AND a.delivery_id = i.id AND NOT a.late),
            ?3
        FROM i CROSS JOIN postrider_events AS e
        ON e.slot = 0 AND e.day = i.day AND e.id = i.event_id
        WHERE NOT EXISTS (SELECT 1 FROM postrider_deliveries AS d
                WHERE d.slot = 0 AND d.id = i.id AND NOT d.holds_key)
            AND EXISTS (SELECT 1 FROM postrider_ended AS n
                WHERE n.slot = 0 AND n.day = i.day AND n.delivery_id = i.id) = ?4
        ON CONFLICT (slot, id) DO UPDATE
        SET next_attempt_at = excluded.next_attempt_at, attempts = excluded.attempts,
            earlier_attempts = excluded.earlier_attempts, lost_leases = 0, holds_key = 0,
            target = NULL",
    )
    .bind(&named)
    .bind(which.hook.0)
    .bind(micros(now))
    .bind(which.state != DeliveryState::Delivered)
    .execute(&mut *tx)
    .await?;
    if which.state != DeliveryState::Delivered {
        sqlx::query(
            "-- postrider: bulk_forget
            WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
            DELETE FROM postrider_ended WHERE slot = 0 AND (day, delivery_id) IN
                (SELECT v ->> 0, unhex(v ->> 1) FROM s)",
        )
        .bind(&named)
        .execute(tx)
        .await?;
    }
    Ok(revived.rows_affected())
}
