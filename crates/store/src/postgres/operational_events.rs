//! Operational events: inserted into the outbox by the transaction that they report.

use super::connection::Connection;
use crate::Result;
use crate::operational_events::OperationalEvent;
use postrider_core::{HookId, Timestamp, patterns_matching};
use sqlx::postgres::PgBindIterExt;

/// Inserts operational events into this slot of the outbox.
pub(super) async fn announce(
    connection: &mut Connection,
    slot: i16,
    events: &[OperationalEvent],
    now: Timestamp,
) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: announce
        INSERT INTO postrider_outbox
            (slot, account, event_type, payload, occurred_at, about_hook)
        SELECT $1, account, event_type, payload::json, $2, about_hook
        FROM unnest($3::text[], $4::text[], $5::text[], $6::uuid[]) WITH ORDINALITY
             AS a (account, event_type, payload, about_hook, place)
        ORDER BY place",
    )
    .bind(slot)
    .bind(now)
    .bind(events.iter().map(|a| a.account.as_str()).bind_iter())
    .bind(events.iter().map(|a| a.event_type).bind_iter())
    .bind(events.iter().map(|a| a.payload.as_str()).bind_iter())
    .bind(events.iter().map(|a| a.about.0).bind_iter())
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether a hook of the account other than `about` takes operational events of this type.
pub(super) async fn is_watched(
    connection: &mut Connection,
    account: &str,
    event_type: &str,
    about: HookId,
) -> Result<bool> {
    let watched = sqlx::query_scalar(
        "-- postrider: is_watched
        SELECT EXISTS (
            SELECT FROM postrider_hooks
            WHERE account = $1 AND id <> $2 AND deleted_at IS NULL
              AND disabled_reason IS DISTINCT FROM 'gone' AND events && $3
        )",
    )
    .bind(account)
    .bind(about.0)
    .bind(patterns_matching(event_type))
    .fetch_one(connection)
    .await?;
    Ok(watched)
}
