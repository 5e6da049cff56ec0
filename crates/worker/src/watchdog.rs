//! Whether a worker moves: it looks for work, and does what it finds.
//!
//! Work that it may not do, of hooks that are held, backed off or owned by another worker, counts
//! for nothing here, nor does work that others take. What counts is that there was something
//! for this worker to do and, for a while, it did nothing at all: then what is due only gets
//! older.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Standing still for less than this is nothing: looks take their time.
const SHORTEST: Duration = Duration::from_secs(1);

/// Whether a worker moves.
#[derive(Debug)]
pub struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The latest look at the database that succeeded.
    looked: Instant,
    /// Since when there has been something to do of which nothing was done.
    waiting: Option<Instant>,
}

/// For how long a worker has been standing still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standstill {
    /// How long ago it looked for work with success.
    pub no_look: Duration,
    /// For how long it has done nothing although there was something to do.
    pub no_work: Duration,
}

impl Standstill {
    /// The longer of both, if it is worth a word.
    pub fn longest(&self) -> Duration {
        worth_a_word(self.no_look.max(self.no_work))
    }

    /// How long ago the worker looked with success, if it is worth a word.
    pub fn longest_look(&self) -> Duration {
        worth_a_word(self.no_look)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}

impl Progress {
    fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            looked: now,
            waiting: None,
        }))
    }

    /// For how long the worker has been standing still.
    pub fn standstill(&self) -> Standstill {
        self.standstill_at(Instant::now())
    }

    /// A look for work succeeded: whether there was something to do, and whether any was done.
    pub(crate) fn looked(&self, waits: bool, worked: bool) {
        self.looked_at(waits, worked, Instant::now());
    }

    /// Something was finished and recorded.
    pub(crate) fn moved(&self) {
        self.lock().waiting = None;
    }

    fn standstill_at(&self, now: Instant) -> Standstill {
        let state = self.lock();
        let waiting = state
            .waiting
            .map(|since| now.saturating_duration_since(since));
        Standstill {
            no_look: now.saturating_duration_since(state.looked),
            no_work: waiting.unwrap_or_default(),
        }
    }

    fn looked_at(&self, waits: bool, worked: bool, now: Instant) {
        let mut state = self.lock();
        state.looked = now;
        state.waiting = match waits && !worked {
            true => state.waiting.or(Some(now)),
            false => None,
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn worth_a_word(still: Duration) -> Duration {
    match still < SHORTEST {
        true => Duration::ZERO,
        false => still,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_worker_that_finds_nothing_to_do_stands_still_for_no_time() {
        let start = Instant::now();
        let progress = Progress::new(start);
        progress.looked_at(false, false, start + MINUTE);
        let still = progress.standstill_at(start + MINUTE);
        assert_eq!(still, Standstill::default());
        assert_eq!(still.longest(), Duration::ZERO);
    }

    #[test]
    fn work_that_waits_while_nothing_is_done_is_a_standstill() {
        let start = Instant::now();
        let progress = Progress::new(start);
        for minute in 1..=5 {
            progress.looked_at(true, false, start + minute * MINUTE);
        }
        let still = progress.standstill_at(start + 5 * MINUTE);
        assert_eq!((still.no_look, still.no_work), (Duration::ZERO, 4 * MINUTE));
        assert_eq!(still.longest(), 4 * MINUTE);
        assert_eq!(still.longest_look(), Duration::ZERO);

        progress.moved();
        assert_eq!(
            progress.standstill_at(start + 5 * MINUTE).no_work,
            Duration::ZERO
        );
        progress.looked_at(true, false, start + 6 * MINUTE);
        progress.looked_at(true, true, start + 7 * MINUTE);
        assert_eq!(
            progress.standstill_at(start + 7 * MINUTE),
            Standstill::default()
        );
    }

    #[test]
    fn looks_that_fail_are_a_standstill() {
        let start = Instant::now();
        let progress = Progress::new(start);
        progress.looked_at(false, false, start);
        let still = progress.standstill_at(start + MINUTE);
        assert_eq!((still.longest(), still.longest_look()), (MINUTE, MINUTE));
        let moment = Duration::from_millis(900);
        assert_eq!(
            progress.standstill_at(start + moment).longest(),
            Duration::ZERO
        );
    }
}
