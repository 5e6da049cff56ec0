//! Time comes in from outside.
//!
//! `now` is an argument of every decision and of every method of the store; only a [`Clock`]
//! knows where it comes from. A worker's clock follows the database's; a test's is set by hand.

use chrono::{DateTime, SubsecRound, Utc};
use std::sync::Mutex;
use std::time::Duration;

/// A moment, in UTC, to the microsecond: what both databases can hold.
pub type Timestamp = DateTime<Utc>;

/// Where `now` comes from.
pub trait Clock: Send + Sync {
    /// The present moment, to the microsecond.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still until it is moved.
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Timestamp> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.lock()
    }
}
