//! Whether a worker makes progress: it looks for work, and does some of what it finds.
//!
//! A worker stands still when there is work that it may do and, for a while, it does nothing at
//! all. Deliveries of hooks that are paused, disabled, backed off or owned by another
//! worker, do not count, nor do those that other workers take.

use postrider_core::MonotonicClock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A shorter standstill counts as none: a step takes its time.
const SHORTEST: Duration = Duration::from_secs(1);

/// The progress of a worker.
#[derive(Debug)]
pub struct Progress {
    clock: Arc<dyn MonotonicClock>,
    state: Mutex<ProgressState>,
}

#[derive(Debug)]
struct ProgressState {
    /// When the worker last looked for work with success.
    looked: Instant,
    /// Since when there has been work of which none was done; `None` while there is none, or
    /// some is done.
    waiting: Option<Instant>,
}

/// For how long a worker has been standing still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standstill {
    /// How long ago it last looked for work with success.
    pub no_look: Duration,
    /// For how long it has done nothing although there was work.
    pub no_work: Duration,
}

impl Standstill {
    /// The longer of both; zero if it is short.
    pub fn longest(&self) -> Duration {
        unless_short(self.no_look.max(self.no_work))
    }

    /// How long ago the worker last looked with success; zero if that is short.
    pub fn longest_look(&self) -> Duration {
        unless_short(self.no_look)
    }
}

impl Progress {
    pub(crate) fn new(clock: Arc<dyn MonotonicClock>) -> Self {
        let state = ProgressState {
            looked: clock.instant(),
            waiting: None,
        };
        Self {
            clock,
            state: Mutex::new(state),
        }
    }

    /// For how long the worker has been standing still.
    pub fn standstill(&self) -> Standstill {
        let (state, now) = (self.lock(), self.clock.instant());
        let since = |begin| now.saturating_duration_since(begin);
        Standstill {
            no_look: since(state.looked),
            no_work: state.waiting.map(since).unwrap_or_default(),
        }
    }

    /// The worker looked for work with success: whether there was any, and whether some was done.
    pub(crate) fn looked(&self, waits: bool, worked: bool) {
        let (mut state, now) = (self.lock(), self.clock.instant());
        state.looked = now;
        state.waiting = match waits && !worked {
            true => state.waiting.or(Some(now)),
            false => None,
        };
    }

    /// Something was finished and recorded.
    pub(crate) fn moved(&self) {
        self.lock().waiting = None;
    }

    fn lock(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unless_short(still: Duration) -> Duration {
    match still < SHORTEST {
        true => Duration::ZERO,
        false => still,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::TestMonotonicClock;

    const MINUTE: Duration = Duration::from_secs(60);

    fn progress() -> (Progress, Arc<TestMonotonicClock>) {
        let clock = Arc::new(TestMonotonicClock::default());
        (Progress::new(clock.clone()), clock)
    }

    #[test]
    fn a_worker_that_finds_no_work_does_not_stand_still() {
        let (progress, clock) = progress();
        clock.advance(MINUTE);
        progress.looked(false, false);
        let still = progress.standstill();
        assert_eq!(still, Standstill::default());
        assert_eq!(still.longest(), Duration::ZERO);
    }

    #[test]
    fn work_that_waits_while_nothing_is_done_is_a_standstill() {
        let (progress, clock) = progress();
        for _ in 0..5 {
            clock.advance(MINUTE);
            progress.looked(true, false);
        }
        let still = progress.standstill();
        assert_eq!((still.no_look, still.no_work), (Duration::ZERO, 4 * MINUTE));
        assert_eq!(still.longest(), 4 * MINUTE);
        assert_eq!(still.longest_look(), Duration::ZERO);

        progress.moved();
        assert_eq!(progress.standstill().no_work, Duration::ZERO);
        clock.advance(MINUTE);
        progress.looked(true, false);
        clock.advance(MINUTE);
        progress.looked(true, true);
        assert_eq!(progress.standstill(), Standstill::default());
    }

    #[test]
    fn failed_looks_are_a_standstill() {
        let (progress, clock) = progress();
        progress.looked(false, false);
        clock.advance(Duration::from_millis(900));
        assert_eq!(progress.standstill().longest(), Duration::ZERO);
        clock.advance(MINUTE - Duration::from_millis(900));
        let still = progress.standstill();
        assert_eq!((still.longest(), still.longest_look()), (MINUTE, MINUTE));
    }
}
