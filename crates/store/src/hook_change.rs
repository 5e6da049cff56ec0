//! Registering, changing and removing a hook: what is decided, recorded and announced.
//!
//! Each script is the body of one transaction, for both stores. The statements are the store's.
//! The order of locks is the same as in settling: the hook's health before the version of
//! the hooks.

use crate::audit_entry::{AuditAction, AuditEntry};
use crate::error::{alias_taken, hook_not_found, not_understood};
use crate::hook_row::{HookRow, seal_credentials};
use crate::operational_events::{OperationalEvent, of_status_change};
use crate::stored_row::StoredRow;
use crate::{HookChange, HookReport, Result};
use async_trait::async_trait;
use postrider_core::{
    HookAction, HookEdit, HookError, HookId, HookSettings, HookStatus, KeyRing, NewAlias, NewHook,
    Timestamp,
};

/// The statements of a transaction that changes a hook.
#[async_trait]
pub(crate) trait HookStatements: Send {
    /// Locks the version of the hooks until the transaction ends. Versions therefore become
    /// visible in their order, and no cache can miss one.
    async fn lock_hooks(&mut self) -> Result<()>;

    /// Counts the hooks of a profile in an account.
    async fn count_hooks(&mut self, account: &str, profile: &str) -> Result<u32>;

    /// Draws the next number of a profile whose aliases are numbers.
    async fn next_alias(&mut self, profile: &str) -> Result<i64>;

    /// Inserts a hook under a new version. `false`: another hook of the profile has the alias.
    async fn insert_hook(
        &mut self,
        hook: &PreparedHook,
        alias: Option<&str>,
        now: Timestamp,
    ) -> Result<bool>;

    /// Reads a hook that is not deleted.
    async fn find_hook(&mut self, id: HookId) -> Result<Option<HookRow>>;

    /// Reads a hook's failures, and keeps settlements from adding to them.
    async fn lock_failures(&mut self, id: HookId) -> Result<HookFailures>;

    /// Sets a hook's failures to none. One that is not active, or is backed off, is backed off
    /// until `now`, so that it begins with a probe.
    async fn forget_failures(&mut self, id: HookId, now: Timestamp) -> Result<()>;

    /// Writes a change of a hook under a new version.
    async fn update_hook(
        &mut self,
        id: HookId,
        patch: &HookPatch,
        by: &str,
        now: Timestamp,
    ) -> Result<()>;

    /// Marks a hook as deleted under a new version.
    async fn mark_deleted(&mut self, id: HookId, now: Timestamp) -> Result<()>;

    /// Reads a hook that is not deleted as it is shown.
    async fn report_hook(&mut self, id: HookId) -> Result<Option<HookReport>>;

    /// Writes entries into the history of their hooks.
    async fn record(&mut self, entries: &[AuditEntry], now: Timestamp) -> Result<()>;

    /// Inserts an operational event into the outbox, if a hook of the account other than the
    /// one it is about asks for it.
    async fn announce_if_watched(&mut self, event: &OperationalEvent, now: Timestamp)
    -> Result<()>;
}

/// A hook that was checked and is ready to be inserted.
pub(crate) struct PreparedHook {
    pub id: HookId,
    pub new: NewHook,
    /// Sealed.
    pub credentials: String,
}

impl PreparedHook {
    pub(crate) fn of(new: NewHook, keys: &KeyRing, now: Timestamp) -> Result<Self> {
        new.check()?;
        let id = HookId::draw(now);
        let credentials = seal_credentials(keys, id, &new.credentials)?;
        Ok(Self {
            id,
            new,
            credentials,
        })
    }
}

/// A hook's failures in a row.
#[derive(Default)]
pub(crate) struct HookFailures {
    pub count: u32,
    pub first_at: Option<Timestamp>,
    pub last_error: Option<String>,
}

impl HookFailures {
    pub(crate) fn read(row: &impl StoredRow) -> sqlx::Result<Self> {
        Ok(Self {
            count: row.count("fail_count")?,
            first_at: row.time_or_null("first_failure_at")?,
            last_error: row.text_or_null("last_error")?,
        })
    }
}

/// What is written to a hook. `None` leaves a column as it is, also if this binary cannot read
/// what it holds.
#[derive(Default)]
pub(crate) struct HookPatch {
    pub url: Option<String>,
    pub events: Option<Vec<String>>,
    pub settings: Option<HookSettings>,
    /// Sealed.
    pub credentials: Option<String>,
    pub status: Option<HookStatus>,
}

/// What a change does to a hook.
#[derive(Default)]
struct HookDecision {
    /// `None`: nothing is written.
    patch: Option<HookPatch>,
    /// What is recorded, in this order.
    actions: Vec<AuditAction>,
    /// The new signing secret, which is shown this once.
    secret: Option<String>,
}

/// Registers a hook and returns it with its signing secret.
pub(crate) async fn create_hook<S: HookStatements>(
    tx: &mut S,
    hook: &PreparedHook,
    by: &str,
    now: Timestamp,
) -> Result<HookReport> {
    let new = &hook.new;
    tx.lock_hooks().await?;
    if let Some(at_most) = new.at_most {
        let taken = tx.count_hooks(&new.account, &new.profile).await?;
        if taken >= at_most {
            return Err(HookError::TooMany(taken).into());
        }
    }
    let alias = match &new.alias {
        None => None,
        Some(NewAlias::Given(alias)) => Some(alias.clone()),
        Some(NewAlias::NextNumber) => Some(tx.next_alias(&new.profile).await?.to_string()),
    };
    if !tx.insert_hook(hook, alias.as_deref(), now).await? {
        return Err(alias_taken(&new.profile, alias.as_deref()));
    }
    let entry = AuditEntry::new(hook.id, HookAction::Created, by);
    tx.record(&[entry], now).await?;
    let secret = new.credentials.secrets.first();
    Ok(HookReport {
        secret: secret.map(|current| current.secret.reveal()),
        ..found(tx.report_hook(hook.id).await?, hook.id)?
    })
}

/// Changes a hook and returns it as it then is.
pub(crate) async fn change_hook<S: HookStatements>(
    tx: &mut S,
    keys: &KeyRing,
    id: HookId,
    change: HookChange,
    by: &str,
    now: Timestamp,
) -> Result<HookReport> {
    let failures = tx.lock_failures(id).await?;
    if change.forgets_failures() {
        tx.forget_failures(id, now).await?;
    }
    tx.lock_hooks().await?;
    let before = found(tx.find_hook(id).await?, id)?;
    let decision = decide(&before, change, keys, now)?;
    if let Some(patch) = &decision.patch {
        tx.update_hook(id, patch, by, now).await?;
    }
    for AuditAction { action, reason } in decision.actions {
        if let Some(event) = of_status_change(&before, action, &failures, by, now) {
            tx.announce_if_watched(&event, now).await?;
        }
        let entry = AuditEntry {
            reason,
            fail_count: failures.count,
            last_error: failures.last_error.clone(),
            ..AuditEntry::new(id, action, by)
        };
        tx.record(&[entry], now).await?;
    }
    Ok(HookReport {
        secret: decision.secret,
        ..found(tx.report_hook(id).await?, id)?
    })
}

/// Removes a hook and returns it as it was.
pub(crate) async fn remove_hook<S: HookStatements>(
    tx: &mut S,
    id: HookId,
    by: &str,
    now: Timestamp,
) -> Result<HookReport> {
    tx.lock_hooks().await?;
    let report = found(tx.report_hook(id).await?, id)?;
    tx.mark_deleted(id, now).await?;
    let entry = AuditEntry {
        fail_count: report.fail_count,
        last_error: report.last_error.clone(),
        ..AuditEntry::new(id, HookAction::Removed, by)
    };
    tx.record(&[entry], now).await?;
    Ok(report)
}

/// The hook, or the error that there is none of this id.
pub(crate) fn found<T>(hook: Option<T>, id: HookId) -> Result<T> {
    hook.ok_or_else(|| hook_not_found(id))
}

fn decide(
    before: &HookRow,
    change: HookChange,
    keys: &KeyRing,
    now: Timestamp,
) -> Result<HookDecision> {
    match change {
        HookChange::Enable => Ok(HookDecision::status(HookStatus::Active)),
        HookChange::Pause => Ok(moved(before, HookStatus::Paused)),
        HookChange::Disable => Ok(moved(before, HookStatus::Disabled)),
        HookChange::Set(change) => {
            let action = AuditAction::changed(change.names());
            let mut settings = before.settings()?;
            settings.apply(change);
            settings.check()?;
            let patch = HookPatch {
                settings: Some(settings),
                ..HookPatch::default()
            };
            Ok(HookDecision::of(patch, action))
        }
        HookChange::Rotate {
            secret,
            overlap_until,
        } => {
            let revealed = secret.reveal();
            let mut credentials = before.open_credentials(keys)?;
            credentials.rotate(secret, now, overlap_until);
            let patch = HookPatch {
                credentials: Some(seal_credentials(keys, before.id, &credentials)?),
                ..HookPatch::default()
            };
            Ok(HookDecision {
                secret: Some(revealed),
                ..HookDecision::of(patch, AuditAction::of(HookAction::SecretRotated))
            })
        }
        HookChange::Edit(edit) => edited(before, *edit, keys),
    }
}

/// A hook that has the status already is left alone.
fn moved(before: &HookRow, status: HookStatus) -> HookDecision {
    match before.status() == Some(status) {
        true => HookDecision::default(),
        false => HookDecision::status(status),
    }
}

fn edited(before: &HookRow, edit: HookEdit, keys: &KeyRing) -> Result<HookDecision> {
    let (names, concerns_credentials) = (edit.names(), edit.concerns_credentials());
    let status = edit.status.map(|status| moved(before, status));
    let HookDecision { patch, actions, .. } = status.unwrap_or_default();
    let mut hook = before.hook();
    if hook.locked {
        return Err(not_understood(before.id));
    }
    if concerns_credentials {
        hook.credentials = before.open_credentials(keys)?;
    }
    edit.apply(&mut hook)?;
    let credentials =
        concerns_credentials.then(|| seal_credentials(keys, before.id, &hook.credentials));
    let changed = (!names.is_empty()).then(|| AuditAction::changed(names));
    Ok(HookDecision {
        patch: Some(HookPatch {
            url: Some(hook.url),
            events: Some(hook.events.iter().map(ToString::to_string).collect()),
            settings: Some(hook.settings),
            credentials: credentials.transpose()?,
            status: patch.and_then(|patch| patch.status),
        }),
        actions: changed.into_iter().chain(actions).collect(),
        secret: None,
    })
}

impl HookDecision {
    fn of(patch: HookPatch, action: AuditAction) -> Self {
        Self {
            patch: Some(patch),
            actions: vec![action],
            secret: None,
        }
    }

    fn status(status: HookStatus) -> Self {
        let patch = HookPatch {
            status: Some(status),
            ..HookPatch::default()
        };
        Self::of(patch, AuditAction::status(status))
    }
}

impl HookPatch {
    /// Whether the settings have something that must hold over all workers together.
    pub(crate) fn is_limited(&self) -> Option<bool> {
        self.settings.as_ref().map(HookSettings::is_limited)
    }

    pub(crate) fn is_ordered(&self) -> Option<bool> {
        let settings = self.settings.as_ref();
        settings.map(|settings| settings.ordered.is_some())
    }
}
