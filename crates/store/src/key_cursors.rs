//! How far upkeep has come in examining the ordering keys of each hook.

use postrider_core::HookId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of keys of a hook that one run of upkeep examines, so that its cost does not depend
/// on their number.
pub(crate) const KEYS_AT_ONCE: u16 = 1_000;

/// The last key examined, by slot and hook; none where the next run begins with the first key.
#[derive(Debug, Default)]
pub(crate) struct KeyCursors(Mutex<HashMap<(i16, HookId), String>>);

impl KeyCursors {
    /// The key after which the next run begins.
    pub(crate) fn begin(&self, slot: i16, hook: HookId) -> String {
        self.cursors().remove(&(slot, hook)).unwrap_or_default()
    }

    /// The run that was begun last examined these keys.
    pub(crate) fn end(&self, slot: i16, hook: HookId, keys: Vec<String>) {
        if keys.len() >= usize::from(KEYS_AT_ONCE)
            && let Some(last) = keys.into_iter().next_back()
        {
            self.cursors().insert((slot, hook), last);
        }
    }

    fn cursors(&self) -> MutexGuard<'_, HashMap<(i16, HookId), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
