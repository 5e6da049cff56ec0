//! Counts of what arrived at the receiver, exact and in little memory.
//!
//! A delivery is identified by 64 bits: the random half of the event's id, mixed with the number
//! of the hook. With ten million deliveries in a run, two of them collide once in a hundred
//! thousand runs. Times of arrival are stored for a sample of the events only.

use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Counts since the receiver was last told to watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests answered 200.
    pub accepted: u64,
    /// Different deliveries among them.
    pub unique: u64,
    /// Requests to hooks that fail or hang on purpose.
    pub sick: u64,
    /// Time of the first accepted request, in seconds since the receiver started.
    pub first: f64,
    /// Time of the last accepted request, in seconds since the receiver started.
    pub last: f64,
}

/// What the receiver stores.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// Expected number of different deliveries, for which memory is reserved.
    pub expected: u64,
    /// Times of arrival are stored for one event in this many; for none if 0.
    pub every: u32,
    /// Ranks among the different deliveries whose times of arrival are stored; ascending.
    pub ranks: Vec<u64>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            expected: 0,
            every: 1,
            ranks: Vec::new(),
        }
    }
}

impl Watch {
    /// Counts only.
    pub fn count(expected: u64) -> Self {
        Self {
            expected,
            every: 0,
            ranks: Vec::new(),
        }
    }

    /// Counts, and times of arrival for a sample of about [`SAMPLES_MAX`] of the expected ones.
    pub fn sampled(expected: u64) -> Self {
        Self {
            expected,
            every: u32::try_from(expected / SAMPLES_MAX).unwrap_or(u32::MAX) + 1,
            ranks: Vec::new(),
        }
    }
}

/// About how many times of arrival are stored.
const SAMPLES_MAX: u64 = 200_000;

/// Whether times are stored for this event when they are for one event in `every`.
pub fn is_sampled(event: Uuid, every: u32) -> bool {
    every > 0 && random_half(event).is_multiple_of(u64::from(every))
}

/// Counts arrivals.
#[derive(Debug, Default)]
pub struct Tally {
    seen: Counts,
    watch: Watch,
    known: HashSet<u64>,
    arrivals: HashMap<(Uuid, u32), f64>,
    /// When the watched ranks were reached, as far as they have been.
    reached: Vec<f64>,
    lap: Lap,
}

/// The longest gap between arrivals since the lap started.
#[derive(Clone, Copy, Debug, Default)]
struct Lap {
    /// When the latest request was accepted, or the lap started.
    latest: f64,
    gap: f64,
}

impl Lap {
    fn at(&mut self, at: f64) {
        self.gap = self.gap.max(at - self.latest);
        self.latest = at;
    }
}

impl Tally {
    /// Starts with nothing.
    pub fn of(watch: Watch) -> Self {
        Self {
            known: HashSet::with_capacity(watch.expected.min(RESERVED_MAX) as usize),
            watch,
            ..Self::default()
        }
    }

    /// Counts a request accepted at `at`, in seconds since the receiver started.
    pub fn accept(&mut self, event: Option<Uuid>, hook: u32, at: f64) {
        if self.seen.accepted == 0 {
            self.seen.first = at;
        }
        self.seen.accepted += 1;
        self.seen.last = at;
        self.lap.at(at);
        let Some(event) = event else { return };
        let delivery = random_half(event) ^ (u64::from(hook) + 1).wrapping_mul(MIX);
        if !self.known.insert(delivery) {
            return;
        }
        if is_sampled(event, self.watch.every) {
            self.arrivals.insert((event, hook), at);
        }
        let next = self.watch.ranks.get(self.reached.len());
        if next.is_some_and(|rank| self.known.len() as u64 == *rank) {
            self.reached.push(at);
        }
    }

    /// Counts a request to a hook that fails or hangs.
    pub fn refuse(&mut self) {
        self.seen.sick += 1;
    }

    /// The longest gap between arrivals since the previous call, in seconds; `at` is now. Starts a
    /// new lap.
    pub fn lap(&mut self, at: f64) -> f64 {
        self.lap.at(at);
        std::mem::take(&mut self.lap.gap)
    }

    /// The counts so far.
    pub fn seen(&self) -> Counts {
        Counts {
            unique: self.known.len() as u64,
            ..self.seen
        }
    }

    /// When the watched ranks were reached, as far as they have been.
    pub fn reached(&self) -> &[f64] {
        &self.reached
    }

    /// First arrivals of the sampled events, by event and hook.
    pub fn arrivals(&self) -> &HashMap<(Uuid, u32), f64> {
        &self.arrivals
    }
}

/// Memory is reserved for at most this many deliveries; beyond, it grows.
const RESERVED_MAX: u64 = 20_000_000;
/// Spreads the hook numbers over 64 bits; odd, so that no two of them collide.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

fn random_half(id: Uuid) -> u64 {
    id.as_u64_pair().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_accepted_but_not_unique() {
        let mut tally = Tally::of(Watch {
            expected: 3,
            every: 1,
            ranks: vec![1, 3, 9],
        });
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for (event, hook, at) in [(one, 0, 1.0), (one, 1, 2.0), (one, 0, 3.0), (two, 0, 4.0)] {
            tally.accept(Some(event), hook, at);
        }
        tally.refuse();
        let seen = Counts {
            accepted: 4,
            unique: 3,
            sick: 1,
            first: 1.0,
            last: 4.0,
        };
        assert_eq!(tally.seen(), seen);
        assert_eq!(tally.reached(), [1.0, 4.0]);
        assert_eq!(tally.arrivals()[&(one, 0)], 1.0);
    }

    #[test]
    fn the_longest_gap_is_measured_per_lap() {
        let mut tally = Tally::of(Watch::count(9));
        assert_eq!(tally.lap(1.0), 1.0);
        for (event, at) in [(1, 1.5), (2, 3.5), (3, 4.0)] {
            tally.accept(Some(Uuid::from_u128(event)), 0, at);
        }
        assert_eq!(tally.lap(5.0), 2.0);
        tally.accept(Some(Uuid::from_u128(4)), 0, 5.25);
        assert_eq!(tally.lap(8.25), 3.0);
    }

    #[test]
    fn times_are_stored_for_a_sample() {
        assert_eq!(Watch::sampled(1_000).every, 1);
        assert_eq!(Watch::sampled(1_000_000).every, 6);
        let mut tally = Tally::of(Watch::count(2));
        tally.accept(Some(Uuid::from_u128(0)), 0, 1.0);
        assert!(tally.arrivals().is_empty());
        assert!(is_sampled(Uuid::from_u128(12), 6) && !is_sampled(Uuid::from_u128(13), 6));
    }
}
