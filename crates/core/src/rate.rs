//! Rates, and the token bucket that enforces one.

use crate::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A largest number of requests per second, minute or hour, written as text.
///
/// ```
/// use postrider_core::Rate;
/// assert_eq!("20/s".parse::<Rate>()?.per_second(), 20.0);
/// assert_eq!("90/m".parse::<Rate>()?.to_string(), "90/m");
/// # Ok::<(), postrider_core::RateError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

/// The text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a rate: write how many in a second, a minute or an hour, such as \"20/s\", \"300/m\" or \"1000/h\""
)]
pub struct RateError(String);

impl Rate {
    /// A rate of `count` per second.
    pub fn per_second_of(count: u32) -> Self {
        Self {
            count,
            unit: Unit::Second,
        }
    }

    /// The rate per second.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.unit.seconds()
    }

    /// The largest number of requests at once after a pause: those of one second, at least one.
    pub fn burst(self) -> f64 {
        self.per_second().max(1.0)
    }
}

impl Unit {
    const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    fn seconds(self) -> f64 {
        match self {
            Self::Second => 1.0,
            Self::Minute => 60.0,
            Self::Hour => 3600.0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let refuse = || RateError(text.into());
        let (count, unit) = text.trim().split_once('/').ok_or_else(refuse)?;
        let unit = Unit::ALL.into_iter().find(|known| known.name() == unit);
        let count = count.parse().ok().filter(|count| *count > 0);
        match (count, unit) {
            (Some(count), Some(unit)) => Ok(Self { count, unit }),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.name())
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A token bucket: tokens are added at a rate, up to its burst, and each request takes one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    rate: Rate,
    tokens: f64,
    filled_at: Timestamp,
}

impl Bucket {
    /// A bucket with one token, for a worker that takes a hook over: no second burst.
    pub fn new(rate: Rate, now: Timestamp) -> Self {
        Self {
            rate,
            tokens: 1.0,
            filled_at: now,
        }
    }

    /// A full bucket, for a caller without earlier requests.
    pub fn full(rate: Rate, now: Timestamp) -> Self {
        Self {
            tokens: rate.burst(),
            ..Self::new(rate, now)
        }
    }

    /// Whether the bucket is full at `now`, so that it can be forgotten.
    pub fn is_full(&mut self, now: Timestamp) -> bool {
        self.tokens(now);
        self.tokens >= self.rate.burst()
    }

    /// The rate at which tokens are added.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// The number of requests that may start at `now`.
    pub fn tokens(&mut self, now: Timestamp) -> u32 {
        let seconds = (now - self.filled_at).as_seconds_f64();
        // A clock that was set back adds no tokens and removes none.
        self.tokens =
            (self.tokens + seconds.max(0.0) * self.rate.per_second()).min(self.rate.burst());
        self.filled_at = now;
        self.tokens as u32
    }

    /// Takes a token. The bucket may go below zero: that request was started anyway.
    pub fn take(&mut self) {
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeDelta, TimeZone, Utc};
    use proptest::prelude::*;

    fn start() -> Timestamp {
        Utc.timestamp_opt(1_700_000_000, 0).unwrap()
    }

    #[test]
    fn text_becomes_a_rate_and_back() {
        for (text, per_second) in [("20/s", 20.0), ("30/m", 0.5), ("3600/h", 1.0)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.per_second(), per_second);
            assert_eq!(rate.to_string(), text);
        }
        for text in ["", "20", "0/s", "-1/s", "20/d", "a/s", "1.5/s", "20/s/s"] {
            let problem = text.parse::<Rate>().unwrap_err().to_string();
            assert!(problem.contains("\"20/s\""), "{problem}");
        }
    }

    #[test]
    fn a_slow_rate_allows_one_at_once() {
        let mut bucket = Bucket::new("2/m".parse().unwrap(), start());
        assert_eq!(bucket.tokens(start()), 1);
        bucket.take();
        assert_eq!(bucket.tokens(start() + TimeDelta::seconds(29)), 0);
        assert_eq!(bucket.tokens(start() + TimeDelta::seconds(30)), 1);
        assert_eq!(bucket.tokens(start() + TimeDelta::hours(1)), 1);
    }

    proptest! {
        #[test]
        fn no_more_start_than_the_rate_and_one_burst_allow(
            count in 1u32..500,
            steps in prop::collection::vec(-50i64..2_000, 1..200),
        ) {
            let rate: Rate = format!("{count}/s").parse().unwrap();
            let mut bucket = Bucket::new(rate, start());
            let (mut now, mut latest, mut taken) = (start(), start(), 0u32);
            for milliseconds in steps {
                now = latest.max(now + TimeDelta::milliseconds(milliseconds));
                latest = now;
                for _ in 0..bucket.tokens(now) {
                    bucket.take();
                    taken += 1;
                }
            }
            let seconds = (latest - start()).as_seconds_f64();
            prop_assert!(f64::from(taken) <= rate.burst() + seconds * rate.per_second() + 1e-6);
        }
    }
}
