//! The database's clock, carried on by a monotonic one.
//!
//! Workers on several machines must agree on when a lease ends, so all of them use the database's
//! time. It is read at the start and every few seconds. Between readings the machine's monotonic
//! clock carries it on, so that setting this machine's wall clock changes nothing.

use async_trait::async_trait;
use chrono::TimeDelta;
use postrider_core::{Clock, Timestamp, monotonic_now};
use postrider_store::{ClockReading, Result, Store};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

const RE_ANCHOR_EVERY: Duration = Duration::from_secs(10);
/// A reading that differs more from the expected time is not trusted: nothing is leased until a
/// second reading agrees with it.
const STEADY_WITHIN: TimeDelta = TimeDelta::seconds(2);
/// A reading whose answer took longer says little about the time, and is not used.
const READING_MAX: Duration = Duration::from_millis(500);
/// How soon the clock is read again after a reading that was not used or not trusted.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Readings at the start, if the answers take long; the quickest is used.
const FIRST_READINGS: u32 = 3;

/// A wall clock that also says whether its readings can be trusted.
#[async_trait]
pub trait WorkerClock: Clock {
    /// Whether the clock can be trusted; while it cannot, nothing is leased.
    fn is_steady(&self) -> bool {
        true
    }

    /// The difference of the latest reading from the expected time, in seconds.
    fn drift_seconds(&self) -> f64 {
        0.0
    }
}

impl WorkerClock for postrider_core::TestClock {}

/// The database's clock.
pub struct DatabaseClock {
    anchor: Arc<Mutex<Anchor>>,
    _keeper: AbortOnDropHandle<()>,
}

#[derive(Clone, Copy)]
struct Anchor {
    time: Timestamp,
    read_at: Instant,
    drift: TimeDelta,
    steady: bool,
}

impl DatabaseClock {
    /// Reads the database's clock, now and regularly until dropped.
    ///
    /// # Errors
    /// When the first reading fails.
    pub async fn start(store: Arc<dyn Store>) -> Result<Arc<Self>> {
        let (time, read_at) = middle(first(store.as_ref()).await?);
        let anchor = Arc::new(Mutex::new(Anchor {
            time,
            read_at,
            drift: TimeDelta::zero(),
            steady: true,
        }));
        let keeper = tokio::spawn(keep(store, anchor.clone(), CancellationToken::new()));
        Ok(Arc::new(Self {
            anchor,
            _keeper: AbortOnDropHandle::new(keeper),
        }))
    }

    fn anchor(&self) -> Anchor {
        *self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        self.anchor().carried_to(monotonic_now())
    }
}

impl WorkerClock for DatabaseClock {
    fn is_steady(&self) -> bool {
        self.anchor().steady
    }

    fn drift_seconds(&self) -> f64 {
        self.anchor().drift.as_seconds_f64()
    }
}

impl Anchor {
    fn carried_to(&self, instant: Instant) -> Timestamp {
        let passed = instant.saturating_duration_since(self.read_at);
        self.time + TimeDelta::microseconds(i64::try_from(passed.as_micros()).unwrap_or(i64::MAX))
    }

    /// The anchor after another reading. A jump is taken over at once, but trusted only when the
    /// next reading confirms it.
    fn after(&self, time: Timestamp, read_at: Instant) -> Self {
        let drift = time - self.carried_to(read_at);
        Self {
            time,
            read_at,
            drift,
            steady: drift.abs() <= STEADY_WITHIN,
        }
    }
}

/// The first reading. One is needed, even if all take long.
async fn first(store: &dyn Store) -> Result<ClockReading> {
    let mut best = store.read_clock().await?;
    for _ in 1..FIRST_READINGS {
        if best.took <= READING_MAX {
            break;
        }
        let next = store.read_clock().await?;
        if next.took < best.took {
            best = next;
        }
    }
    Ok(best)
}

/// The database's time, and the instant in the middle of asking for it.
fn middle(reading: ClockReading) -> (Timestamp, Instant) {
    (reading.time, reading.asked + reading.took / 2)
}

async fn keep(store: Arc<dyn Store>, anchor: Arc<Mutex<Anchor>>, stop: CancellationToken) {
    let mut wait = RE_ANCHOR_EVERY;
    while stop
        .run_until_cancelled(tokio::time::sleep(wait))
        .await
        .is_some()
    {
        // A database that does not answer is logged by the dispatcher; the clock carries on.
        let Ok(reading) = store.read_clock().await else {
            continue;
        };
        if reading.took > READING_MAX {
            wait = READ_AGAIN;
            continue;
        }
        let (time, read_at) = middle(reading);
        let mut current = anchor.lock().unwrap_or_else(PoisonError::into_inner);
        *current = current.after(time, read_at);
        wait = RE_ANCHOR_EVERY;
        if !current.steady {
            wait = READ_AGAIN;
            warn!(
                drift_seconds = current.drift.as_seconds_f64(),
                "The database's clock jumped by {:.1} s; nothing is leased until it is steady",
                current.drift.as_seconds_f64()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;

    #[test]
    fn a_jump_is_taken_over_and_trusted_when_confirmed() {
        let start = monotonic_now();
        let anchor = Anchor {
            time: now(),
            read_at: start,
            drift: TimeDelta::zero(),
            steady: true,
        };
        let second = Duration::from_secs(1);
        let fine = anchor.after(now() + TimeDelta::milliseconds(1_100), start + second);
        assert!(fine.steady);
        let jumped = anchor.after(now() - TimeDelta::hours(1), start + second);
        assert!(!jumped.steady);
        assert_eq!(
            jumped.carried_to(start + second),
            now() - TimeDelta::hours(1)
        );
        let confirmed = jumped.after(
            now() - TimeDelta::hours(1) + TimeDelta::seconds(1),
            start + 2 * second,
        );
        assert!(confirmed.steady);
    }
}
