//! Rows of deliveries that a statement has just leased.
//!
//! Every statement that leases ends with `RETURNING` and [`taken_columns`], and [`read_leased`]
//! reads the result by position.

use crate::Result;
use crate::lease::LeasedRow;
use postrider_core::{DeliveryId, EventId, HookId};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// The columns of a leased delivery, and the version of the hooks.
macro_rules! taken_columns {
    () => {
        "id, day, event_id, hook_id, attempts, earlier_attempts, next_attempt_at,
                  (SELECT hooks_version FROM postrider_meta WHERE singleton), target,
                  event_seq, batch_id"
    };
}
pub(super) use taken_columns;

/// The rows that a statement leased, the longest due first, and the version of the hooks that
/// decided; `None` if it leased none.
pub(super) fn read_leased(rows: &[PgRow]) -> Result<(Option<i64>, Vec<LeasedRow>)> {
    let version = rows.first().map(|row| row.try_get(7)).transpose()?;
    let leased = rows.iter().map(|row| {
        Ok(LeasedRow {
            id: DeliveryId(row.try_get(0)?),
            day: row.try_get(1)?,
            event: EventId(row.try_get(2)?),
            hook: HookId(row.try_get(3)?),
            attempts: row.try_get::<i32, _>(4)?.unsigned_abs(),
            earlier_attempts: row.try_get::<i32, _>(5)?.unsigned_abs(),
            due: row.try_get(6)?,
            target: row.try_get(8)?,
            event_seq: row.try_get(9)?,
            batch: row.try_get::<Option<Uuid>, _>(10)?.map(DeliveryId),
        })
    });
    let mut leased = leased.collect::<Result<Vec<_>>>()?;
    leased.sort_unstable_by_key(|row| (row.due, row.id));
    Ok((version, leased))
}
