//! A delivery is given up because a person says so.

use super::PostgresStore;
use super::batches::lead;
use super::deliveries::{Found, not_found, reports};
use super::history::Extent;
use super::order::give_turns;
use super::redeliver::{find, in_flight};
use crate::Result;
use crate::{DeliveryReport, DeliveryState, Error};
use postrider_core::{DeliveryId, HookId, Reason, Timestamp};
use sqlx::PgConnection;

impl PostgresStore {
    pub(super) async fn discard(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        let mut tx = self.calm.begin().await?;
        let extent = Extent::read(&mut tx).await?;
        let place = find(&mut tx, &extent, id).await?;
        let key = take(&mut tx, &place, now).await?;
        keep_cancelled(&mut tx, &place, now).await?;
        if let Some(key) = &key {
            let key = vec![(HookId(place.hook), key.as_str())];
            give_turns(&mut tx, place.slot, key, now).await?;
        }
        let found = find(&mut tx, &extent, id).await?;
        let mut reports = reports(&mut tx, vec![found]).await?;
        tx.commit().await?;
        reports.pop().ok_or_else(|| not_found(id))
    }
}

/// Takes the delivery out of what waits, and returns its key.
async fn take(
    connection: &mut PgConnection,
    place: &Found,
    now: Timestamp,
) -> Result<Option<String>> {
    let row: Option<(Option<Timestamp>, Option<String>)> = sqlx::query_as(
        "-- postrider: discard_read
        SELECT lease_expires_at, ordering_key FROM postrider_deliveries
        WHERE slot = $1 AND id = $2 FOR UPDATE",
    )
    .bind(place.slot)
    .bind(place.id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let key = match row {
        Some((Some(end), _)) if end > now => return Err(in_flight(place.id)),
        Some((_, key)) => key,
        None if place.state == DeliveryState::InFlight => return Err(in_flight(place.id)),
        None => {
            return Err(Error::Conflict(format!(
                "delivery {} has ended: there is nothing left to discard",
                place.id
            )));
        }
    };
    sqlx::query(
        "-- postrider: discard_take
        DELETE FROM postrider_deliveries WHERE slot = $1 AND id = $2",
    )
    .bind(place.slot)
    .bind(place.id.0)
    .execute(&mut *connection)
    .await?;
    lead(connection, place.slot, &[place.id.0]).await?;
    Ok(key)
}

async fn keep_cancelled(
    connection: &mut PgConnection,
    place: &Found,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "-- postrider: discard_ended
        INSERT INTO postrider_ended
            (slot, day, delivery_id, event_id, hook_id, state, reason, attempts, ended_at)
        VALUES ($1, $2, $3, $4, $5, 'cancelled', $6, $7, $8)
        ON CONFLICT (slot, day, delivery_id) DO UPDATE
        SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts,
            ended_at = excluded.ended_at",
    )
    .bind(place.slot)
    .bind(place.day)
    .bind(place.id.0)
    .bind(place.event)
    .bind(place.hook)
    .bind(Reason::Discarded.name())
    .bind(place.attempts)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}
