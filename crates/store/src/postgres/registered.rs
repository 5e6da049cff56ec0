//! Hooks as a profile's own API shows them: by their aliases, with what they were given.

use super::PostgresStore;
use super::hook_rows::{hook_columns, hook_from, open};
use crate::Result;
use crate::{RegisteredFilter, RegisteredHook};
use sqlx::Row;
use sqlx::postgres::PgRow;

impl PostgresStore {
    pub(super) async fn registered(
        &self,
        filter: &RegisteredFilter,
    ) -> Result<Vec<RegisteredHook>> {
        let rows = sqlx::query(concat!(
            "-- postrider: registered
            SELECT ",
            hook_columns!(),
            ", coalesce(health.fail_count, 0) AS fail_count, latest.at AS latest_sent_at,
               latest.status AS latest_status
            FROM postrider_hooks AS h
            LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
            LEFT JOIN postrider_hook_latest AS latest ON latest.hook_id = h.id
            WHERE h.account = $1 AND h.profile = $2 AND h.deleted_at IS NULL
              AND h.alias IS NOT NULL AND ($3::text IS NULL OR h.alias = $3)
              AND ($4::text IS NULL OR h.alias <= $4)
            ORDER BY h.alias DESC LIMIT $5",
        ))
        .bind(&filter.account)
        .bind(&filter.profile)
        .bind(&filter.only)
        .bind(&filter.up_to)
        .bind(i64::from(filter.limit))
        .fetch_all(&self.calm)
        .await?;
        rows.iter().map(|row| self.registered_from(row)).collect()
    }

    fn registered_from(&self, row: &PgRow) -> Result<RegisteredHook> {
        let mut hook = hook_from(row)?;
        hook.credentials = open(&self.keys, hook.id, row.try_get("credentials")?)?;
        let fail_count: i32 = row.try_get("fail_count")?;
        let latest_status: Option<i16> = row.try_get("latest_status")?;
        Ok(RegisteredHook {
            hook,
            fail_count: u32::try_from(fail_count).unwrap_or_default(),
            latest_sent_at: row.try_get("latest_sent_at")?,
            latest_status: latest_status.and_then(|status| u16::try_from(status).ok()),
        })
    }
}
