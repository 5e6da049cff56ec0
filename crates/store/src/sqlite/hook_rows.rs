//! A row of `postrider_hooks` as a hook, and the cache of hooks kept current by version.
//!
//! A hook that cannot be understood (its credentials do not open, or a newer Postrider wrote
//! its settings) stays in the cache as locked: deliveries are made for it and none is started,
//! so nothing is lost until someone mends it.

use super::SqliteStore;
use super::values::moment;
use crate::hook_cache::HookUpdate;
use crate::{Error, HookCache, Result};
use postrider_core::{
    Disabled, DisabledReason, EventPattern, Hook, HookCredentials, HookId, HookStatus, KeyRing,
    Phase, SealError,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use std::sync::{Arc, PoisonError};
use tracing::error;
use uuid::Uuid;

/// What the keys of a hook's credentials are sealed for.
pub(super) const PURPOSE: &str = "hook";

/// A row as it stands in the table.
#[derive(Clone)]
pub(super) struct HookRow {
    pub id: HookId,
    pub alias: Option<String>,
    pub account: String,
    pub url: String,
    pub events: String,
    pub profile: String,
    pub status: String,
    pub disabled_reason: Option<String>,
    pub disabled_at: Option<i64>,
    pub disabled_by: Option<String>,
    pub settings: String,
    pub credentials: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub deleted_at: Option<i64>,
    pub version: i64,
    pub phase: Option<String>,
}

impl FromRow<'_, SqliteRow> for HookRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: HookId(row.try_get::<Uuid, _>("id")?),
            alias: row.try_get("alias")?,
            account: row.try_get("account")?,
            url: row.try_get("url")?,
            events: row.try_get("events")?,
            profile: row.try_get("profile")?,
            status: row.try_get("status")?,
            disabled_reason: row.try_get("disabled_reason")?,
            disabled_at: row.try_get("disabled_at")?,
            disabled_by: row.try_get("disabled_by")?,
            settings: row.try_get("settings")?,
            credentials: row.try_get("credentials")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            deleted_at: row.try_get("deleted_at")?,
            version: row.try_get("version")?,
            phase: row.try_get("phase")?,
        })
    }
}

impl HookRow {
    /// The credentials, opened.
    pub(super) fn open(&self, keys: &KeyRing) -> Result<HookCredentials> {
        let bytes = keys.open(PURPOSE, self.id.0, &self.credentials)?;
        serde_json::from_slice(&bytes).map_err(|_| Error::Seal(SealError::Damaged))
    }

    /// The hook with these credentials; without them, or when a part of the row is not
    /// understood, it is locked.
    pub(super) fn into_hook(self, credentials: Option<HookCredentials>) -> Hook {
        let events: Option<Vec<EventPattern>> = serde_json::from_str(&self.events).ok();
        let settings = serde_json::from_str(&self.settings).ok();
        let status = HookStatus::from_name(&self.status);
        let disabled = self.disabled_reason.as_deref().and_then(|reason| {
            Some(Disabled {
                reason: DisabledReason::from_name(reason)?,
                at: moment(self.disabled_at?),
                by: self.disabled_by.clone().unwrap_or_default(),
            })
        });
        let locked =
            credentials.is_none() || events.is_none() || settings.is_none() || status.is_none();
        Hook {
            id: self.id,
            alias: self.alias,
            account: self.account,
            url: self.url,
            events: events.unwrap_or_default(),
            profile: self.profile,
            status: status.unwrap_or(HookStatus::Paused),
            disabled,
            phase: self.phase.as_deref().and_then(Phase::from_name),
            settings: settings.unwrap_or_default(),
            credentials: credentials.unwrap_or_default(),
            locked,
            created_at: moment(self.created_at),
            updated_at: moment(self.updated_at),
            version: self.version,
        }
    }
}

impl SqliteStore {
    /// The hooks as of the latest look at the database.
    pub(super) fn current_book(&self) -> Arc<HookCache> {
        self.cache
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The hooks as they stand in this transaction.
    pub(super) async fn fresh_book(&self, tx: &mut SqliteConnection) -> Result<Arc<HookCache>> {
        let version: i64 = sqlx::query_scalar(
            "-- postrider: hooks_version
            SELECT hooks_version FROM postrider_meta",
        )
        .fetch_one(&mut *tx)
        .await?;
        self.refresh_book(tx, version).await
    }

    /// Reads the hooks that changed since the cache was made, if `version` says that some did.
    pub(super) async fn refresh_book(
        &self,
        connection: &mut SqliteConnection,
        version: i64,
    ) -> Result<Arc<HookCache>> {
        let cache = self.current_book();
        if cache.version() >= version {
            return Ok(cache);
        }
        let rows: Vec<HookRow> = sqlx::query_as(
            "-- postrider: hooks_since
            SELECT id, alias, account, url, events, profile, status, disabled_reason, disabled_at,
                disabled_by, settings, credentials, created_at, updated_at, deleted_at, version,
                phase
            FROM postrider_hooks LEFT JOIN postrider_hook_health ON hook_id = id
            WHERE version > ?1 ORDER BY version",
        )
        .bind(cache.version())
        .fetch_all(connection)
        .await?;
        let mut locked = 0;
        let updates = rows
            .into_iter()
            .map(|row| {
                if row.deleted_at.is_some() {
                    return HookUpdate::Gone(row.id);
                }
                let credentials = row.open(&self.keys).ok();
                let hook = row.into_hook(credentials);
                locked += u32::from(hook.locked);
                HookUpdate::Put(Arc::new(hook))
            })
            .collect();
        if locked > 0 {
            error!(
                hooks.locked = locked,
                "{locked} hooks cannot be used: their credentials do not open with the \
                 configured keys (secrets.key, secrets.previous_keys), or a newer Postrider \
                 wrote them; their deliveries are made and wait"
            );
        }
        let fresh = Arc::new(cache.with(updates, version));
        let mut place = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        if fresh.version() > place.version() {
            *place = fresh.clone();
        }
        Ok(fresh)
    }
}
