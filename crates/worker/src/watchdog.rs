//! Whether a worker makes progress: it looks for work, and does some of what it finds.
//!
//! Its loop gives a sign of life before each step and after each call of the store. A loop that
//! gives none for longer than any of these may take is not alive: only a restart helps.
//!
//! A worker stands still when there is work that it may do and, for a while, it does nothing at
//! all. Deliveries of hooks that are paused, disabled, backed off or owned by another
//! worker, do not count, nor do those that other workers take.

use postrider_core::MonotonicClock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A shorter standstill counts as none: a step takes its time.
const SHORTEST: Duration = Duration::from_secs(1);

/// A loop that has given no sign of life for this long is not alive. It must be longer than
/// `DispatchTuning::longest_call`.
const LIFELESS_AFTER: Duration = Duration::from_secs(300);

/// The progress of a worker.
#[derive(Debug)]
pub struct Progress {
    clock: Arc<dyn MonotonicClock>,
    state: Mutex<ProgressState>,
    calls: Mutex<HashMap<u64, Waiting>>,
    calls_made: AtomicU64,
}

/// A call of the store that has no answer yet.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    operation: &'static str,
    since: Instant,
}

/// A call of the store in progress, until it is dropped.
#[derive(Debug)]
pub(crate) struct CallInProgress<'a> {
    progress: &'a Progress,
    number: u64,
}

#[derive(Debug)]
struct ProgressState {
    /// When the worker last looked for work with success.
    looked: Instant,
    /// Since when there has been work of which none was done; `None` while there is none, or
    /// some is done.
    waiting: Option<Instant>,
    /// The latest sign of life of the loop; `None` while it does not run.
    alive: Option<Instant>,
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
            alive: None,
        };
        Self {
            clock,
            state: Mutex::new(state),
            calls: Mutex::default(),
            calls_made: AtomicU64::new(0),
        }
    }

    /// For how long the loop has given no sign of life, if that is too long for one that is alive.
    pub fn lifeless(&self) -> Option<Duration> {
        let latest = self.lock().alive?;
        let since = self.clock.instant().saturating_duration_since(latest);
        (since > LIFELESS_AFTER).then_some(since)
    }

    /// The call of the store that has been waiting longest for an answer, and for how long.
    pub fn longest_call(&self) -> Option<(&'static str, Duration)> {
        let now = self.clock.instant();
        let calls = self.lock_calls();
        let longest = calls.values().min_by_key(|call| call.since)?;
        let waited = now.saturating_duration_since(longest.since);
        Some((longest.operation, waited))
    }

    /// For how long the longest call of this kind has been waiting; zero without one.
    pub(crate) fn waiting_for(&self, operation: &str) -> Duration {
        let now = self.clock.instant();
        let calls = self.lock_calls();
        let of_kind = calls.values().filter(|call| call.operation == operation);
        let waited = of_kind.map(|call| now.saturating_duration_since(call.since));
        waited.max().unwrap_or_default()
    }

    /// A call of the store begins; it ends when the result is dropped.
    pub(crate) fn call(&self, operation: &'static str) -> CallInProgress<'_> {
        let number = self.calls_made.fetch_add(1, Ordering::Relaxed);
        let since = self.clock.instant();
        let call = Waiting { operation, since };
        self.lock_calls().insert(number, call);
        CallInProgress {
            progress: self,
            number,
        }
    }

    /// The loop begins.
    pub(crate) fn begun(&self) {
        self.lock().alive = Some(self.clock.instant());
    }

    /// The loop is alive, if it runs.
    pub(crate) fn sign_of_life(&self) {
        if let Some(alive) = &mut self.lock().alive {
            *alive = self.clock.instant();
        }
    }

    /// The loop has ended as it should.
    pub(crate) fn ended(&self) {
        self.lock().alive = None;
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

    fn lock_calls(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CallInProgress<'_> {
    fn drop(&mut self) {
        self.progress.lock_calls().remove(&self.number);
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
    fn a_loop_without_a_sign_of_life_is_not_alive_while_it_runs() {
        let (progress, clock) = progress();
        clock.advance(60 * MINUTE);
        assert_eq!(progress.lifeless(), None, "it has not begun");
        progress.sign_of_life();
        assert_eq!(progress.lifeless(), None);
        progress.begun();
        clock.advance(LIFELESS_AFTER);
        assert_eq!(progress.lifeless(), None);
        clock.advance(MINUTE);
        assert_eq!(progress.lifeless(), Some(LIFELESS_AFTER + MINUTE));
        progress.sign_of_life();
        assert_eq!(progress.lifeless(), None);
        progress.ended();
        clock.advance(60 * MINUTE);
        assert_eq!(progress.lifeless(), None, "it has ended");
    }

    #[test]
    fn the_longest_call_in_progress_is_named() {
        let (progress, clock) = progress();
        assert_eq!(progress.longest_call(), None);
        let lease = progress.call("lease");
        clock.advance(MINUTE);
        let settle = progress.call("settle");
        clock.advance(MINUTE);
        assert_eq!(progress.longest_call(), Some(("lease", 2 * MINUTE)));
        assert_eq!(progress.waiting_for("settle"), MINUTE);
        drop(lease);
        assert_eq!(progress.longest_call(), Some(("settle", MINUTE)));
        drop(settle);
        assert_eq!(progress.waiting_for("settle"), Duration::ZERO);
    }

    #[test]
    fn a_lively_loop_outlasts_its_longest_call() {
        assert!(crate::tuning::DispatchTuning::default().longest_call < LIFELESS_AFTER);
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
