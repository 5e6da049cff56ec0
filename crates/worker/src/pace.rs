//! How many requests are in flight at once: as many as the processors can serve.
//!
//! More than about 32 for each core make quick receivers slower, not faster: every connection
//! and every task in flight falls out of the caches before its answer is there. Slow receivers
//! need more, because their requests wait elsewhere. The two are told apart by how long a task
//! of our own that could run has to wait for its turn.

use crate::ready::Ready;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};
use tokio::task::yield_now;
use tokio::time::sleep;

/// Requests in flight for each core, at least.
const LEAST_PER_CORE: u32 = 32;
/// A task that waits longer for its turn finds the processors busy.
const BUSY: Duration = Duration::from_millis(1);
/// So many samples are weighed together, and so far apart they are taken.
const SAMPLES: u32 = 16;
const SAMPLE_EVERY: Duration = Duration::from_millis(2);

/// The bound for requests in flight, moved by what the samples say.
#[derive(Debug)]
pub(crate) struct Pace {
    limit: u32,
    least: u32,
    most: u32,
    samples: u32,
    busy: u32,
}

impl Pace {
    /// Between 32 for each core and `concurrency`.
    pub(crate) fn new(concurrency: u32) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        let least = cores.saturating_mul(LEAST_PER_CORE).min(concurrency);
        Self {
            limit: least,
            least,
            most: concurrency,
            samples: 0,
            busy: 0,
        }
    }

    /// How many requests may be in flight.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Weighs how long a task waited for its turn while more could have been started; `true`
    /// when that has been decided upon.
    pub(crate) fn weigh(&mut self, waited: Duration) -> bool {
        self.samples += 1;
        self.busy += u32::from(waited > BUSY);
        if self.samples < SAMPLES {
            return false;
        }
        if self.busy * 4 >= SAMPLES * 3 {
            self.limit = (self.limit - self.limit / 8).max(self.least);
        } else if self.busy * 4 <= SAMPLES {
            self.limit = (self.limit + self.limit.div_ceil(4)).min(self.most);
        }
        (self.samples, self.busy) = (0, 0);
        true
    }
}

/// Takes samples while more could be started than is in flight.
pub(crate) async fn keep(ready: Arc<Ready>) {
    loop {
        ready.crowded().await;
        while ready.weigh(turn().await) {
            sleep(SAMPLE_EVERY).await;
        }
    }
}

/// How long a task that could run waits for its turn.
async fn turn() -> Duration {
    let began = Instant::now();
    yield_now().await;
    began.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighed(mut pace: Pace, waited: Duration, samples: u32) -> u32 {
        for _ in 0..samples {
            pace.weigh(waited);
        }
        pace.limit()
    }

    fn pace() -> Pace {
        Pace {
            limit: 64,
            least: 64,
            most: 256,
            samples: 0,
            busy: 0,
        }
    }

    #[test]
    fn idle_processors_let_more_go_up_to_all() {
        assert_eq!(weighed(pace(), BUSY / 2, SAMPLES - 1), 64);
        assert_eq!(weighed(pace(), BUSY / 2, SAMPLES), 80);
        assert_eq!(weighed(pace(), BUSY / 2, SAMPLES * 20), 256);
    }

    #[test]
    fn busy_processors_let_fewer_go_down_to_the_least() {
        let crowded = || Pace {
            limit: 256,
            ..pace()
        };
        assert_eq!(weighed(crowded(), BUSY * 2, SAMPLES), 224);
        assert_eq!(weighed(crowded(), BUSY * 2, SAMPLES * 40), 64);
    }

    #[test]
    fn a_few_long_waits_mean_nothing() {
        let mut pace = pace();
        for n in 0..SAMPLES * 4 {
            pace.weigh(if n % 2 == 0 { BUSY * 9 } else { BUSY / 9 });
        }
        assert_eq!(pace.limit(), 64);
    }

    #[test]
    fn little_concurrency_is_never_exceeded() {
        let pace = Pace::new(3);
        assert_eq!((pace.limit(), weighed(pace, BUSY / 2, 1_000)), (3, 3));
    }
}
