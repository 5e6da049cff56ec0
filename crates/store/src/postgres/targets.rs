//! Where deliveries go, if that is kept with their first attempt.

use super::connection::Connection;
use crate::Result;
use crate::settlement::DeliverySettlement;
use crate::target;
use postrider_core::KeyRing;
use sqlx::postgres::PgBindIterExt;

/// Keeps the targets of deliveries that wait from now on, where they are to be kept. Nearly always
/// there is none, which costs nothing. The caller holds the locks of the rows.
pub(super) async fn keep_targets(
    connection: &mut Connection,
    slot: i16,
    keys: &KeyRing,
    settled: &[DeliverySettlement<'_>],
) -> Result<()> {
    let kept = target::to_keep(keys, settled)?;
    if kept.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: settle_target
        UPDATE postrider_deliveries AS d SET target = i.target
        FROM unnest($2::uuid[], $3::text[]) AS i (id, target)
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM postrider_deliveries
            WHERE slot = $1 AND id = i.id LIMIT 1
        ) AS found
        WHERE d.slot = $1 AND d.ctid = found.place",
    )
    .bind(slot)
    .bind(kept.iter().map(|(id, _)| id.0).bind_iter())
    .bind(kept.iter().map(|(_, target)| target.as_str()).bind_iter())
    .execute(connection)
    .await?;
    Ok(())
}
