//! What arrived at the receiver, counted exactly and in little memory.
//!
//! A pair of event and hook is known by 64 bits: the random half of the event's id, mixed with
//! the number of the hook. Two pairs of a run of ten million share them once in a hundred
//! thousand runs. When a pair arrived is kept for a share of the events only.

use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// What the receiver has seen since it was told what to watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Requests answered 200.
    pub accepted: u64,
    /// Different pairs of event and hook among them.
    pub unique: u64,
    /// Requests to hooks that fail or hang.
    pub sick: u64,
    /// Seconds from the start of the receiver to the first and the last accepted request.
    pub first: f64,
    /// See `first`.
    pub last: f64,
}

/// What the receiver is to watch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// About how many different pairs will arrive, to make capacity for at once.
    pub expected: u64,
    /// Of one event in so many it is kept when it arrived; of none if 0.
    pub every: u32,
    /// The moments at which the so-manieth different pair arrives are kept; ascending.
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
    /// Only counts.
    pub fn count(expected: u64) -> Self {
        Self {
            expected,
            every: 0,
            ranks: Vec::new(),
        }
    }

    /// Keeps the moments of about `MOMENTS_MAX` of the expected arrivals at most.
    pub fn moments(expected: u64) -> Self {
        Self {
            expected,
            every: u32::try_from(expected / MOMENTS_MAX).unwrap_or(u32::MAX) + 1,
            ranks: Vec::new(),
        }
    }
}

/// About how many arrivals are remembered one by one.
const MOMENTS_MAX: u64 = 200_000;

/// Whether the moments of this event are kept when those of one in `every` are.
pub fn is_kept(event: Uuid, every: u32) -> bool {
    every > 0 && random_half(event).is_multiple_of(u64::from(every))
}

/// Counts what arrives.
#[derive(Debug, Default)]
pub struct Tally {
    seen: Seen,
    watch: Watch,
    known: HashSet<u64>,
    arrivals: HashMap<(Uuid, u32), f64>,
    /// When each of the first of the watched ranks was reached.
    reached: Vec<f64>,
    lap: Lap,
}

/// The longest time without an arrival since it began.
#[derive(Clone, Copy, Debug, Default)]
struct Lap {
    /// When the latest request was accepted, or the lap began.
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
    /// Begins anew.
    pub fn of(watch: Watch) -> Self {
        Self {
            known: HashSet::with_capacity(watch.expected.min(ROOM_MAX) as usize),
            watch,
            ..Self::default()
        }
    }

    /// A request was accepted, so many seconds after the start.
    pub fn accept(&mut self, event: Option<Uuid>, hook: u32, at: f64) {
        if self.seen.accepted == 0 {
            self.seen.first = at;
        }
        self.seen.accepted += 1;
        self.seen.last = at;
        self.lap.at(at);
        let Some(event) = event else { return };
        let pair = random_half(event) ^ (u64::from(hook) + 1).wrapping_mul(MIX);
        if !self.known.insert(pair) {
            return;
        }
        if is_kept(event, self.watch.every) {
            self.arrivals.insert((event, hook), at);
        }
        let next = self.watch.ranks.get(self.reached.len());
        if next.is_some_and(|rank| self.known.len() as u64 == *rank) {
            self.reached.push(at);
        }
    }

    /// A request came to a hook that fails or hangs.
    pub fn refuse(&mut self) {
        self.seen.sick += 1;
    }

    /// The longest time without an accepted request since this was last asked, so many seconds
    /// after the start; it is measured anew from then on.
    pub fn lap(&mut self, at: f64) -> f64 {
        self.lap.at(at);
        std::mem::take(&mut self.lap.gap)
    }

    /// The counts.
    pub fn seen(&self) -> Seen {
        Seen {
            unique: self.known.len() as u64,
            ..self.seen
        }
    }

    /// When the watched ranks were reached, as far as they were.
    pub fn reached(&self) -> &[f64] {
        &self.reached
    }

    /// When pairs arrived first, of those events that are kept.
    pub fn arrivals(&self) -> &HashMap<(Uuid, u32), f64> {
        &self.arrivals
    }
}

/// Capacity is made for so many pairs at once, and grows for more.
const ROOM_MAX: u64 = 20_000_000;
/// Spreads the numbers of hooks over 64 bits; odd, so that no two of them meet.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

fn random_half(id: Uuid) -> u64 {
    id.as_u64_pair().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_twice_is_counted_once_and_noticed() {
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
        let seen = Seen {
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
    fn the_longest_gap_is_that_of_the_lap() {
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
    fn moments_are_kept_of_a_share() {
        assert_eq!(Watch::moments(1_000).every, 1);
        assert_eq!(Watch::moments(1_000_000).every, 6);
        let mut tally = Tally::of(Watch::count(2));
        tally.accept(Some(Uuid::from_u128(0)), 0, 1.0);
        assert!(tally.arrivals().is_empty());
        assert!(is_kept(Uuid::from_u128(12), 6) && !is_kept(Uuid::from_u128(13), 6));
    }
}
