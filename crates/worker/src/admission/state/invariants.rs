//! What holds after every change of [`AdmissionState`], recomputed from the hooks.

use super::{AdmissionState, Turn};
use crate::admission::accounts::Held;
use postrider_core::HookId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

impl AdmissionState {
    /// Checks the sums over all hooks, the order of turns, and that no hook which may start a
    /// delivery is left without a turn.
    pub(in crate::admission) fn check(&self) {
        let hooks = self.hooks.values();
        let (mut queued, mut bytes, mut in_flight, mut slow) = (0, 0, 0, 0);
        let mut places: HashMap<Arc<str>, Held> = HashMap::new();
        for hook in hooks {
            queued += hook.waiting.len();
            bytes += hook.waiting.bytes();
            in_flight += hook.in_flight;
            let slow_here = if hook.slow { hook.in_flight } else { 0 };
            slow += slow_here;
            if hook.in_flight > 0 {
                let held = places.entry(hook.account.clone()).or_default();
                held.in_flight += hook.in_flight;
                held.slow += slow_here;
            }
            assert!(!hook.slow || hook.in_flight > 0, "a slow hook is in flight");
        }
        assert_eq!(self.queued, queued, "queued");
        assert_eq!(self.queued_bytes, bytes, "bytes queued");
        assert_eq!(self.in_flight, in_flight, "in flight");
        assert_eq!(self.slow, slow, "in flight to slow hooks");
        assert_eq!(self.places.all(), &places, "places of the accounts");
        self.check_order(self.turns.iter(), Turn::Next);
        let parked = self.parked.iter().chain(self.parked_untried.iter());
        self.check_order(parked, Turn::Parked);
        self.check_startable();
    }

    /// Every hook with this turn is in `order` once, and no other is.
    fn check_order(&self, order: impl Iterator<Item = HookId>, turn: Turn) {
        let order: Vec<_> = order.collect();
        let unique: HashSet<_> = order.iter().copied().collect();
        assert_eq!(unique.len(), order.len(), "a hook is {turn:?} twice");
        let hooks = self.hooks.iter().filter(|(_, hook)| hook.turn == turn);
        let expected: HashSet<_> = hooks.map(|(id, _)| *id).collect();
        assert_eq!(unique, expected, "the hooks that are {turn:?}");
    }

    /// A hook without a turn is blocked by a reason of its own; those that end by themselves
    /// have been looked at when the state was last refreshed.
    fn check_startable(&self) {
        let Some(refreshed_at) = self.refreshed_at else {
            return;
        };
        for (id, hook) in &self.hooks {
            if hook.turn == Turn::None {
                let startable = hook.may_start(refreshed_at, &self.tuning.admission);
                assert!(startable.is_err(), "hook {id} may start and has no turn");
            }
        }
    }
}
