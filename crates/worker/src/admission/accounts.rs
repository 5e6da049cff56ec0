//! What the accounts share: the order of their hooks, and the places that each holds.

use postrider_core::HookId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Hooks in the order of their turns: accounts take turns, and within one its hooks. An account
/// with many hooks has no more turns than one with a single hook.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The accounts with hooks, each once.
    order: VecDeque<Arc<str>>,
    hooks: HashMap<Arc<str>, VecDeque<HookId>>,
}

impl Turns {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds a hook behind those of its account.
    pub(super) fn push(&mut self, account: &Arc<str>, hook: HookId) {
        self.hooks_of(account).push_back(hook);
    }

    /// Puts the hook that [`pop`](Self::pop) has just returned back, as the next one.
    pub(super) fn put_back(&mut self, account: &Arc<str>, hook: HookId) {
        self.hooks_of(account).push_front(hook);
        self.order.retain(|other| other != account);
        self.order.push_front(account.clone());
    }

    fn hooks_of(&mut self, account: &Arc<str>) -> &mut VecDeque<HookId> {
        let hooks = self.hooks.entry(account.clone()).or_default();
        if hooks.is_empty() {
            self.order.push_back(account.clone());
        }
        hooks
    }

    /// The next hook: of the first account that `may_have_more`, or of the first one if none
    /// may.
    pub(super) fn pop(&mut self, may_have_more: impl Fn(&str) -> bool) -> Option<HookId> {
        let place = self.order.iter().position(|account| may_have_more(account));
        self.take(place.unwrap_or_default())
    }

    /// The next hook of the account for which `held` is lowest.
    pub(super) fn pop_lowest(&mut self, held: impl Fn(&str) -> u32) -> Option<HookId> {
        let accounts = self.order.iter().enumerate();
        let lowest = accounts.min_by_key(|(_, account)| held(account));
        let place = lowest.map(|(place, _)| place)?;
        self.take(place)
    }

    /// The next hook of the account at this place of the order, which goes to the end.
    fn take(&mut self, place: usize) -> Option<HookId> {
        let account = self.order.remove(place)?;
        let hooks = self.hooks.get_mut(&account)?;
        let hook = hooks.pop_front();
        match hooks.is_empty() {
            true => drop(self.hooks.remove(&account)),
            false => self.order.push_back(account),
        }
        hook
    }

    /// Keeps the hooks for which `keep` is true, in their order.
    pub(super) fn retain(&mut self, keep: impl Fn(HookId) -> bool) {
        self.hooks.retain(|_, hooks| {
            hooks.retain(|hook| keep(*hook));
            !hooks.is_empty()
        });
        self.order
            .retain(|account| self.hooks.contains_key(account));
    }

    /// Every hook, account by account.
    #[cfg(debug_assertions)]
    pub(super) fn iter(&self) -> impl Iterator<Item = HookId> {
        let accounts = self.order.iter();
        accounts.flat_map(|account| self.hooks.get(account).into_iter().flatten().copied())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The places that an account holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Its requests in flight.
    pub(super) in_flight: u32,
    /// Of these, the ones of slow hooks.
    pub(super) slow: u32,
}

/// The places that each account holds; one that holds none is not there.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<Arc<str>, Held>);

impl Places {
    pub(super) fn of(&self, account: &str) -> Held {
        self.0.get(account).copied().unwrap_or_default()
    }

    pub(super) fn change(&mut self, account: &Arc<str>, change: impl FnOnce(&mut Held)) {
        let held = self.0.entry(account.clone()).or_default();
        change(held);
        if *held == Held::default() {
            self.0.remove(account);
        }
    }

    /// Every account that holds places.
    #[cfg(debug_assertions)]
    pub(super) fn all(&self) -> &HashMap<Arc<str>, Held> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn hook(n: u128) -> HookId {
        HookId(Uuid::from_u128(n))
    }

    fn accounts() -> (Turns, [Arc<str>; 2]) {
        let [many, one]: [Arc<str>; 2] = ["many".into(), "one".into()];
        let mut turns = Turns::default();
        for n in 1..=3 {
            turns.push(&many, hook(n));
        }
        turns.push(&one, hook(9));
        (turns, [many, one])
    }

    #[test]
    fn accounts_take_turns_and_then_their_hooks() {
        let (mut turns, [_, one]) = accounts();
        let mut order = Vec::new();
        while let Some(next) = turns.pop(|_| true) {
            order.push(next);
            if next == hook(9) && order.len() < 4 {
                turns.push(&one, next);
            }
        }
        assert_eq!(order, [1, 9, 2, 9, 3].map(hook));
        assert!(turns.is_empty());
    }

    #[test]
    fn an_account_that_holds_too_much_waits_for_the_others_only() {
        let (mut turns, _) = accounts();
        let not_many = |account: &str| account != "many";
        assert_eq!(turns.pop(not_many), Some(hook(9)));
        assert_eq!(turns.pop(not_many), Some(hook(1)), "nobody else waits");
    }

    #[test]
    fn who_holds_least_is_first() {
        let (mut turns, [_, one]) = accounts();
        let held = |account: &str| u32::from(account == "many");
        assert_eq!(turns.pop_lowest(held), Some(hook(9)));
        assert_eq!(turns.pop_lowest(held), Some(hook(1)));
        turns.push(&one, hook(7));
        assert_eq!(turns.iter().collect::<Vec<_>>(), [2, 3, 7].map(hook));
        turns.retain(|kept| kept != hook(2));
        assert_eq!(turns.iter().collect::<Vec<_>>(), [3, 7].map(hook));
    }

    #[test]
    fn what_is_put_back_is_next() {
        let (mut turns, [many, _]) = accounts();
        let next = turns.pop(|_| true).unwrap();
        turns.put_back(&many, next);
        assert_eq!(turns.iter().collect::<Vec<_>>(), [1, 2, 3, 9].map(hook));
    }

    #[test]
    fn places_are_counted_by_account() {
        let (mut places, account) = (Places::default(), Arc::from("a"));
        places.change(&account, |held| held.in_flight += 2);
        assert_eq!(places.of("a").in_flight, 2);
        assert_eq!(places.of("b"), Held::default());
        places.change(&account, |held| held.in_flight -= 2);
        assert!(places.0.is_empty());
    }
}
