//! Rate limits per key.
//!
//! Each key has one token bucket in memory per kind of call; each process counts separately. Full
//! buckets are dropped, so that memory is bounded by the number of recently active keys.

use crate::problem::Problem;
use postrider_core::{Bucket, KeyId, Rate, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The rate limits of each key, per process.
#[derive(Clone, Copy, Debug)]
pub struct ApiLimits {
    /// Calls that publish events.
    pub publishing: Rate,
    /// All other calls.
    pub managing: Rate,
}

/// The kinds of call that are limited separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Calls {
    Publishing,
    Managing,
}

/// The token buckets of all keys.
pub(crate) struct Limits {
    rates: ApiLimits,
    buckets: Mutex<HashMap<(KeyId, Calls), Bucket>>,
}

impl Limits {
    pub(crate) fn new(rates: ApiLimits) -> Self {
        Self {
            rates,
            buckets: Mutex::default(),
        }
    }

    /// Takes a token for a call.
    ///
    /// # Errors
    /// 429 when the key's bucket is empty.
    pub(crate) fn admit(&self, key: KeyId, calls: Calls, now: Timestamp) -> Result<(), Problem> {
        let rate = match calls {
            Calls::Publishing => self.rates.publishing,
            Calls::Managing => self.rates.managing,
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets
            .entry((key, calls))
            .or_insert_with(|| Bucket::full(rate, now));
        if bucket.tokens(now) > 0 {
            bucket.take();
            return Ok(());
        }
        let detail = format!(
            "The rate limit of this key for such calls is {rate} per process: send fewer, or later."
        );
        Err(Problem::rate_limited(detail, retry_after(rate)))
    }

    /// Drops buckets that are full again.
    pub(crate) fn forget(&self, now: Timestamp) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.retain(|_, bucket| !bucket.is_full(now));
    }
}

/// Seconds until the next token, rounded up.
fn retry_after(rate: Rate) -> u64 {
    (1.0 / rate.per_second()).ceil().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use uuid::Uuid;

    fn start() -> Timestamp {
        "2026-03-02T10:00:00Z".parse().unwrap()
    }

    fn limits() -> Limits {
        Limits::new(ApiLimits {
            publishing: "3/s".parse().unwrap(),
            managing: "2/m".parse().unwrap(),
        })
    }

    #[test]
    fn each_key_has_its_own_limits_for_each_kind_of_call() {
        let limits = limits();
        let (one, other) = (KeyId(Uuid::nil()), KeyId(Uuid::max()));
        let passed = |key, calls, seconds| {
            let now = start() + TimeDelta::seconds(seconds);
            limits.admit(key, calls, now).is_ok()
        };
        for expected in [true, true, true, false] {
            assert_eq!(passed(one, Calls::Publishing, 0), expected);
        }
        assert!(passed(other, Calls::Publishing, 0));
        assert!(passed(one, Calls::Managing, 0));
        assert!(!passed(one, Calls::Managing, 29));
        assert!(passed(one, Calls::Managing, 30));
        assert!(passed(one, Calls::Publishing, 1));
    }

    #[test]
    fn full_buckets_are_dropped() {
        let limits = limits();
        let key = KeyId(Uuid::nil());
        assert!(limits.admit(key, Calls::Managing, start()).is_ok());
        limits.forget(start() + TimeDelta::seconds(29));
        assert_eq!(limits.buckets.lock().unwrap().len(), 1);
        limits.forget(start() + TimeDelta::seconds(30));
        assert!(limits.buckets.lock().unwrap().is_empty());
    }

    #[test]
    fn a_refusal_says_when_the_next_token_is_due() {
        for (rate, seconds) in [("200/s", 1), ("2/m", 30), ("1/h", 3_600)] {
            assert_eq!(retry_after(rate.parse().unwrap()), seconds, "{rate}");
        }
    }
}
