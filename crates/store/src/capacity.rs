//! The free capacity of a worker, in all and for each hook.

use postrider_core::HookId;
use std::collections::HashMap;

/// The number of deliveries that a worker can start now. Fan-out and lease take one place for each
/// delivery that they return.
#[derive(Clone, Debug)]
pub struct Capacity {
    total: u32,
    per_hook: u32,
    left: HashMap<HookId, u32>,
}

impl Capacity {
    /// Capacity for `total` deliveries, at most `per_hook` of each hook.
    pub fn new(total: u32, per_hook: u32) -> Self {
        Self {
            total,
            per_hook,
            left: HashMap::new(),
        }
    }

    /// Sets the capacity of `hook`, which is `per_hook` otherwise.
    pub fn set(&mut self, hook: HookId, left: u32) {
        self.left.insert(hook, left);
    }

    /// The free places for `hook`.
    pub fn left(&self, hook: HookId) -> u32 {
        self.left
            .get(&hook)
            .copied()
            .unwrap_or(self.per_hook)
            .min(self.total)
    }

    /// The free places in all.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Takes one place for `hook`; `false` when there is none.
    pub fn take(&mut self, hook: HookId) -> bool {
        let left = self.left(hook);
        if left == 0 {
            return false;
        }
        self.total -= 1;
        let own = self.left.entry(hook).or_insert(self.per_hook);
        *own -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn both_bounds_hold() {
        let (a, b) = (HookId(Uuid::from_u128(1)), HookId(Uuid::from_u128(2)));
        let mut capacity = Capacity::new(4, 2);
        assert!(capacity.take(a) && capacity.take(a));
        assert!(!capacity.take(a));
        assert!(capacity.take(b) && capacity.take(b));
        assert_eq!((capacity.left(b), capacity.total()), (0, 0));
        let mut shut = Capacity::new(4, 2);
        shut.set(a, 0);
        assert!(!shut.take(a));
        assert_eq!(shut.left(b), 2);
    }
}
