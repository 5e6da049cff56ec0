//! The free capacity of a worker, in all and for each hook.

use postrider_core::HookId;
use std::collections::HashMap;

/// The number of deliveries that a worker can start now. Fan-out and lease take one place for each
/// delivery that they return.
///
/// Hooks that are not known to be quick are *doubtful*. They share a part of the places, so that
/// others find some however many of them hang.
#[derive(Clone, Debug)]
pub struct Capacity {
    total: u32,
    doubtful: u32,
    per_hook: u32,
    hooks: HashMap<HookId, OfHook>,
}

/// The capacity of one hook.
#[derive(Clone, Copy, Debug)]
struct OfHook {
    left: u32,
    is_doubtful: bool,
}

impl Capacity {
    /// Capacity for `total` deliveries, at most `per_hook` of each hook. Every hook is doubtful, and
    /// all places are theirs.
    pub fn new(total: u32, per_hook: u32) -> Self {
        Self {
            total,
            doubtful: total,
            per_hook,
            hooks: HashMap::new(),
        }
    }

    /// Leaves this many of the places to the doubtful hooks together.
    pub fn share_with_doubtful(&mut self, places: u32) {
        self.doubtful = places;
    }

    /// Sets the capacity of a hook that is known to be quick.
    pub fn set_quick(&mut self, hook: HookId, left: u32) {
        let is_doubtful = false;
        self.hooks.insert(hook, OfHook { left, is_doubtful });
    }

    /// Sets the capacity of a doubtful hook, which is `per_hook` otherwise.
    pub fn set_doubtful(&mut self, hook: HookId, left: u32) {
        let is_doubtful = true;
        self.hooks.insert(hook, OfHook { left, is_doubtful });
    }

    fn of(&self, hook: HookId) -> OfHook {
        let unknown = OfHook {
            left: self.per_hook,
            is_doubtful: true,
        };
        self.hooks.get(&hook).copied().unwrap_or(unknown)
    }

    /// The free places for `hook`.
    pub fn left(&self, hook: HookId) -> u32 {
        let of_hook = self.of(hook);
        let shared = match of_hook.is_doubtful {
            true => self.doubtful.min(self.total),
            false => self.total,
        };
        of_hook.left.min(shared)
    }

    /// The free places in all.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Takes up to `wanted` places for `hook`, and returns how many.
    pub fn take(&mut self, hook: HookId, wanted: u32) -> u32 {
        let taken = self.left(hook).min(wanted);
        let mut of_hook = self.of(hook);
        of_hook.left -= taken;
        self.total -= taken;
        if of_hook.is_doubtful {
            self.doubtful -= taken;
        }
        self.hooks.insert(hook, of_hook);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn hook(n: u128) -> HookId {
        HookId(Uuid::from_u128(n))
    }

    #[test]
    fn both_bounds_hold() {
        let (a, b) = (hook(1), hook(2));
        let mut capacity = Capacity::new(4, 2);
        assert_eq!([capacity.take(a, 1), capacity.take(a, 5)], [1, 1]);
        assert_eq!(capacity.take(a, 1), 0);
        assert_eq!(capacity.take(b, 3), 2);
        assert_eq!((capacity.left(b), capacity.total()), (0, 0));
        let mut shut = Capacity::new(4, 2);
        shut.set_doubtful(a, 0);
        assert_eq!(shut.take(a, 1), 0);
        assert_eq!(shut.left(b), 2);
    }

    #[test]
    fn doubtful_hooks_leave_places_to_quick_ones() {
        let mut capacity = Capacity::new(8, 3);
        capacity.share_with_doubtful(4);
        capacity.set_quick(hook(1), 5);
        capacity.set_doubtful(hook(2), 2);
        assert_eq!(capacity.take(hook(2), 9), 2);
        assert_eq!(capacity.take(hook(3), 9), 2, "nothing is known of it");
        assert_eq!((capacity.left(hook(4)), capacity.total()), (0, 4));
        assert_eq!(capacity.take(hook(1), 9), 4);
    }
}
