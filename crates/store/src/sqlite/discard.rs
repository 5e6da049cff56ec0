//! A delivery is given up because a person says so.

use super::SqliteStore;
use super::batches::lead;
use super::deliveries::Kind;
use super::order::give_turns;
use super::redeliver::in_flight;
use super::settle_rows::{EndedRow, delete_deliveries, insert_ended};
use super::values::micros;
use crate::{DeliveryReport, Error, Result};
use postrider_core::{DeliveryId, HookId, Reason, Timestamp};
use uuid::Uuid;

/// What is known of a delivery with a row: day, event, hook, key, attempts, and whether its lease
/// lasts.
type Row = (i32, Uuid, Uuid, Option<String>, u32, bool);

impl SqliteStore {
    pub(super) async fn give_up(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        let mut tx = self.writer.begin().await?;
        let place = self.locate(&mut tx, id).await?;
        let row: Option<Row> = sqlx::query_as(
            "-- postrider: discard_read
            SELECT day, event_id, hook_id, ordering_key, attempts,
                lease_token IS NOT NULL AND lease_expires_at > ?2
            FROM postrider_deliveries WHERE slot = 0 AND id = ?1",
        )
        .bind(id.0)
        .bind(micros(now))
        .fetch_optional(&mut *tx)
        .await?;
        let (day, event, hook, key, attempts) = match row {
            Some((.., true)) => return Err(in_flight(id)),
            Some((day, event, hook, key, attempts, false)) => (day, event, hook, key, attempts),
            None if matches!(place.kind, Kind::Started { .. }) => return Err(in_flight(id)),
            None => {
                return Err(Error::Conflict(format!(
                    "delivery {id} has ended: there is nothing left to discard"
                )));
            }
        };
        let ended = EndedRow {
            day,
            delivery_id: id.0.simple(),
            event_id: event.simple(),
            hook_id: hook.simple(),
            state: "cancelled",
            reason: Reason::Discarded.name(),
            attempts,
        };
        delete_deliveries(&mut tx, [id.0.simple()]).await?;
        insert_ended(&mut tx, &[ended], now).await?;
        lead(&mut tx, [id.0]).await?;
        let key = key.as_deref().map(|key| (HookId(hook), key));
        give_turns(&mut tx, key.into_iter().collect(), now).await?;
        let report = self.report_delivery(&mut tx, id).await?;
        tx.commit().await?;
        Ok(report)
    }
}
