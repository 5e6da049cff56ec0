//! When deliveries of hooks are due, as far as this process knows.
//!
//! The sweep finds the first time of every hook; what this process does adds later ones. Those that
//! are close together are one time, a little late, so that a hook with many retries has few.

use chrono::TimeDelta;
use postrider_core::{HookId, Timestamp};
use std::collections::{BTreeSet, HashMap};

/// Times within this are one.
const GRAIN: TimeDelta = TimeDelta::milliseconds(20);
/// The times that are kept of one hook. The sweep finds later ones.
const MOST: usize = 128;

/// When deliveries of each hook of each slot are due. A time that has passed stays until a lease or
/// the next sweep shows that nothing is due.
#[derive(Debug, Default)]
pub(super) struct DueTimes(HashMap<(i16, HookId), BTreeSet<Timestamp>>);

impl DueTimes {
    /// A delivery is due at `at`, or has been since.
    pub(super) fn note(&mut self, slot: i16, hook: HookId, at: Timestamp, now: Timestamp) {
        let times = self.0.entry((slot, hook)).or_default();
        times.insert(match at <= now {
            true => at,
            false => rounded_up(at),
        });
        if times.len() > MOST {
            times.pop_last();
        }
    }

    /// A sweep found that nothing is due before `first`.
    pub(super) fn found(&mut self, slot: i16, hook: HookId, first: Timestamp) {
        let times = self.0.entry((slot, hook)).or_default();
        *times = times.split_off(&first);
        times.insert(first);
    }

    /// A sweep found these hooks of the slot, and no others.
    pub(super) fn found_only(&mut self, slot: i16, hooks: &BTreeSet<HookId>) {
        self.0
            .retain(|(of, hook), _| *of != slot || hooks.contains(hook));
    }

    /// Nothing more is due at `now`.
    pub(super) fn leased_all(&mut self, slot: i16, hook: HookId, now: Timestamp) {
        if let Some(times) = self.0.get_mut(&(slot, hook)) {
            times.retain(|at| *at > now);
            if times.is_empty() {
                self.0.remove(&(slot, hook));
            }
        }
    }

    /// The first time of each hook.
    pub(super) fn first(&self) -> impl Iterator<Item = (i16, HookId, Timestamp)> {
        let all = self.0.iter();
        all.filter_map(|((slot, hook), times)| Some((*slot, *hook, *times.first()?)))
    }
}

fn rounded_up(at: Timestamp) -> Timestamp {
    let grain = GRAIN.num_milliseconds();
    let above = at.timestamp_millis().rem_euclid(grain);
    at + TimeDelta::milliseconds(grain - above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;
    use uuid::Uuid;

    fn hook() -> HookId {
        HookId(Uuid::from_u128(1))
    }

    fn first(times: &DueTimes) -> Option<TimeDelta> {
        let first = times.first().next();
        first.map(|(_, _, at)| at - now())
    }

    #[test]
    fn later_times_are_known_when_what_is_due_was_leased() {
        let mut times = DueTimes::default();
        let ms = TimeDelta::milliseconds;
        for after in [0, 1_000, 1_001, 2_000] {
            times.note(0, hook(), now() + ms(after), now());
        }
        assert_eq!(first(&times), Some(ms(0)));
        times.leased_all(0, hook(), now());
        let next = first(&times).unwrap();
        assert!(next >= ms(1_001) && next <= ms(1_020), "{next}");
        times.leased_all(0, hook(), now() + next);
        assert!(first(&times).unwrap() >= ms(2_000), "the two were one");
        times.leased_all(0, hook(), now() + ms(2_020));
        assert_eq!(first(&times), None);
    }

    #[test]
    fn a_sweep_corrects_the_first_time() {
        let mut times = DueTimes::default();
        let at = |seconds| now() + TimeDelta::seconds(seconds);
        times.note(0, hook(), at(0), now());
        times.found(0, hook(), at(3));
        assert_eq!(first(&times), Some(TimeDelta::seconds(3)));
        times.found(0, hook(), at(1));
        assert_eq!(first(&times), Some(TimeDelta::seconds(1)));
        times.found_only(1, &BTreeSet::new());
        assert!(first(&times).is_some());
        times.found_only(0, &BTreeSet::new());
        assert_eq!(first(&times), None);
    }

    #[test]
    fn a_hook_has_a_bounded_number_of_times() {
        let mut times = DueTimes::default();
        for n in 0..10_000 {
            times.note(0, hook(), now() + TimeDelta::seconds(n), now());
        }
        assert_eq!(times.0[&(0, hook())].len(), MOST);
        assert_eq!(first(&times), Some(TimeDelta::zero()));
    }
}
