//! What tests compare of the state beside its public behaviour.

use super::AdmissionState;
use postrider_core::HookId;

/// Sums over all hooks, as of the latest change or measurement.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::admission) struct Sums {
    /// Hooks that are kept in memory.
    pub(in crate::admission) hooks: usize,
    /// Requests in flight to slow hooks.
    pub(in crate::admission) slow: u32,
    /// Deliveries queued of stalled hooks.
    pub(in crate::admission) stalled: u32,
    /// Parked hooks, the untried ones first, account by account in their order.
    pub(in crate::admission) parked: Vec<HookId>,
}

impl AdmissionState {
    pub(in crate::admission) fn sums(&self) -> Sums {
        Sums {
            hooks: self.hooks.len(),
            slow: self.slow,
            stalled: self.stalled,
            parked: self
                .parked_untried
                .iter()
                .chain(self.parked.iter())
                .collect(),
        }
    }
}
