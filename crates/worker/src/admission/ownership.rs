//! The gated hooks that this worker owns, as the dispatcher needs them.

use super::{Admission, OwnedHook};
use postrider_core::{Hook, HookId, Timestamp};
use postrider_store::OwnershipAnswer;
use std::collections::HashSet;

impl Admission {
    /// This worker owns `hook` until `until`.
    pub(crate) fn own(
        &self,
        hook: &Hook,
        answer: OwnershipAnswer,
        until: Timestamp,
        at: Timestamp,
    ) {
        self.update(|state, now| state.own(hook, answer, until, at, now));
    }

    /// This worker does not own `hook`, or has nothing to do for it.
    pub(crate) fn disown(&self, hook: HookId) {
        self.update(|state, now| state.disown(hook, now));
    }

    /// Whether this worker may start deliveries of a gated hook.
    pub(crate) fn owns(&self, hook: HookId, at: Timestamp) -> bool {
        self.lock().owns(hook, at)
    }

    /// The gated hooks that this worker owns, or owned until lately.
    pub(crate) fn owned(&self) -> Vec<OwnedHook> {
        self.lock().owned()
    }

    /// How many gated hooks this worker owns.
    pub(crate) fn owned_count(&self) -> usize {
        self.lock().owned_count()
    }

    /// The gated hooks of which this worker may start deliveries.
    pub(crate) fn startable_gates(&self, at: Timestamp) -> HashSet<HookId> {
        self.lock().startable_gates(at)
    }

    /// The hooks whose ramp has reached their cap.
    pub(crate) fn ramped_up(&self) -> Vec<HookId> {
        self.lock().ramped_up()
    }
}
