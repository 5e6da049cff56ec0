//! Hints about work that the dispatcher would otherwise find only at its next search.
//!
//! They save time and nothing depends on them: polling finds everything.

use postrider_core::{HookId, Timestamp};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A delivery of a hook in one slot, and when it is due.
pub(crate) type DueHint = (i16, HookId, Timestamp);

/// What other parts of the process know about work.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    due: Mutex<Vec<DueHint>>,
    wake: Notify,
}

impl Hints {
    /// A delivery of this hook is due at `at`.
    pub(crate) fn due(&self, slot: i16, hook: HookId, at: Timestamp) {
        self.lock().push((slot, hook, at));
    }

    /// Wakes the dispatcher: there may be work at once.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for [`wake`](Self::wake).
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The hints given since the last call.
    pub(crate) fn take(&self) -> Vec<DueHint> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<DueHint>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
