//! What happened to hooks: written by the transaction in which it happens, and read again.

use super::SqliteStore;
use super::values::{micros, moment, rows};
use crate::audit_entry::{AuditEntry, ENTRIES_KEPT};
use crate::{Error, HistoryFilter, HookChangeReport, Result};
use postrider_core::{HookId, Timestamp};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};

impl SqliteStore {
    pub(super) async fn list_changes(
        &self,
        id: HookId,
        filter: HistoryFilter,
    ) -> Result<Vec<HookChangeReport>> {
        let found: Vec<ChangeRow> = sqlx::query_as(
            "-- postrider: hook_history
            SELECT number, at, action, actor, reason, fail_count, last_error, deliveries
            FROM postrider_hook_history
            WHERE hook_id = ?1 AND number < ?2
            ORDER BY number DESC LIMIT ?3",
        )
        .bind(id.0)
        .bind(filter.before.unwrap_or(i64::MAX))
        .bind(filter.limit)
        .fetch_all(&self.readers)
        .await?;
        if found.is_empty() && filter.before.is_none() {
            self.require_known(id).await?;
        }
        Ok(found.into_iter().map(|row| row.0).collect())
    }

    /// A hook that was ever registered; deleted ones count.
    async fn require_known(&self, id: HookId) -> Result<()> {
        let known: bool = sqlx::query_scalar(
            "-- postrider: hook_known
            SELECT EXISTS (SELECT 1 FROM postrider_hooks WHERE id = ?1)",
        )
        .bind(id.0)
        .fetch_one(&self.readers)
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

struct ChangeRow(HookChangeReport);

impl FromRow<'_, SqliteRow> for ChangeRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self(HookChangeReport {
            number: row.try_get("number")?,
            at: moment(row.try_get("at")?),
            action: row.try_get("action")?,
            actor: row.try_get("actor")?,
            reason: row.try_get("reason")?,
            fail_count: row.try_get("fail_count")?,
            last_error: row.try_get("last_error")?,
            deliveries: row.try_get("deliveries")?,
        }))
    }
}

/// Writes entries into the history of their hooks, and takes away what is beyond the newest.
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
