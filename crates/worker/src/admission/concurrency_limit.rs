//! How many requests are in flight at once: as many as the processors can serve.
//!
//! More than about 32 for each core make quick receivers slower, not faster: every connection
//! and every task in flight has left the caches before its answer arrives. Slow receivers need
//! more, because their requests occupy no processor. The two are distinguished by how long a
//! task of this process that could run waits for its turn.

use crate::tuning::ConcurrencyTuning;
use std::thread::available_parallelism;
use std::time::Duration;

/// The limit of requests in flight, moved by samples of how busy the processors are.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    tuning: ConcurrencyTuning,
    limit: u32,
    least: u32,
    most: u32,
    /// Samples since the limit was last decided upon, and those of them that found the
    /// processors busy.
    samples: u32,
    busy: u32,
}

impl ConcurrencyLimit {
    /// A limit between the tuned least for each core and `concurrency`.
    pub(super) fn new(concurrency: u32, tuning: ConcurrencyTuning) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        let least = cores.saturating_mul(tuning.least_per_core).min(concurrency);
        Self {
            tuning,
            limit: least,
            least,
            most: concurrency,
            samples: 0,
            busy: 0,
        }
    }

    /// Requests in flight at most.
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Takes a sample: how long a task waited for its turn while the limit kept deliveries from
    /// starting. Returns whether the limit was decided upon by it.
    pub(super) fn weigh(&mut self, waited: Duration) -> bool {
        let of = self.tuning.samples;
        self.samples += 1;
        self.busy += u32::from(waited > self.tuning.busy_delay);
        if self.samples < of {
            return false;
        }
        if self.busy * 4 >= of * 3 {
            self.limit = (self.limit - self.limit / 8).max(self.least);
        } else if self.busy * 4 <= of {
            self.limit = (self.limit + self.limit.div_ceil(4)).min(self.most);
        }
        (self.samples, self.busy) = (0, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighed(mut limit: ConcurrencyLimit, waited: Duration, samples: u32) -> u32 {
        for _ in 0..samples {
            limit.weigh(waited);
        }
        limit.limit()
    }

    fn starting_at(limit: u32) -> ConcurrencyLimit {
        ConcurrencyLimit {
            tuning: ConcurrencyTuning::default(),
            limit,
            least: 64,
            most: 256,
            samples: 0,
            busy: 0,
        }
    }

    fn tuning() -> (Duration, u32) {
        let tuning = ConcurrencyTuning::default();
        (tuning.busy_delay, tuning.samples)
    }

    #[test]
    fn idle_processors_raise_the_limit_up_to_the_most() {
        let (busy, samples) = tuning();
        assert_eq!(weighed(starting_at(64), busy / 2, samples - 1), 64);
        assert_eq!(weighed(starting_at(64), busy / 2, samples), 80);
        assert_eq!(weighed(starting_at(64), busy / 2, samples * 20), 256);
    }

    #[test]
    fn busy_processors_lower_the_limit_down_to_the_least() {
        let (busy, samples) = tuning();
        assert_eq!(weighed(starting_at(256), busy * 2, samples), 224);
        assert_eq!(weighed(starting_at(256), busy * 2, samples * 40), 64);
    }

    #[test]
    fn a_few_long_waits_mean_nothing() {
        let (busy, samples) = tuning();
        let mut limit = starting_at(64);
        for n in 0..samples * 4 {
            limit.weigh(if n % 2 == 0 { busy * 9 } else { busy / 9 });
        }
        assert_eq!(limit.limit(), 64);
    }

    #[test]
    fn little_concurrency_is_never_exceeded() {
        let tuning = ConcurrencyTuning::default();
        let limit = ConcurrencyLimit::new(3, tuning);
        assert_eq!(
            (limit.limit(), weighed(limit, tuning.busy_delay / 2, 1_000)),
            (3, 3)
        );
    }
}
