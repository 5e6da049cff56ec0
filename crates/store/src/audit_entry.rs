//! An entry in the history of a hook, before it is written.

use crate::{Disabling, Warning};
use postrider_core::{DisabledReason, HookAction, HookId, HookStatus, OURSELVES, scrub};

/// So many entries of each hook are kept.
pub(crate) const ENTRIES_KEPT: i64 = 500;

/// What happened to a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditEntry {
    pub hook: HookId,
    pub action: HookAction,
    pub actor: String,
    pub reason: Option<String>,
    pub fail_count: u32,
    pub last_error: Option<String>,
    pub deliveries: Option<u32>,
}

/// What a person's change was.
pub(crate) struct Made {
    pub action: HookAction,
    pub reason: Option<String>,
}

impl Made {
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
    /// An entry without anything but who did what.
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

    /// We disabled the hook.
    pub(crate) fn disabled(disabling: &Disabling) -> Self {
        Self {
            reason: Some(disabling.reason.name().to_owned()),
            fail_count: disabling.fail_count,
            last_error: Some(disabling.last_error.clone()),
            ..Self::new(disabling.hook, HookAction::Disabled, OURSELVES)
        }
    }

    /// We warned of the hook.
    pub(crate) fn warned(warning: &Warning) -> Self {
        Self {
            fail_count: warning.fail_count,
            last_error: Some(warning.last_error.clone()),
            ..Self::new(warning.hook, HookAction::Warned, OURSELVES)
        }
    }
}
