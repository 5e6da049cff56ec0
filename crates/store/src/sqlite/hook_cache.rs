//! The hook cache, kept current with the database.

use super::SqliteStore;
use crate::hook_row::{HookRow, cache_updates};
use crate::{HookCache, Result};
use sqlx::sqlite::SqliteConnection;
use std::sync::Arc;

/// The columns of a [`HookRow`]. `h` is the hook, `health` its health, if it has a row of it.
macro_rules! hook_columns {
    () => {
        "h.id, h.alias, h.account, h.url, h.events, h.profile, h.status, h.disabled_reason,
         h.disabled_at, h.disabled_by, h.settings, h.credentials,
         h.created_at, h.updated_at, h.deleted_at, h.version, health.phase"
    };
}
pub(super) use hook_columns;

impl SqliteStore {
    /// The cache as of this transaction.
    pub(super) async fn refresh_hooks(&self, tx: &mut SqliteConnection) -> Result<Arc<HookCache>> {
        let version: i64 = sqlx::query_scalar(
            "-- postrider: hooks_version
            SELECT hooks_version FROM postrider_meta",
        )
        .fetch_one(&mut *tx)
        .await?;
        self.hooks_at(tx, version).await
    }

    /// Reads the hooks that have changed since the cache was read, if `version`, which the
    /// caller has read, is a later one.
    pub(super) async fn hooks_at(
        &self,
        connection: &mut SqliteConnection,
        version: i64,
    ) -> Result<Arc<HookCache>> {
        let cache = self.cache.get();
        if cache.version() >= version {
            return Ok(cache);
        }
        let rows = sqlx::query(concat!(
            "-- postrider: hooks_since
            SELECT ",
            hook_columns!(),
            " FROM postrider_hooks AS h
            LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
            WHERE h.version > ?1 ORDER BY h.version",
        ))
        .bind(cache.version())
        .fetch_all(connection)
        .await?;
        let hooks = rows.iter().map(HookRow::read);
        let hooks = hooks.collect::<sqlx::Result<Vec<_>>>()?;
        let fresh = Arc::new(cache.with(cache_updates(&hooks, &self.keys), version));
        self.cache.advance(&fresh);
        Ok(fresh)
    }
}
