//! What the log is told of hooks that callers change: a line for each change of a hook's state.
//!
//! Everything else about a hook stands in its history, and so do these.

use postrider_store::{HookChange, HookReport};
use tracing::info;

/// Whether this changes the state of a hook.
pub(crate) fn changes_state(change: &HookChange) -> bool {
    match change {
        HookChange::Pause | HookChange::Enable | HookChange::Disable => true,
        HookChange::Edit(edit) => edit.status.is_some(),
        HookChange::Set(_) | HookChange::Rotate { .. } => false,
    }
}

/// Tells which state a hook was put into, and by whom.
pub(crate) fn tell_state(hook: &HookReport, by: &str) {
    let (id, status) = (hook.id, &hook.status);
    info!(hook.id = %id, hook.status = %status, by, "Hook {id} is {status} now, as {by} asked");
}

/// Tells that a hook was deleted, and by whom.
pub(crate) fn tell_removed(hook: &HookReport, by: &str) {
    info!(hook.id = %hook.id, by, "Deleted hook {}, as {by} asked", hook.id);
}
