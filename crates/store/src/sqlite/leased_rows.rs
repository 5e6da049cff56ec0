//! Rows of deliveries that a statement has just leased.
//!
//! Every statement that leases ends with `RETURNING` and [`leased_columns`].

use super::values::{day_of, moment};
use crate::lease::LeasedRow;
use postrider_core::{DeliveryId, EventId, HookId};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

/// The columns of a delivery that is leased.
macro_rules! leased_columns {
    () => {
        "id, day, event_id, hook_id, event_seq, batch_id, attempts, earlier_attempts,
            next_attempt_at, target"
    };
}
pub(super) use leased_columns;

impl FromRow<'_, SqliteRow> for LeasedRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: DeliveryId(row.try_get("id")?),
            day: day_of(row.try_get("day")?),
            event: EventId(row.try_get("event_id")?),
            hook: HookId(row.try_get("hook_id")?),
            event_seq: row.try_get("event_seq")?,
            batch: row.try_get::<Option<Uuid>, _>("batch_id")?.map(DeliveryId),
            attempts: row.try_get("attempts")?,
            earlier_attempts: row.try_get("earlier_attempts")?,
            due: moment(row.try_get("next_attempt_at")?),
            target: row.try_get("target")?,
        })
    }
}
