//! What a row of `postrider_hooks` becomes: a hook, a report, a change of the cache.
//!
//! A hook is locked if its credentials cannot be opened, or if a newer version wrote a pattern,
//! a status or settings that this binary cannot read. Deliveries of a locked hook are made, and
//! wait. What can be read is kept.

use crate::error::not_understood;
use crate::hook_cache::HookUpdate;
use crate::stored_row::StoredRow;
use crate::{HookReport, RegisteredHook, Result};
use postrider_core::{
    DeliveryId, Disabled, DisabledReason, Hook, HookCredentials, HookId, HookSettings, HookStatus,
    KeyRing, Phase, SealError, Timestamp,
};
use std::sync::Arc;

/// The purpose that the credentials of hooks are sealed for.
const PURPOSE: &str = "hook";

/// A row of `postrider_hooks` with the phase of the hook's health, as it is stored.
pub(crate) struct HookRow {
    pub id: HookId,
    pub account: String,
    pub url: String,
    alias: Option<String>,
    events: Vec<String>,
    profile: String,
    status: String,
    disabled_reason: Option<String>,
    disabled_at: Option<Timestamp>,
    disabled_by: Option<String>,
    settings: String,
    /// Sealed.
    credentials: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    deleted_at: Option<Timestamp>,
    version: i64,
    phase: Option<String>,
}

impl HookRow {
    pub(crate) fn read(row: &impl StoredRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: HookId(row.uuid("id")?),
            account: row.text("account")?,
            url: row.text("url")?,
            alias: row.text_or_null("alias")?,
            events: row.texts("events")?,
            profile: row.text("profile")?,
            status: row.text("status")?,
            disabled_reason: row.text_or_null("disabled_reason")?,
            disabled_at: row.time_or_null("disabled_at")?,
            disabled_by: row.text_or_null("disabled_by")?,
            settings: row.text("settings")?,
            credentials: row.text("credentials")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
            deleted_at: row.time_or_null("deleted_at")?,
            version: row.number("version")?,
            phase: row.text_or_null("phase")?,
        })
    }

    /// The status, or `None` if a newer version wrote one that this binary does not know.
    pub(crate) fn status(&self) -> Option<HookStatus> {
        HookStatus::from_name(&self.status)
    }

    /// The settings; those of a newer version are a conflict.
    pub(crate) fn settings(&self) -> Result<HookSettings> {
        serde_json::from_str(&self.settings).map_err(|_| not_understood(self.id))
    }

    pub(crate) fn open_credentials(
        &self,
        keys: &KeyRing,
    ) -> std::result::Result<HookCredentials, SealError> {
        let plain = keys.open(PURPOSE, self.id.0, &self.credentials)?;
        serde_json::from_slice(&plain).map_err(|_| SealError::Damaged)
    }

    /// The hook without its credentials.
    pub(crate) fn hook(&self) -> Hook {
        let events = self.events.iter().filter_map(|text| text.parse().ok());
        let events: Vec<_> = events.collect();
        let settings = serde_json::from_str(&self.settings).ok();
        let status = self.status();
        let locked = events.len() < self.events.len() || status.is_none() || settings.is_none();
        Hook {
            id: self.id,
            alias: self.alias.clone(),
            account: self.account.clone(),
            url: self.url.clone(),
            events,
            profile: self.profile.clone(),
            // An unknown status must never start a delivery.
            status: status.unwrap_or(HookStatus::Paused),
            disabled: self.disabled(),
            phase: self.phase.as_deref().and_then(Phase::from_name),
            settings: settings.unwrap_or_default(),
            credentials: HookCredentials::default(),
            locked,
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
        }
    }

    /// The hook with its credentials.
    pub(crate) fn opened_hook(&self, keys: &KeyRing) -> std::result::Result<Hook, SealError> {
        Ok(Hook {
            credentials: self.open_credentials(keys)?,
            ..self.hook()
        })
    }

    fn cache_update(&self, keys: &KeyRing) -> HookUpdate {
        if self.deleted_at.is_some() {
            return HookUpdate::Gone(self.id);
        }
        let hook = self.opened_hook(keys).unwrap_or_else(|_| Hook {
            locked: true,
            ..self.hook()
        });
        HookUpdate::Put(Arc::new(hook))
    }

    fn disabled(&self) -> Option<Disabled> {
        Some(Disabled {
            reason: DisabledReason::from_name(self.disabled_reason.as_deref()?)?,
            at: self.disabled_since()?,
            by: self.disabled_by.clone().unwrap_or_default(),
        })
    }

    /// When the hook was disabled: if that is not stored, when it was last changed.
    fn disabled_since(&self) -> Option<Timestamp> {
        self.disabled_reason.as_ref()?;
        Some(self.disabled_at.unwrap_or(self.updated_at))
    }
}

/// Seals the credentials of a hook, bound to its id.
pub(crate) fn seal_credentials(
    keys: &KeyRing,
    id: HookId,
    credentials: &HookCredentials,
) -> std::result::Result<String, SealError> {
    let plain = serde_json::to_vec(credentials).map_err(|_| SealError::Damaged)?;
    keys.seal(PURPOSE, id.0, &plain)
}

/// Settings as they are stored.
pub(crate) fn settings_text(settings: &HookSettings) -> String {
    serde_json::to_string(settings).unwrap_or_else(|_| "{}".into())
}

/// The changes of the cache that these rows are. Logs how many of the hooks are locked.
pub(crate) fn cache_updates(hooks: &[HookRow], keys: &KeyRing) -> Vec<HookUpdate> {
    let updates: Vec<_> = hooks.iter().map(|hook| hook.cache_update(keys)).collect();
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
    updates
}

/// Reads a hook as it is shown, from its row with its health, its latest answer and its held
/// deliveries.
pub(crate) fn hook_report(row: &impl StoredRow) -> sqlx::Result<HookReport> {
    let stored = HookRow::read(row)?;
    let oldest_held = row.uuid_or_null("oldest_held")?;
    let disabled_at = stored.disabled_since();
    let mut hook = stored.hook();
    Ok(HookReport {
        id: hook.id,
        alias: hook.alias,
        account: hook.account,
        url: hook.url,
        events: stored.events,
        filter: hook.settings.filter.take(),
        profile: hook.profile,
        secret: None,
        status: hook.status.name().to_owned(),
        fail_count: row.count("fail_count")?,
        first_failure_at: row.time_or_null("first_failure_at")?,
        last_error: row.text_or_null("last_error")?,
        phase: hook.phase,
        not_before: row.time_or_null("not_before")?,
        in_flight: hook.settings.in_flight,
        rate: hook.settings.rate,
        ordered: hook.settings.ordered,
        on_failure: hook.settings.after_failure(),
        disabled_reason: stored.disabled_reason,
        disabled_at,
        disabled_by: stored.disabled_by,
        latest_sent_at: row.time_or_null("latest_sent_at")?,
        latest_status: latest_status(row)?,
        held: row.count("held")?,
        oldest_held_at: oldest_held.map(|id| DeliveryId(id).event_made_at()),
        settings: hook.settings,
        created_at: hook.created_at,
        updated_at: hook.updated_at,
    })
}

/// Reads a hook as its profile's own API shows it.
pub(crate) fn registered_hook(row: &impl StoredRow, keys: &KeyRing) -> Result<RegisteredHook> {
    Ok(RegisteredHook {
        hook: HookRow::read(row)?.opened_hook(keys)?,
        fail_count: row.count("fail_count")?,
        latest_sent_at: row.time_or_null("latest_sent_at")?,
        latest_status: latest_status(row)?,
    })
}

fn latest_status(row: &impl StoredRow) -> sqlx::Result<Option<u16>> {
    let status = row.number_or_null("latest_status")?;
    Ok(status.and_then(|status| u16::try_from(status).ok()))
}
