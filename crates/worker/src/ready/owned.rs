//! The gated hooks that this worker owns.

use super::Ready;
use super::queue::HookQueue;
use crate::gate::Gate;
use postrider_core::{Hook, HookId, Timestamp};
use postrider_store::OwnershipAnswer;
use std::collections::HashSet;

/// A gated hook that this worker owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) hook: HookId,
    pub(crate) until: Timestamp,
    /// What is queued or in flight.
    pub(crate) held: u32,
}

impl Ready {
    /// This worker is the owner of `hook` until then.
    pub(crate) fn own(
        &self,
        hook: &Hook,
        answer: OwnershipAnswer,
        until: Timestamp,
        now: Timestamp,
    ) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let gate = state
            .gates
            .entry(hook.id)
            .and_modify(|gate| gate.renew(until, answer.not_before))
            .or_insert_with(|| Gate::new(hook, self.per_hook, until, answer.not_before, now));
        let cap = gate.limit();
        if let Some(queue) = state.hooks.get_mut(&hook.id) {
            queue.cap = cap;
            if Some(hook.version) >= queue.shut {
                queue.shut = None;
            }
            state.give_turn(hook.id);
        }
        drop(guard);
        self.startable.notify_one();
    }

    /// This worker is not the owner of `hook`, or has nothing to do for it.
    pub(crate) fn disown(&self, hook: HookId) {
        self.lock().gates.remove(&hook);
    }

    /// Whether this worker may start deliveries of a gated hook.
    pub(crate) fn owns(&self, hook: HookId, now: Timestamp) -> bool {
        let state = self.lock();
        state.gates.get(&hook).is_some_and(|gate| gate.until > now)
    }

    /// The gated hooks that this worker owns, or owned until lately.
    pub(crate) fn owned(&self) -> Vec<Owned> {
        let state = self.lock();
        let owned = state.gates.iter().map(|(hook, gate)| Owned {
            hook: *hook,
            until: gate.until,
            held: state.hooks.get(hook).map_or(0, HookQueue::held),
        });
        owned.collect()
    }

    /// How many gated hooks this worker owns.
    pub(crate) fn owned_count(&self) -> usize {
        self.lock().gates.len()
    }

    /// The gated hooks of which this worker may start deliveries.
    pub(crate) fn startable_gates(&self, now: Timestamp) -> HashSet<HookId> {
        let state = self.lock();
        let gates = state.gates.iter().filter(|(_, gate)| gate.until > now);
        gates.map(|(hook, _)| *hook).collect()
    }

    /// The hooks that take as much again as they ever may.
    pub(crate) fn ramped_up(&self) -> Vec<HookId> {
        let state = self.lock();
        let gates = state.gates.iter().filter(|(_, gate)| gate.has_ramped_up());
        gates.map(|(hook, _)| *hook).collect()
    }
}
