//! A delivery is sent again because a person asks for it.
//!
//! Its schedule begins anew; what was attempted before stays counted and in the history.
//!
//! Only who holds the lock of a delivery's event may make the delivery wait again. So of several
//! that ask at once one does it and the others find it done; and what ends the delivery
//! meanwhile is waited for by the lock of the delivery itself.

use super::PostgresStore;
use super::batches::lead;
use super::deliveries::{Found, by_ids, not_found, reports};
use super::history::Extent;
use super::lease_group::{Membership, membership};
use crate::Result;
use crate::{DeliveryReport, Error};
use postrider_core::{DeliveryId, Timestamp};
use sqlx::PgConnection;
use uuid::Uuid;

impl PostgresStore {
    pub(super) async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        let mut tx = self.calm.begin().await?;
        let extent = Extent::read(&mut tx).await?;
        let place = find(&mut tx, &extent, id).await?;
        require_hook(&mut tx, id, place.hook).await?;
        hold_event(&mut tx, &place).await?;
        if !hasten(&mut tx, &place, now).await? {
            match membership(&mut tx, place.slot, id, now).await? {
                Membership::InFlight => return Err(in_flight(id)),
                // A row was made for it a moment ago, due now.
                Membership::Expanded => {}
                Membership::None => revive(&mut tx, &place, now).await?,
            }
        }
        let found = find(&mut tx, &extent, id).await?;
        let mut reports = reports(&mut tx, vec![found]).await?;
        tx.commit().await?;
        reports.pop().ok_or_else(|| not_found(id))
    }
}

/// The delivery, wherever it stands by now.
pub(super) async fn find(
    connection: &mut PgConnection,
    extent: &Extent,
    id: DeliveryId,
) -> Result<Found> {
    let mut found = by_ids(connection, &extent.slots, &extent.days, &[id.0]).await?;
    found.pop().ok_or_else(|| not_found(id))
}

pub(super) fn in_flight(id: DeliveryId) -> Error {
    Error::Conflict(format!(
        "delivery {id} is in flight: send it again when its attempt has ended"
    ))
}

/// Keeps everyone else who asks for a delivery of this event waiting.
async fn hold_event(connection: &mut PgConnection, place: &Found) -> Result<()> {
    let erased: Option<bool> = sqlx::query_scalar(
        "-- postrider: redeliver_event
        SELECT erased_at IS NOT NULL FROM postrider_events
        WHERE slot = $1 AND day = $2 AND id = $3
        FOR NO KEY UPDATE",
    )
    .bind(place.slot)
    .bind(place.day)
    .bind(place.event)
    .fetch_optional(connection)
    .await?;
    match erased {
        Some(false) => Ok(()),
        Some(true) => Err(Error::Conflict(format!(
            "the event of delivery {} was erased: there is nothing left to send",
            place.id
        ))),
        None => Err(Error::Conflict(format!(
            "the event of delivery {} is past its retention: there is nothing left to send",
            place.id
        ))),
    }
}

/// Makes a delivery that waits due now, its schedule begun anew; `false` when it has ended. One
/// that has failed and holds its key still has its place there.
async fn hasten(connection: &mut PgConnection, place: &Found, now: Timestamp) -> Result<bool> {
    let waiting: Option<(Option<Timestamp>,)> = sqlx::query_as(
        "-- postrider: redeliver_read
        SELECT lease_expires_at FROM postrider_deliveries
        WHERE slot = $1 AND id = $2 FOR UPDATE",
    )
    .bind(place.slot)
    .bind(place.id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((lease_expires_at,)) = waiting else {
        return Ok(false);
    };
    if lease_expires_at.is_some_and(|end| end > now) {
        return Err(in_flight(place.id));
    }
    sqlx::query(
        "-- postrider: redeliver_waiting
        WITH forgotten AS (
            DELETE FROM postrider_ended WHERE slot = $1 AND day = $4 AND delivery_id = $2
        )
        UPDATE postrider_deliveries
        SET next_attempt_at = $3, earlier_attempts = attempts, lost_leases = 0,
            lease_token = NULL, lease_expires_at = NULL, turn_at = NULL, holds_key = false,
            batch_id = NULL, target = NULL
        WHERE slot = $1 AND id = $2",
    )
    .bind(place.slot)
    .bind(place.id.0)
    .bind(now)
    .bind(place.day)
    .execute(&mut *connection)
    .await?;
    lead(connection, place.slot, &[place.id.0]).await?;
    Ok(true)
}

/// Makes a delivery that has ended wait again. It has no key: the order went on without it, so
/// that it is a repeat which waits for no other and holds up none.
async fn revive(connection: &mut PgConnection, place: &Found, now: Timestamp) -> Result<()> {
    // What ended it may have committed since it was found: its attempts are counted here.
    sqlx::query(
        "-- postrider: redeliver_ended
        WITH forgotten AS (
            DELETE FROM postrider_ended WHERE slot = $1 AND day = $2 AND delivery_id = $3
        )
        INSERT INTO postrider_deliveries
            (slot, day, id, event_id, hook_id, event_seq, attempts, earlier_attempts,
             next_attempt_at)
        SELECT slot, day, $3, id, $5, seq, made.number, made.number, $6
        FROM postrider_events CROSS JOIN (
            SELECT coalesce(max(number), 0) AS number FROM postrider_attempts
            WHERE slot = $1 AND day = $2 AND delivery_id = $3 AND NOT late
        ) AS made
        WHERE slot = $1 AND day = $2 AND id = $4",
    )
    .bind(place.slot)
    .bind(place.day)
    .bind(place.id.0)
    .bind(place.event)
    .bind(place.hook)
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
        ))),
    }
}
