//! What the dispatcher remembers between its steps.

use super::due_times::DueTimes;
use crate::tuning::DispatchTuning;
use postrider_core::{HookId, Timestamp};
use postrider_store::{HookCache, HookRequest, Result};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What the dispatcher remembers between its steps.
#[derive(Default)]
pub(crate) struct DispatchState {
    pub(super) due: DueTimes,
    /// The slot with which the next round of fan-out begins.
    pub(super) turn: usize,
    /// The version of the hook cache that was last applied to queued deliveries.
    pub(super) hooks_version: i64,
    pub(super) ownership_retries: OwnershipRetries,
    /// The hook that was leased last from each slot: the next lease begins after it.
    pub(super) leased_last: HashMap<i16, HookId>,
    /// Whether a lease returned nothing although something was due: other workers leased it or
    /// have it locked. The next sweep shows which.
    pub(super) passed_over: bool,
    /// The largest average size of a payload in recent batches; 0 while unknown.
    pub(super) payload_bytes: u64,
    /// Deliveries for each event of the latest fan-out.
    pub(super) deliveries_per_event: u32,
    pub(super) fanned_out: Timer,
    pub(super) owned: Timer,
    pub(super) kept_up: Timer,
    pub(super) sweep: Duty,
    pub(super) recovery: Duty,
}

impl DispatchState {
    /// Forgets when everything was last done, and what is due.
    pub(super) fn forget_when(&mut self) {
        *self = Self {
            turn: self.turn,
            payload_bytes: self.payload_bytes,
            deliveries_per_event: self.deliveries_per_event,
            hooks_version: self.hooks_version,
            ..Self::default()
        };
    }

    /// Remembers how large payloads are, so that a batch of large ones stays small. A large
    /// average is forgotten slowly: the next batch may be as large.
    pub(super) fn note_sizes(&mut self, leased: &[HookRequest]) {
        if leased.is_empty() {
            return;
        }
        let bytes: usize = leased.iter().map(HookRequest::payload_bytes).sum();
        let average = bytes as u64 / leased.len() as u64;
        self.payload_bytes = average.max(self.payload_bytes * 7 / 8).max(1);
    }
}

/// When to ask again for hooks that this worker does not own.
#[derive(Default)]
pub(super) struct OwnershipRetries(HashMap<HookId, Timestamp>);

impl OwnershipRetries {
    pub(super) fn ask_again(&mut self, hook: HookId, at: Timestamp) {
        self.0.insert(hook, at);
    }

    /// Hooks that have changed since `version` may be asked for at once.
    pub(super) fn follow(&mut self, cache: &HookCache, version: i64) {
        self.0
            .retain(|hook, _| cache.get(*hook).is_some_and(|hook| hook.version <= version));
    }

    pub(super) fn owned(&mut self, hook: HookId) {
        self.0.remove(&hook);
    }

    pub(super) fn may_ask(&self, hook: HookId, now: Timestamp) -> bool {
        self.0.get(&hook).is_none_or(|at| *at <= now)
    }
}

/// What one step of the dispatcher found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepResult {
    /// Outbox rows and deliveries taken.
    pub(crate) work: u32,
    /// Whether the outbox holds more.
    pub(crate) more: bool,
    /// Whether there was work that this worker may do, whether it was taken or not.
    pub(crate) waits: bool,
}

/// When something was last done; `None` until then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timer(Option<Instant>);

impl Timer {
    /// Whether `every` has passed since this last returned `true`.
    pub(super) fn passed(&mut self, now: Instant, every: Duration) -> bool {
        let passed = self
            .0
            .is_none_or(|last| now.saturating_duration_since(last) >= every);
        if passed {
            self.0 = Some(now);
        }
        passed
    }

    /// Makes the timer pass at its next look.
    pub(super) fn reset(&mut self) {
        self.0 = None;
    }
}

/// A duty that is done less often when it takes long.
///
/// While a transaction stays open, dead rows accumulate in the indexes and each search steps over
/// all of them. The duty then still takes only a small part of the time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Duty(Option<Instant>);

impl Duty {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.0.is_none_or(|at| at <= now)
    }

    pub(super) fn is_due_at_once(&mut self) {
        self.0 = None;
    }

    /// The duty, which is to be done `every` so often, was done from `began` to `ended`.
    pub(super) fn done(
        &mut self,
        every: Duration,
        began: Instant,
        ended: Instant,
        tuning: &DispatchTuning,
    ) {
        let took = ended.saturating_duration_since(began);
        let rest = (took * tuning.duty_part).min(tuning.duty_least_often);
        self.0 = Some(began + rest.max(every));
    }
}

/// Keeps the first error in `first`. Returns an error at once when the database did not answer
/// at all: then nothing else needs to be tried.
pub(super) fn note(first: &mut Result<()>, result: Result<()>) -> Result<()> {
    match result {
        Err(problem) if problem.is_no_answer() => Err(problem),
        Err(problem) if first.is_ok() => {
            *first = Err(problem);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::monotonic_now;

    #[test]
    fn a_duty_that_takes_long_is_done_less_often() {
        let (ms, began) = (Duration::from_millis, monotonic_now());
        for (took, rest) in [(1, 500), (100, 5_000), (60_000, 15_000)] {
            let mut duty = Duty::default();
            assert!(duty.is_due(began));
            let ended = began + ms(took);
            duty.done(ms(500), began, ended, &DispatchTuning::default());
            assert!(!duty.is_due(began + ms(rest - 1)), "{took} ms");
            assert!(duty.is_due(began + ms(rest)), "{took} ms");
        }
    }

    #[test]
    fn a_timer_passes_once_in_its_time() {
        let (ms, start) = (Duration::from_millis, monotonic_now());
        let mut timer = Timer::default();
        let at = [0, 9, 10, 12, 20];
        let passed = at.map(|at| timer.passed(start + ms(at), ms(10)));
        assert_eq!(passed, [true, false, true, false, true]);
        timer.reset();
        assert!(timer.passed(start + ms(20), ms(10)));
    }
}
