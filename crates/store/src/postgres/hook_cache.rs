//! The hook cache, kept current with the database.
//!
//! The hooks and their version are read in one statement, so that the cache never claims a
//! version whose hooks it does not hold.

use super::PostgresStore;
use super::connection::Connection;
use crate::hook_row::{HookRow, cache_updates};
use crate::{HookCache, Result};
use sqlx::Row;
use sqlx::postgres::PgRow;
use std::sync::Arc;
use uuid::Uuid;

/// The columns of a [`HookRow`], by name: a newer migration may add some under our prepared
/// statements. `h` is the hook, `health` its health, if it has a row of it.
macro_rules! hook_columns {
    () => {
        "h.id, h.alias, h.account, h.url, h.events, h.profile, h.status, h.disabled_reason,
         h.disabled_at, h.disabled_by, h.settings::text AS settings, h.credentials,
         h.created_at, h.updated_at, h.deleted_at, h.version, health.phase"
    };
}
pub(super) use hook_columns;

impl PostgresStore {
    /// The cache at `version` or a later one; read again if it has another version.
    pub(super) async fn hooks_at(
        &self,
        connection: &mut Connection,
        version: i64,
    ) -> Result<Arc<HookCache>> {
        let cache = self.cache.get();
        match cache.version() == version {
            true => Ok(cache),
            false => self.refresh_hooks(connection).await,
        }
    }

    /// Reads what has changed since the cache was read, as the connection sees it.
    pub(super) async fn refresh_hooks(
        &self,
        connection: &mut Connection,
    ) -> Result<Arc<HookCache>> {
        let mut base = self.cache.get();
        let mut changes = hooks_since(connection, base.version()).await?;
        if changes.version < base.version() {
            // The database is an older one than before, as after a restore.
            base = Arc::default();
            changes = hooks_since(connection, base.version()).await?;
        }
        let updates = cache_updates(&changes.hooks, &self.keys);
        let cache = Arc::new(base.with(updates, changes.version));
        match base.version() {
            0 => self.cache.replace(&cache),
            _ => self.cache.advance(&cache),
        }
        Ok(cache)
    }
}

/// The hooks that have changed since a version, and the version they are at now.
struct ChangedHooks {
    version: i64,
    hooks: Vec<HookRow>,
}

async fn hooks_since(connection: &mut Connection, version: i64) -> Result<ChangedHooks> {
    let rows = sqlx::query(concat!(
        "-- postrider: hooks_since
        SELECT m.hooks_version, ",
        hook_columns!(),
        " FROM postrider_meta AS m LEFT JOIN postrider_hooks AS h ON h.version > $1
        LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
        WHERE m.singleton",
    ))
    .bind(version)
    .fetch_all(connection)
    .await?;
    let version = match rows.first() {
        Some(row) => row.try_get("hooks_version")?,
        None => 0,
    };
    // Where nothing has changed, the one row has the version and no hook.
    let is_hook = |row: &PgRow| matches!(row.try_get::<Option<Uuid>, _>("id"), Ok(Some(_)));
    let hooks = rows.iter().filter(|row| is_hook(row)).map(HookRow::read);
    Ok(ChangedHooks {
        version,
        hooks: hooks.collect::<sqlx::Result<_>>()?,
    })
}
