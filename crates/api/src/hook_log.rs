//! Log lines about hooks changed by callers: one for each change of status.
//!
//! The hook's history records these changes and all others.

use postrider_store::{HookChange, HookReport};
use tracing::info;

/// Whether a change sets the hook's status.
pub(crate) fn changes_state(change: &HookChange) -> bool {
    match change {
        HookChange::Pause | HookChange::Enable | HookChange::Disable => true,
        HookChange::Edit(edit) => edit.status.is_some(),
        HookChange::Set(_) | HookChange::Rotate { .. } => false,
    }
}

/// Logs the new status of a hook, and who set it.
pub(crate) fn tell_state(hook: &HookReport, by: &str) {
    let (id, status) = (hook.id, &hook.status);
    info!(hook.id = %id, hook.status = %status, by, "Hook {id} is now {status}, set by {by}");
}

/// Logs that a hook was deleted, and who deleted it.
pub(crate) fn tell_removed(hook: &HookReport, by: &str) {
    info!(hook.id = %hook.id, by, "Deleted hook {} for {by}", hook.id);
}
