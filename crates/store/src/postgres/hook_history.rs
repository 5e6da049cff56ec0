//! The history of hooks, written by the transaction that makes the change.
//!
//! The entries of a hook are in the order of its changes: a transaction that changes a hook's
//! status holds the row with the version of the hooks, and draws the entry's number after that.

use super::connection::Connection;
use super::pool::Pool;
use crate::audit_entry::{AuditEntry, ENTRIES_KEPT, hook_change_report};
use crate::error::hook_not_found;
use crate::{HistoryFilter, HookChangeReport, Result};
use postrider_core::{HookId, Timestamp};
use sqlx::postgres::PgBindIterExt;

/// Reads the history of a hook, newest first. A hook that was deleted has one too.
pub(super) async fn hook_history(
    pool: &Pool,
    id: HookId,
    filter: HistoryFilter,
) -> Result<Vec<HookChangeReport>> {
    let rows = sqlx::query(
        "-- postrider: hook_history
        SELECT number, at, action, actor, reason, fail_count, last_error, deliveries
        FROM postrider_hook_history
        WHERE hook_id = $1 AND number < $2
        ORDER BY number DESC LIMIT $3",
    )
    .bind(id.0)
    .bind(filter.before.unwrap_or(i64::MAX))
    .bind(i64::from(filter.limit))
    .fetch_all(pool)
    .await?;
    if rows.is_empty() && filter.before.is_none() && !is_known(pool, id).await? {
        return Err(hook_not_found(id));
    }
    let reports = rows.iter().map(hook_change_report);
    Ok(reports.collect::<sqlx::Result<_>>()?)
}

/// Whether there is or was a hook of this id.
async fn is_known(pool: &Pool, id: HookId) -> Result<bool> {
    let known = sqlx::query_scalar(
        "-- postrider: hook_known
        SELECT EXISTS (SELECT FROM postrider_hooks WHERE id = $1)",
    )
    .bind(id.0)
    .fetch_one(pool)
    .await?;
    Ok(known)
}

/// Writes entries into the history of their hooks, and deletes all but the newest of each hook.
pub(super) async fn record(
    connection: &mut Connection,
    entries: &[AuditEntry],
    now: Timestamp,
) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let hooks = || entries.iter().map(|entry| entry.hook.0);
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    sqlx::query(
        "-- postrider: record_changes
        INSERT INTO postrider_hook_history
            (hook_id, at, action, actor, reason, fail_count, last_error, deliveries)
        SELECT hook_id, $1, action, actor, reason, fail_count, last_error, deliveries
        FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::text[],
                    $8::integer[])
             AS e (hook_id, action, actor, reason, fail_count, last_error, deliveries)",
    )
    .bind(now)
    .bind(hooks().bind_iter())
    .bind(entries.iter().map(|e| e.action.name()).bind_iter())
    .bind(entries.iter().map(|e| e.actor.as_str()).bind_iter())
    .bind(entries.iter().map(|e| e.reason.as_deref()).bind_iter())
    .bind(entries.iter().map(|e| number(e.fail_count)).bind_iter())
    .bind(entries.iter().map(|e| e.last_error.as_deref()).bind_iter())
    .bind(entries.iter().map(|e| e.deliveries.map(number)).bind_iter())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "-- postrider: forget_changes
        DELETE FROM postrider_hook_history AS h USING (
            SELECT a.hook_id, oldest.number
            FROM unnest($1::uuid[]) AS a (hook_id) CROSS JOIN LATERAL (
                SELECT number FROM postrider_hook_history
                WHERE hook_id = a.hook_id ORDER BY number DESC OFFSET $2 LIMIT 1
            ) AS oldest
        ) AS beyond
        WHERE h.hook_id = beyond.hook_id AND h.number <= beyond.number",
    )
    .bind(hooks().bind_iter())
    .bind(ENTRIES_KEPT)
    .execute(connection)
    .await?;
    Ok(())
}
