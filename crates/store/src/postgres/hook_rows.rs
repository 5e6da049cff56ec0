//! Hooks as they are stored, and kept at hand as a cache.
//!
//! A cache is read with its version in one statement, so that it never claims a version whose
//! hooks it does not hold.

use super::PostgresStore;
use crate::HookCache;
use crate::Result;
use crate::hook_cache::HookUpdate;
use postrider_core::{
    Disabled, DisabledReason, Hook, HookCredentials, HookId, HookSettings, HookStatus, KeyRing,
    Phase, SealError, Timestamp,
};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use std::sync::{Arc, PoisonError};
use uuid::Uuid;

/// What a hook's credentials are sealed for.
const PURPOSE: &str = "hook";

/// The columns of a hook, by name: a newer migration may add some under our prepared
/// statements. `health` is the row of the hook's health, if it has one.
macro_rules! hook_columns {
    () => {
        "h.id, h.alias, h.account, h.url, h.events, h.profile, h.status, h.disabled_reason,
         h.disabled_at, h.disabled_by, h.settings::text AS settings, h.credentials,
         h.created_at, h.updated_at, h.deleted_at, h.version, health.phase"
    };
}
pub(super) use hook_columns;

impl PostgresStore {
    /// The cache as of `version`, or of a later one: read anew if it is another one's.
    pub(super) async fn book_at(
        &self,
        connection: &mut PgConnection,
        version: i64,
    ) -> Result<Arc<HookCache>> {
        let cache = self.current_book();
        match cache.version() == version {
            true => Ok(cache),
            false => self.refresh_book(connection).await,
        }
    }

    /// Brings the cache up to date with what the connection sees.
    pub(super) async fn refresh_book(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Arc<HookCache>> {
        let mut base = self.current_book();
        let mut changes = changes_since(connection, base.version()).await?;
        if changes.version < base.version() {
            // The database is an older one than before, as after a restore.
            base = Arc::default();
            changes = changes_since(connection, base.version()).await?;
        }
        let updates = changes.rows.iter().map(|row| self.update(row));
        let updates = updates.collect::<std::result::Result<Vec<_>, _>>()?;
        warn_of_locked(&updates);
        let cache = Arc::new(base.with(updates, changes.version));
        let mut held = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        if base.version() == 0 || held.version() < cache.version() {
            *held = cache.clone();
        }
        Ok(cache)
    }

    fn update(&self, row: &PgRow) -> std::result::Result<HookUpdate, sqlx::Error> {
        let deleted_at: Option<Timestamp> = row.try_get("deleted_at")?;
        if deleted_at.is_some() {
            return Ok(HookUpdate::Gone(HookId(row.try_get("id")?)));
        }
        let mut hook = hook_from(row)?;
        match open(&self.keys, hook.id, row.try_get("credentials")?) {
            Ok(credentials) => hook.credentials = credentials,
            Err(_) => hook.locked = true,
        }
        Ok(HookUpdate::Put(Arc::new(hook)))
    }
}

/// Says once for all of them which hooks cannot be sent to, and what to do.
fn warn_of_locked(updates: &[HookUpdate]) {
    let locked = updates.iter().filter_map(|update| match update {
        HookUpdate::Put(hook) if hook.locked => Some(hook.id),
        HookUpdate::Put(_) | HookUpdate::Gone(_) => None,
    });
    let locked: Vec<_> = locked.collect();
    if let Some(first) = locked.first() {
        let count = locked.len();
        tracing::error!(
            hook.id = %first,
            hooks = count,
            "Cannot read {count} hooks or open their credentials, {first} among them: their \
             deliveries wait; set secrets.key or secrets.previous_keys to the key they were \
             sealed with, and run a binary no older than the one that wrote them"
        );
    }
}

/// A hook as it is stored, its credentials still sealed. What a newer binary wrote and this
/// one cannot read locks the hook: its deliveries are made, and wait.
pub(super) fn hook_from(row: &PgRow) -> std::result::Result<Hook, sqlx::Error> {
    let id = HookId(row.try_get("id")?);
    let events: Vec<String> = row.try_get("events")?;
    let patterns: Vec<_> = events.iter().filter_map(|e| e.parse().ok()).collect();
    let status = HookStatus::from_name(row.try_get("status")?);
    let settings: Option<HookSettings> = serde_json::from_str(row.try_get("settings")?).ok();
    let phase: Option<&str> = row.try_get("phase")?;
    let locked = patterns.len() < events.len() || status.is_none() || settings.is_none();
    Ok(Hook {
        id,
        alias: row.try_get("alias")?,
        account: row.try_get("account")?,
        url: row.try_get("url")?,
        events: patterns,
        profile: row.try_get("profile")?,
        status: status.unwrap_or(HookStatus::Paused),
        disabled: disabled_from(row)?,
        phase: phase.and_then(Phase::from_name),
        settings: settings.unwrap_or_default(),
        credentials: HookCredentials::default(),
        locked,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

fn disabled_from(row: &PgRow) -> std::result::Result<Option<Disabled>, sqlx::Error> {
    let reason: Option<&str> = row.try_get("disabled_reason")?;
    let Some(reason) = reason.and_then(DisabledReason::from_name) else {
        return Ok(None);
    };
    let (at, by): (Option<_>, Option<_>) =
        (row.try_get("disabled_at")?, row.try_get("disabled_by")?);
    let updated_at = row.try_get("updated_at")?;
    Ok(Some(Disabled {
        reason,
        at: at.unwrap_or(updated_at),
        by: by.unwrap_or_default(),
    }))
}

struct Changes {
    version: i64,
    rows: Vec<PgRow>,
}

async fn changes_since(connection: &mut PgConnection, version: i64) -> Result<Changes> {
    // The version and the hooks of one snapshot: a cache never claims what it does not hold.
    let mut rows = sqlx::query(concat!(
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
    let mut present = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        if row.try_get::<Option<Uuid>, _>("id")?.is_some() {
            present.push(row);
        }
    }
    Ok(Changes {
        version,
        rows: present,
    })
}

pub(super) fn seal(
    keys: &KeyRing,
    id: HookId,
    credentials: &HookCredentials,
) -> std::result::Result<String, SealError> {
    let plain = serde_json::to_vec(credentials).map_err(|_| SealError::Damaged)?;
    keys.seal(PURPOSE, id.0, &plain)
}

pub(super) fn open(
    keys: &KeyRing,
    id: HookId,
    sealed: &str,
) -> std::result::Result<HookCredentials, SealError> {
    let plain = keys.open(PURPOSE, id.0, sealed)?;
    serde_json::from_slice(&plain).map_err(|_| SealError::Damaged)
}
