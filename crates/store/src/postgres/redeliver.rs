//! A delivery is sent again because a person asks for it.
//!
//! Its schedule begins anew; what was attempted before stays counted and in the history.

use super::PostgresStore;
use super::deliveries::{Found, by_ids, not_found, reports};
use super::errors::Result;
use super::history::Extent;
use crate::{DeliveryReport, Error};
use postrider_core::{DeliveryId, Timestamp};
use sqlx::PgConnection;
use uuid::Uuid;

impl PostgresStore {
    pub(super) async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        let mut tx = self.calm.begin().await?;
        let extent = Extent::read(&mut tx).await?;
        if !hasten(&mut tx, &extent, id, now).await? {
            let past = by_ids(&mut tx, &extent.slots, &extent.days, &[id.0]).await?;
            let past = past.first().ok_or_else(|| not_found(id))?;
            revive(&mut tx, past, now).await?;
        }
        let found = by_ids(&mut tx, &extent.slots, &extent.days, &[id.0]).await?;
        let mut reports = reports(&mut tx, found).await?;
        tx.commit().await?;
        Ok(reports.pop().ok_or_else(|| not_found(id))?)
    }
}

/// Makes a delivery that waits due now, its schedule begun anew; `false` when none waits.
async fn hasten(
    connection: &mut PgConnection,
    extent: &Extent,
    id: DeliveryId,
    now: Timestamp,
) -> Result<bool> {
    let row: Option<(i16, Uuid, Option<Timestamp>)> = sqlx::query_as(
        "-- postrider: redeliver_read
        SELECT slot, hook_id, lease_expires_at FROM postrider_deliveries
        WHERE slot = ANY($1) AND id = $2 FOR UPDATE",
    )
    .bind(&extent.slots)
    .bind(id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((slot, hook, lease_expires_at)) = row else {
        return Ok(false);
    };
    if lease_expires_at.is_some_and(|end| end > now) {
        return Err(Error::Conflict(format!(
            "delivery {id} is in flight: send it again when its attempt has ended"
        ))
        .into());
    }
    require_hook(connection, id, hook).await?;
    sqlx::query(
        "-- postrider: redeliver_waiting
        UPDATE postrider_deliveries
        SET next_attempt_at = $3, earlier_attempts = attempts, lost_leases = 0,
            lease_token = NULL, lease_expires_at = NULL
        WHERE slot = $1 AND id = $2",
    )
    .bind(slot)
    .bind(id.0)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(true)
}

/// Makes a delivery that has ended wait again.
async fn revive(connection: &mut PgConnection, past: &Found, now: Timestamp) -> Result<()> {
    require_hook(connection, past.id, past.hook).await?;
    let event = sqlx::query(
        "-- postrider: redeliver_event
        SELECT FROM postrider_events WHERE slot = $1 AND day = $2 AND id = $3",
    )
    .bind(past.slot)
    .bind(past.day)
    .bind(past.event)
    .fetch_optional(&mut *connection)
    .await?;
    if event.is_none() {
        return Err(Error::Conflict(format!(
            "the event of delivery {} is past its retention: there is nothing left to send",
            past.id
        ))
        .into());
    }
    // Someone else may have sent it again meanwhile: then it is due already.
    sqlx::query(
        "-- postrider: redeliver_ended
        WITH forgotten AS (
            DELETE FROM postrider_ended WHERE slot = $1 AND day = $2 AND delivery_id = $3
        )
        INSERT INTO postrider_deliveries
            (slot, day, id, event_id, hook_id, event_seq, ordering_key, attempts,
             earlier_attempts, next_attempt_at)
        SELECT slot, day, $3, id, $5, seq, ordering_key, $6, $6, $7
        FROM postrider_events WHERE slot = $1 AND day = $2 AND id = $4
        ON CONFLICT (slot, id) DO NOTHING",
    )
    .bind(past.slot)
    .bind(past.day)
    .bind(past.id.0)
    .bind(past.event)
    .bind(past.hook)
    .bind(past.attempts)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

async fn require_hook(connection: &mut PgConnection, id: DeliveryId, hook: Uuid) -> Result<()> {
    let there: bool = sqlx::query_scalar(
        "-- postrider: redeliver_hook
        SELECT EXISTS (SELECT FROM postrider_hooks WHERE id = $1 AND deleted_at IS NULL)",
    )
    .bind(hook)
    .fetch_one(connection)
    .await?;
    match there {
        true => Ok(()),
        false => Err(Error::Conflict(format!(
            "the hook of delivery {id} was deleted: there is nowhere to send it"
        ))
        .into()),
    }
}
