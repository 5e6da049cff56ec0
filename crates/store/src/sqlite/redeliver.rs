//! Sending one delivery again.
//!
//! Its attempts go on counting; its schedule begins anew, because the attempts up to now are
//! set aside as those of earlier rounds.

use super::SqliteStore;
use super::batches::lead;
use super::deliveries::{Kind, Place};
use super::lease_group::take_out;
use super::values::micros;
use crate::{DeliveryReport, Error, Result};
use postrider_core::{DeliveryId, Timestamp};
use sqlx::SqliteConnection;
use uuid::Uuid;

impl SqliteStore {
    pub(super) async fn send_again(
        &self,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<DeliveryReport> {
        let mut tx = self.writer.begin().await?;
        let place = self.locate(&mut tx, id).await?;
        let of = origin(&mut tx, &place).await?;
        require_hook(&mut tx, id, &of).await?;
        require_event(&mut tx, &place, &of).await?;
        match place.kind {
            Kind::Live => hasten(&mut tx, id, now).await?,
            Kind::Started { token, member } => {
                if !take_out(&mut tx, token, member, now).await? {
                    return Err(in_flight(id));
                }
            }
            Kind::Ended | Kind::Delivered => revive(&mut tx, &place, &of, now).await?,
        }
        let report = self.report_delivery(&mut tx, id).await?;
        tx.commit().await?;
        Ok(report)
    }
}

/// What is delivered, and to whom.
struct Origin {
    event: Uuid,
    hook: Uuid,
}

async fn origin(tx: &mut SqliteConnection, place: &Place) -> Result<Origin> {
    let statement = match place.kind {
        Kind::Live => {
            "-- postrider: redeliver_live
            SELECT event_id, hook_id FROM postrider_deliveries
            WHERE slot = 0 AND day = ?1 AND id = ?2"
        }
        Kind::Ended => {
            "-- postrider: redeliver_past
            SELECT event_id, hook_id FROM postrider_ended
            WHERE slot = 0 AND day = ?1 AND delivery_id = ?2"
        }
        Kind::Delivered => {
            "-- postrider: redeliver_delivered
            SELECT event_id, hook_id FROM postrider_attempts
            WHERE slot = 0 AND day = ?1 AND delivery_id = ?2 LIMIT 1"
        }
        Kind::Started { member, .. } => {
            return Ok(Origin {
                event: member.event.0,
                hook: member.hook.0,
            });
        }
    };
    let (event, hook) = sqlx::query_as(statement)
        .bind(place.day)
        .bind(place.id)
        .fetch_one(tx)
        .await?;
    Ok(Origin { event, hook })
}

async fn require_hook(tx: &mut SqliteConnection, id: DeliveryId, of: &Origin) -> Result<()> {
    let there: Option<i64> = sqlx::query_scalar(
        "-- postrider: redeliver_hook
        SELECT 1 FROM postrider_hooks WHERE id = ?1 AND deleted_at IS NULL",
    )
    .bind(of.hook)
    .fetch_optional(tx)
    .await?;
    match there {
        Some(_) => Ok(()),
        None => Err(Error::Conflict(format!(
            "the hook of delivery {id} was deleted: there is nowhere to send it"
        ))),
    }
}

async fn require_event(tx: &mut SqliteConnection, place: &Place, of: &Origin) -> Result<()> {
    let erased: Option<bool> = sqlx::query_scalar(
        "-- postrider: redeliver_event
        SELECT erased_at IS NOT NULL FROM postrider_events
        WHERE slot = 0 AND day = ?1 AND id = ?2",
    )
    .bind(place.day)
    .bind(of.event)
    .fetch_optional(tx)
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

/// Makes a delivery that waits due now, its schedule begun anew.
async fn hasten(tx: &mut SqliteConnection, id: DeliveryId, now: Timestamp) -> Result<()> {
    let changed = sqlx::query(
        "-- postrider: redeliver_waiting
        UPDATE postrider_deliveries
        SET next_attempt_at = ?2, earlier_attempts = attempts, lost_leases = 0, turn_at = NULL,
            lease_token = NULL, lease_expires_at = NULL, batch_id = NULL, target = NULL
        WHERE slot = 0 AND id = ?1 AND (lease_token IS NULL OR lease_expires_at <= ?2)",
    )
    .bind(id.0)
    .bind(micros(now))
    .execute(&mut *tx)
    .await?;
    match changed.rows_affected() {
        0 => Err(in_flight(id)),
        _ => lead(tx, [id.0]).await,
    }
}

pub(super) fn in_flight(id: DeliveryId) -> Error {
    Error::Conflict(format!(
        "delivery {id} is in flight: send it again when its attempt has ended"
    ))
}

/// Makes a delivery that has ended wait again. One that has failed and holds its key still has its
/// place there. Any other has no key: the order went on without it, so that it is a repeat which
/// waits for no other and holds up none.
async fn revive(
    tx: &mut SqliteConnection,
    place: &Place,
    of: &Origin,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "-- postrider: redeliver_ended
        INSERT INTO postrider_deliveries
            (slot, id, day, event_id, hook_id, event_seq, attempts, earlier_attempts,
             next_attempt_at)
        SELECT 0, ?1, v.day, v.id, ?2, v.seq, made.number, made.number, ?3
        FROM postrider_events AS v CROSS JOIN (
            SELECT coalesce(max(number), 0) AS number FROM postrider_attempts
            WHERE slot = 0 AND day = ?4 AND delivery_id = ?1 AND NOT late
        ) AS made
        WHERE v.slot = 0 AND v.day = ?4 AND v.id = ?5
        ON CONFLICT (slot, id) DO UPDATE
        SET next_attempt_at = excluded.next_attempt_at, attempts = excluded.attempts,
            earlier_attempts = excluded.earlier_attempts, lost_leases = 0, holds_key = 0,
            target = NULL",
    )
    .bind(place.id)
    .bind(of.hook)
    .bind(micros(now))
    .bind(place.day)
    .bind(of.event)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "-- postrider: redeliver_forget
        DELETE FROM postrider_ended WHERE slot = 0 AND day = ?1 AND delivery_id = ?2",
    )
    .bind(place.day)
    .bind(place.id)
    .execute(tx)
    .await?;
    Ok(())
}
