//! Hooks as a profile's own API shows them: by their aliases, with what they were given.

use super::SqliteStore;
use super::hook_rows::HookRow;
use super::values::moment;
use crate::{RegisteredFilter, RegisteredHook, Result};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

impl SqliteStore {
    pub(super) async fn list_registered(
        &self,
        filter: &RegisteredFilter,
    ) -> Result<Vec<RegisteredHook>> {
        let rows = sqlx::query(
            "-- postrider: registered
            SELECT h.*, health.phase, coalesce(health.fail_count, 0) AS fail_count,
                   latest.at AS latest_sent_at, latest.status AS latest_status
            FROM postrider_hooks AS h
            LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
            LEFT JOIN postrider_hook_latest AS latest ON latest.hook_id = h.id
            WHERE h.account = ?1 AND h.profile = ?2 AND h.deleted_at IS NULL
              AND h.alias IS NOT NULL AND (?3 IS NULL OR h.alias = ?3)
              AND (?4 IS NULL OR h.alias <= ?4)
            ORDER BY h.alias DESC LIMIT ?5",
        )
        .bind(&filter.account)
        .bind(&filter.profile)
        .bind(&filter.only)
        .bind(&filter.up_to)
        .bind(filter.limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| self.registered_from(row)).collect()
    }

    fn registered_from(&self, row: &SqliteRow) -> Result<RegisteredHook> {
        let hook = HookRow::from_row(row)?;
        let credentials = hook.open(&self.keys)?;
        let latest_sent_at: Option<i64> = row.try_get("latest_sent_at")?;
        Ok(RegisteredHook {
            hook: hook.into_hook(Some(credentials)),
            fail_count: row.try_get("fail_count")?,
            latest_sent_at: latest_sent_at.map(moment),
            latest_status: row.try_get("latest_status")?,
        })
    }
}
