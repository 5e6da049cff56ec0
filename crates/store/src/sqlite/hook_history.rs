//! The history of hooks, written by the transaction that makes the change.

use super::values::{micros, rows};
use crate::audit_entry::{AuditEntry, ENTRIES_KEPT, hook_change_report};
use crate::error::hook_not_found;
use crate::{HistoryFilter, HookChangeReport, Result};
use postrider_core::{HookId, Timestamp};
use sqlx::{SqliteConnection, SqlitePool};

/// Reads the history of a hook, newest first. A hook that was deleted has one too.
pub(super) async fn hook_history(
    pool: &SqlitePool,
    id: HookId,
    filter: HistoryFilter,
) -> Result<Vec<HookChangeReport>> {
    let rows = sqlx::query(
        "-- postrider: hook_history
        SELECT number, at, action, actor, reason, fail_count, last_error, deliveries
        FROM postrider_hook_history
        WHERE hook_id = ?1 AND number < ?2
        ORDER BY number DESC LIMIT ?3",
    )
    .bind(id.0)
    .bind(filter.before.unwrap_or(i64::MAX))
    .bind(filter.limit)
    .fetch_all(pool)
    .await?;
    if rows.is_empty() && filter.before.is_none() && !is_known(pool, id).await? {
        return Err(hook_not_found(id));
    }
    let reports = rows.iter().map(hook_change_report);
    Ok(reports.collect::<sqlx::Result<_>>()?)
}

/// Whether there is or was a hook of this id.
async fn is_known(pool: &SqlitePool, id: HookId) -> Result<bool> {
    let known = sqlx::query_scalar(
        "-- postrider: hook_known
        SELECT EXISTS (SELECT 1 FROM postrider_hooks WHERE id = ?1)",
    )
    .bind(id.0)
    .fetch_one(pool)
    .await?;
    Ok(known)
}

/// Writes entries into the history of their hooks, and deletes all but the newest of each hook.
pub(super) async fn record(
    tx: &mut SqliteConnection,
    entries: &[AuditEntry],
    now: Timestamp,
) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: record_changes
        WITH s (n, v) AS MATERIALIZED (SELECT key, value FROM json_each(?2))
        INSERT INTO postrider_hook_history
            (hook_id, at, action, actor, reason, fail_count, last_error, deliveries)
        SELECT unhex(v ->> 0), ?1, v ->> 1, v ->> 2, v ->> 3, v ->> 4, v ->> 5, v ->> 6
        FROM s ORDER BY n",
    )
    .bind(micros(now))
    .bind(rows(entries.iter().map(|entry| {
        (
            entry.hook.0.simple(),
            entry.action.name(),
            &entry.actor,
            &entry.reason,
            entry.fail_count,
            &entry.last_error,
            entry.deliveries,
        )
    })))
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "-- postrider: forget_changes
        DELETE FROM postrider_hook_history WHERE number IN (
            SELECT h.number FROM json_each(?1) AS a CROSS JOIN postrider_hook_history AS h
            ON h.hook_id = unhex(a.value) AND h.number <= (
                SELECT number FROM postrider_hook_history
                WHERE hook_id = unhex(a.value) ORDER BY number DESC LIMIT 1 OFFSET ?2
            )
        )",
    )
    .bind(rows(entries.iter().map(|entry| entry.hook.0.simple())))
    .bind(ENTRIES_KEPT)
    .execute(tx)
    .await?;
    Ok(())
}
