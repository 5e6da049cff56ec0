//! Rows of deliveries that a statement has just leased.
//!
//! Every statement that leases ends with `RETURNING` and [`taken_columns`], and
//! [`read_leased`] reads the result by name.

use crate::Result;
use crate::lease::LeasedRow;
use postrider_core::{DeliveryId, EventId, HookId};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// The columns of a leased delivery, and the version of the hooks.
macro_rules! taken_columns {
    () => {
        "id, day, event_id, hook_id, event_seq, batch_id, attempts, earlier_attempts,
                  next_attempt_at, target,
                  (SELECT hooks_version FROM postrider_meta WHERE singleton) AS hooks_version"
    };
}
pub(super) use taken_columns;

/// The rows that a statement leased, the longest due first, and the version of the hooks that
/// decided; `None` if it leased none.
pub(super) fn read_leased(rows: &[PgRow]) -> Result<(Option<i64>, Vec<LeasedRow>)> {
    let version = rows
        .first()
        .map(|row| row.try_get("hooks_version"))
        .transpose()?;
    let leased = rows.iter().map(|row| {
        Ok(LeasedRow {
            id: DeliveryId(row.try_get("id")?),
            day: row.try_get("day")?,
            event: EventId(row.try_get("event_id")?),
            hook: HookId(row.try_get("hook_id")?),
            event_seq: row.try_get("event_seq")?,
            batch: row.try_get::<Option<Uuid>, _>("batch_id")?.map(DeliveryId),
            attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
            earlier_attempts: row.try_get::<i32, _>("earlier_attempts")?.unsigned_abs(),
            due: row.try_get("next_attempt_at")?,
            target: row.try_get("target")?,
        })
    });
    let mut leased = leased.collect::<Result<Vec<_>>>()?;
    leased.sort_unstable_by_key(|row| (row.due, row.id));
    Ok((version, leased))
}
