//! Sending one delivery again.
//!
//! Its attempts go on counting; its schedule begins anew, because the attempts up to now are
//! set aside as those of earlier rounds.

use super::SqliteStore;
use super::deliveries::{Kind, Place};
use super::errors::from_sqlx;
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
        let hook = hook_of(&mut tx, &place).await?;
        check_hook(&mut tx, hook).await?;
        match place.kind {
            Kind::Live => make_due(&mut tx, id, now).await?,
            Kind::Ended | Kind::Delivered => bring_back(&mut tx, &place, hook, now).await?,
        }
        let report = self.report_delivery(&mut tx, id).await?;
        tx.commit().await?;
        Ok(report)
    }
}

async fn hook_of(tx: &mut SqliteConnection, place: &Place) -> Result<Uuid> {
    let statement = match place.kind {
        Kind::Live => {
            "-- postrider: redeliver_hook_live
            SELECT hook_id FROM postrider_deliveries WHERE slot = 0 AND day = ?1 AND id = ?2"
        }
        Kind::Ended => {
            "-- postrider: redeliver_hook_ended
            SELECT hook_id FROM postrider_ended WHERE slot = 0 AND day = ?1 AND delivery_id = ?2"
        }
        Kind::Delivered => {
            "-- postrider: redeliver_hook_delivered
            SELECT hook_id FROM postrider_attempts
            WHERE slot = 0 AND day = ?1 AND delivery_id = ?2"
        }
    };
    sqlx::query_scalar(statement)
        .bind(place.day)
        .bind(place.id)
        .fetch_one(tx)
        .await
        .map_err(from_sqlx)
}

async fn check_hook(tx: &mut SqliteConnection, hook: Uuid) -> Result<()> {
    let there: Option<i64> = sqlx::query_scalar(
        "-- postrider: redeliver_hook
        SELECT 1 FROM postrider_hooks WHERE id = ?1 AND deleted_at IS NULL",
    )
    .bind(hook)
    .fetch_optional(tx)
    .await
    .map_err(from_sqlx)?;
    match there {
        Some(_) => Ok(()),
        None => Err(Error::Conflict(format!(
            "the hook {hook} of this delivery was deleted: register a new hook and send the \
             event again"
        ))),
    }
}

async fn make_due(tx: &mut SqliteConnection, id: DeliveryId, now: Timestamp) -> Result<()> {
    let changed = sqlx::query(
        "-- postrider: redeliver_waiting
        UPDATE postrider_deliveries
        SET next_attempt_at = ?2, earlier_attempts = attempts, lease_token = NULL,
            lease_expires_at = NULL
        WHERE slot = 0 AND id = ?1 AND (lease_token IS NULL OR lease_expires_at <= ?2)",
    )
    .bind(id.0)
    .bind(micros(now))
    .execute(tx)
    .await
    .map_err(from_sqlx)?;
    match changed.rows_affected() {
        0 => Err(Error::Conflict(format!(
            "the delivery {id} is in flight: wait for its outcome, then send it again"
        ))),
        _ => Ok(()),
    }
}

/// Makes the row of a delivery that has ended anew.
async fn bring_back(
    tx: &mut SqliteConnection,
    place: &Place,
    hook: Uuid,
    now: Timestamp,
) -> Result<()> {
    let event: Uuid = sqlx::query_scalar(
        "-- postrider: redeliver_event
        SELECT event_id FROM postrider_ended WHERE slot = 0 AND day = ?1 AND delivery_id = ?2
        UNION ALL
        SELECT event_id FROM postrider_attempts WHERE slot = 0 AND day = ?1 AND delivery_id = ?2
        LIMIT 1",
    )
    .bind(place.day)
    .bind(place.id)
    .fetch_one(&mut *tx)
    .await
    .map_err(from_sqlx)?;
    let made = sqlx::query(
        "-- postrider: redeliver_ended
        INSERT INTO postrider_deliveries
            (slot, id, day, event_id, hook_id, event_seq, ordering_key, attempts,
             earlier_attempts, next_attempt_at)
        SELECT 0, ?1, v.day, v.id, ?2, v.seq, v.ordering_key, made.number, made.number, ?3
        FROM postrider_events AS v CROSS JOIN (
            SELECT coalesce(max(number), 0) AS number FROM postrider_attempts
            WHERE slot = 0 AND day = ?4 AND delivery_id = ?1 AND late = 0
        ) AS made
        WHERE v.slot = 0 AND v.day = ?4 AND v.id = ?5",
    )
    .bind(place.id)
    .bind(hook)
    .bind(micros(now))
    .bind(place.day)
    .bind(event)
    .execute(&mut *tx)
    .await
    .map_err(from_sqlx)?;
    if made.rows_affected() == 0 {
        return Err(Error::Conflict(format!(
            "the event {event} of this delivery is past its retention and cannot be sent again"
        )));
    }
    sqlx::query(
        "-- postrider: redeliver_clear
        DELETE FROM postrider_ended WHERE slot = 0 AND day = ?1 AND delivery_id = ?2",
    )
    .bind(place.day)
    .bind(place.id)
    .execute(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(())
}
