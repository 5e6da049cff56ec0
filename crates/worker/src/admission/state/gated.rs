//! The gated hooks that this worker owns.

use super::AdmissionState;
use crate::admission::gate::Gate;
use crate::admission::hook::{HookAdmission, OwnedHook};
use postrider_core::{Hook, HookId, Timestamp};
use postrider_store::OwnershipAnswer;
use std::collections::HashSet;
use std::time::Instant;

impl AdmissionState {
    /// This worker owns `hook` until `until`.
    pub(in crate::admission) fn own(
        &mut self,
        hook: &Hook,
        answer: OwnershipAnswer,
        until: Timestamp,
        at: Timestamp,
        now: Instant,
    ) {
        let per_hook = self.per_hook;
        let owned = self.hook(hook, now);
        let gate = match owned.gate.take() {
            Some(mut gate) => {
                gate.renew(until, answer.not_before);
                gate
            }
            None => Gate::new(hook, per_hook, until, answer.not_before, at),
        };
        owned.own(hook.version, gate);
        self.give_turn(hook.id, now);
    }

    /// This worker does not own `hook`, or has nothing to do for it.
    pub(in crate::admission) fn disown(&mut self, id: HookId, now: Instant) {
        if let Some(hook) = self.hooks.get_mut(&id)
            && hook.gate.take().is_some()
        {
            self.give_turn_or_forget(id, now);
        }
    }

    /// Whether this worker may start deliveries of a gated hook.
    pub(in crate::admission) fn owns(&self, hook: HookId, at: Timestamp) -> bool {
        let gate = self.hooks.get(&hook).and_then(|hook| hook.gate.as_ref());
        gate.is_some_and(|gate| gate.is_owned(at))
    }

    pub(in crate::admission) fn owned_count(&self) -> usize {
        self.gates().count()
    }

    pub(in crate::admission) fn owned(&self) -> Vec<OwnedHook> {
        let owned = self.gates().map(|(id, hook, gate)| OwnedHook {
            hook: id,
            until: gate.owned_until(),
            held: hook.held(),
        });
        owned.collect()
    }

    /// The gated hooks of which this worker may start deliveries.
    pub(in crate::admission) fn startable_gates(&self, at: Timestamp) -> HashSet<HookId> {
        let owned = self.gates().filter(|(_, _, gate)| gate.is_owned(at));
        owned.map(|(id, _, _)| id).collect()
    }

    /// The hooks whose ramp has reached their cap.
    pub(in crate::admission) fn ramped_up(&self) -> Vec<HookId> {
        let ramped_up = self.gates().filter(|(_, _, gate)| gate.has_ramped_up());
        ramped_up.map(|(id, _, _)| id).collect()
    }

    fn gates(&self) -> impl Iterator<Item = (HookId, &HookAdmission, &Gate)> {
        let gates = self.hooks.iter();
        gates.filter_map(|(id, hook)| Some((*id, hook, hook.gate.as_ref()?)))
    }
}
