//! Time comes in from outside.
//!
//! `now` is an argument of every decision and of every method of the store; only a [`Clock`]
//! knows its source. A worker's clock follows the database's; a test sets its clock by hand.
//!
//! Durations within one process are measured on a monotonic clock, which no one can set back:
//! a component that decides by them is given a [`MonotonicClock`], and everything else calls
//! [`monotonic_now`].

use chrono::{DateTime, SubsecRound, Utc};
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A moment, in UTC, to the microsecond: what both databases can hold.
pub type Timestamp = DateTime<Utc>;

/// Source of the current time.
pub trait Clock: Send + Sync {
    /// The current time, to the microsecond.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct TestClock(Mutex<Timestamp>);

impl TestClock {
    /// A clock that stands at `start`.
    pub fn at(start: Timestamp) -> Self {
        Self(Mutex::new(start.trunc_subsecs(6)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        *self.lock() += by;
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, to: Timestamp) {
        *self.lock() = to.trunc_subsecs(6);
    }

    fn lock(&self) -> MutexGuard<'_, Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.lock()
    }
}

/// Source of monotonic instants.
pub trait MonotonicClock: Debug + Send + Sync {
    /// The current instant.
    fn instant(&self) -> Instant;
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemMonotonicClock;

impl MonotonicClock for SystemMonotonicClock {
    fn instant(&self) -> Instant {
        monotonic_now()
    }
}

/// A monotonic clock that stands still until a test moves it.
#[derive(Debug)]
pub struct TestMonotonicClock(Mutex<Instant>);

impl TestMonotonicClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        *self.lock() += by;
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for TestMonotonicClock {
    fn default() -> Self {
        Self(Mutex::new(monotonic_now()))
    }
}

impl MonotonicClock for TestMonotonicClock {
    fn instant(&self) -> Instant {
        *self.lock()
    }
}

/// The current instant of the machine's monotonic clock: for measuring how long something took,
/// and at the edges of code that takes the instant as an argument.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the monotonic clock"
)]
pub fn monotonic_now() -> Instant {
    Instant::now()
}
