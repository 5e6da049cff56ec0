//! Where deliveries go, if that is kept with their first attempt.

use super::values::rows;
use crate::settlement::DeliverySettlement;
use crate::{Result, target};
use postrider_core::KeyRing;
use sqlx::SqliteConnection;

/// Keeps the targets of deliveries that wait from now on, where they are to be kept. Nearly always
/// there is none, which costs nothing.
pub(super) async fn keep_targets(
    tx: &mut SqliteConnection,
    keys: &KeyRing,
    settled: &[DeliverySettlement<'_>],
) -> Result<()> {
    let kept = target::to_keep(keys, settled)?;
    if kept.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: settle_target
        WITH t (v) AS MATERIALIZED (SELECT value FROM json_each(?1)),
        s AS MATERIALIZED (SELECT unhex(v ->> 0) AS id, v ->> 1 AS target FROM t)
        UPDATE postrider_deliveries AS d SET target = s.target
        FROM s WHERE d.slot = 0 AND d.id IN (SELECT id FROM s) AND s.id = d.id",
    )
    .bind(rows(
        kept.iter().map(|(id, target)| (id.0.simple(), target)),
    ))
    .execute(tx)
    .await?;
    Ok(())
}
