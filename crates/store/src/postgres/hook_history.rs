//! What happened to hooks: written by the transaction in which it happens, and read again.
//!
//! The entries of a hook are in the order of what they tell: whoever changes a hook's status
//! holds the row with the version of the hooks, and draws the number after that.

use super::PostgresStore;
use crate::Result;
use crate::audit_entry::{AuditEntry, ENTRIES_KEPT};
use crate::{Error, HistoryFilter, HookChangeReport};
use postrider_core::{HookId, Timestamp};
use sqlx::postgres::{PgBindIterExt, PgRow};
use sqlx::{PgConnection, Row};

impl PostgresStore {
    pub(super) async fn hook_history(
        &self,
        id: HookId,
        filter: HistoryFilter,
    ) -> Result<Vec<HookChangeReport>> {
        let entries = sqlx::query(
            "-- postrider: hook_history
            SELECT number, at, action, actor, reason, fail_count, last_error, deliveries
            FROM postrider_hook_history
            WHERE hook_id = $1 AND number < $2
            ORDER BY number DESC LIMIT $3",
        )
        .bind(id.0)
        .bind(filter.before.unwrap_or(i64::MAX))
        .bind(i64::from(filter.limit))
        .try_map(|row: PgRow| report_from(&row))
        .fetch_all(&self.calm)
        .await?;
        if entries.is_empty() && filter.before.is_none() {
            self.require_known(id).await?;
        }
        Ok(entries)
    }

    /// A hook that was ever registered; deleted ones count.
    async fn require_known(&self, id: HookId) -> Result<()> {
        let known: bool = sqlx::query_scalar(
            "-- postrider: hook_known
            SELECT EXISTS (SELECT FROM postrider_hooks WHERE id = $1)",
        )
        .bind(id.0)
        .fetch_one(&self.calm)
        .await?;
        match known {
            true => Ok(()),
            false => Err(Error::NotFound {
                what: "hook",
                id: id.to_string(),
            }),
        }
    }
}

fn report_from(row: &PgRow) -> std::result::Result<HookChangeReport, sqlx::Error> {
    Ok(HookChangeReport {
        number: row.try_get("number")?,
        at: row.try_get("at")?,
        action: row.try_get("action")?,
        actor: row.try_get("actor")?,
        reason: row.try_get("reason")?,
        fail_count: row.try_get::<i32, _>("fail_count")?.unsigned_abs(),
        last_error: row.try_get("last_error")?,
        deliveries: row
            .try_get::<Option<i32>, _>("deliveries")?
            .map(i32::unsigned_abs),
    })
}

/// Writes entries into the history of their hooks, and takes away what is beyond the newest.
pub(super) async fn record(
    connection: &mut PgConnection,
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
