//! An entry in the history of a hook: before it is written, and as it is shown.

use crate::stored_row::StoredRow;
use crate::{Disabling, HookChangeReport, Warning};
use postrider_core::{DisabledReason, HookAction, HookId, HookStatus, OURSELVES, scrub};

/// Number of entries that are kept of each hook, the newest.
pub(crate) const ENTRIES_KEPT: i64 = 500;

/// An entry in the history of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditEntry {
    pub hook: HookId,
    pub action: HookAction,
    /// [`OURSELVES`], or the interface that a person used.
    pub actor: String,
    /// Why the hook was disabled, or the names of what was changed.
    pub reason: Option<String>,
    /// The hook's failures in a row until then.
    pub fail_count: u32,
    pub last_error: Option<String>,
    /// Number of deliveries that were discarded.
    pub deliveries: Option<u32>,
}

/// What a person did to a hook.
pub(crate) struct AuditAction {
    pub action: HookAction,
    pub reason: Option<String>,
}

impl AuditAction {
    pub(crate) fn of(action: HookAction) -> Self {
        Self {
            action,
            reason: None,
        }
    }

    /// Settings of these names were changed.
    pub(crate) fn changed(names: String) -> Self {
        Self {
            action: HookAction::Changed,
            reason: Some(names),
        }
    }

    /// The hook was given this status.
    pub(crate) fn status(status: HookStatus) -> Self {
        match status {
            HookStatus::Active => Self::of(HookAction::Enabled),
            HookStatus::Paused => Self::of(HookAction::Paused),
            HookStatus::Disabled => Self {
                action: HookAction::Disabled,
                reason: Some(DisabledReason::Manual.name().to_owned()),
            },
        }
    }
}

impl AuditEntry {
    /// An entry without reason, failures and deliveries.
    pub(crate) fn new(hook: HookId, action: HookAction, actor: &str) -> Self {
        Self {
            hook,
            action,
            actor: scrub(actor),
            reason: None,
            fail_count: 0,
            last_error: None,
            deliveries: None,
        }
    }

    /// Postrider disabled the hook.
    pub(crate) fn disabled(disabling: &Disabling) -> Self {
        Self {
            reason: Some(disabling.reason.name().to_owned()),
            fail_count: disabling.fail_count,
            last_error: Some(disabling.last_error.clone()),
            ..Self::new(disabling.hook, HookAction::Disabled, OURSELVES)
        }
    }

    /// Postrider warned that the hook keeps failing.
    pub(crate) fn warned(warning: &Warning) -> Self {
        Self {
            fail_count: warning.fail_count,
            last_error: Some(warning.last_error.clone()),
            ..Self::new(warning.hook, HookAction::Warned, OURSELVES)
        }
    }
}

/// Reads an entry as it is shown.
pub(crate) fn hook_change_report(row: &impl StoredRow) -> sqlx::Result<HookChangeReport> {
    let deliveries = row.number_or_null("deliveries")?;
    Ok(HookChangeReport {
        number: row.number("number")?,
        at: row.time("at")?,
        action: row.text("action")?,
        actor: row.text("actor")?,
        reason: row.text_or_null("reason")?,
        fail_count: row.count("fail_count")?,
        last_error: row.text_or_null("last_error")?,
        deliveries: deliveries.map(|count| u32::try_from(count).unwrap_or_default()),
    })
}
