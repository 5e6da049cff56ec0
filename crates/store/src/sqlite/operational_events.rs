//! Operational events: inserted into the outbox by the transaction that they report.

use super::values::rows;
use crate::Result;
use crate::operational_events::OperationalEvent;
use postrider_core::{HookId, Timestamp, patterns_matching};
use sqlx::SqliteConnection;

/// Inserts operational events into the outbox.
pub(super) async fn announce(
    tx: &mut SqliteConnection,
    events: &[OperationalEvent],
    now: Timestamp,
) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: announce
        WITH s (n, v) AS MATERIALIZED (SELECT key, value FROM json_each(?1))
        INSERT INTO postrider_outbox (account, event_type, payload, occurred_at, about_hook)
        SELECT v ->> 0, v ->> 1, v ->> 2, ?2, v ->> 3 FROM s ORDER BY n",
    )
    .bind(rows(events.iter().map(|event| {
        (
            &event.account,
            event.event_type,
            &event.payload,
            event.about,
        )
    })))
    .bind(now.to_rfc3339())
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether a hook of the account other than `about` takes operational events of this type.
pub(super) async fn is_watched(
    tx: &mut SqliteConnection,
    account: &str,
    event_type: &str,
    about: HookId,
) -> Result<bool> {
    let watched = sqlx::query_scalar(
        "-- postrider: is_watched
        SELECT EXISTS (
            SELECT 1 FROM postrider_hooks AS h
            WHERE h.account = ?1 AND h.id <> ?2 AND h.deleted_at IS NULL
                AND h.disabled_reason IS NOT 'gone'
                AND EXISTS (SELECT 1 FROM json_each(h.events) AS e
                    WHERE e.value IN (SELECT value FROM json_each(?3)))
        )",
    )
    .bind(account)
    .bind(about.0)
    .bind(rows(patterns_matching(event_type)))
    .fetch_one(tx)
    .await?;
    Ok(watched)
}
