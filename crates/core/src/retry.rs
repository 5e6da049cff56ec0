//! Retry schedules: the wait before the next attempt as a pure function of delivery and attempt.

use crate::{DeliveryId, Span};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::time::Duration;

/// The waits between the attempts of a delivery. With `n` waits there are `n + 1` attempts.
///
/// Stored and shown as the list of its waits. A schedule that is read has the default jitter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Span>", into = "Vec<Span>")]
pub struct RetrySchedule {
    delays: Vec<Span>,
    jitter: Jitter,
}

/// How much the waits differ from delivery to delivery, so that deliveries which failed at the same
/// time are not retried at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// Up to a tenth shorter or longer.
    #[default]
    Around,
    /// Up to a fifth longer.
    Longer,
    /// Not at all.
    None,
}

impl Jitter {
    /// The factor for a wait; `fraction` is from 0 to 1.
    fn factor(self, fraction: f64) -> f64 {
        match self {
            Self::Around => 0.9 + 0.2 * fraction,
            Self::Longer => 1.0 + 0.2 * fraction,
            Self::None => 1.0,
        }
    }
}

impl Default for RetrySchedule {
    /// Ten attempts over three days, the example of the Standard Webhooks specification.
    fn default() -> Self {
        let hours = |h: u64| Span::secs(h * 3600);
        Self::new(vec![
            Span::secs(5),
            Span::secs(5 * 60),
            Span::secs(30 * 60),
            hours(2),
            hours(5),
            hours(10),
            hours(14),
            hours(20),
            hours(24),
        ])
    }
}

impl RetrySchedule {
    /// A schedule with these waits and the default jitter.
    pub fn new(delays: Vec<Span>) -> Self {
        Self {
            delays,
            jitter: Jitter::default(),
        }
    }

    /// The schedule with another jitter.
    #[must_use]
    pub fn jittered(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The waits, without jitter.
    pub fn delays(&self) -> &[Span] {
        &self.delays
    }

    /// The wait after the `attempt`-th failed attempt (the first is 1), with jitter; `None` when
    /// the schedule is used up.
    ///
    /// The wait depends on nothing else, so that every worker computes the same one.
    pub fn delay_after(&self, delivery: DeliveryId, attempt: u32) -> Option<Duration> {
        let delay = self.delays.get(attempt.checked_sub(1)? as usize)?.get();
        let jittered = delay.mul_f64(self.jitter.factor(fraction(delivery, attempt)));
        // Whole milliseconds, so that the time is the same after it was stored and read.
        Some(Duration::from_millis(jittered.as_millis() as u64))
    }
}

/// The waits, with commas between them.
impl fmt::Display for RetrySchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, delay) in self.delays.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{delay}")?;
        }
        Ok(())
    }
}

impl From<Vec<Span>> for RetrySchedule {
    fn from(delays: Vec<Span>) -> Self {
        Self::new(delays)
    }
}

impl From<RetrySchedule> for Vec<Span> {
    fn from(schedule: RetrySchedule) -> Self {
        schedule.delays
    }
}

/// A number from 0 to 1 that depends on the delivery and the attempt alone.
fn fraction(delivery: DeliveryId, attempt: u32) -> f64 {
    let mut hasher = Sha256::new();
    hasher.update(delivery.0.as_bytes());
    hasher.update(attempt.to_be_bytes());
    let digest = hasher.finalize();
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(number) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    #[test]
    fn the_default_makes_ten_attempts_over_three_days() {
        let schedule = RetrySchedule::default();
        assert_eq!(schedule.delays().len(), 9);
        let total: u64 = schedule.delays().iter().map(|d| d.get().as_secs()).sum();
        assert_eq!(total, 75 * 3600 + 35 * 60 + 5);
    }

    proptest! {
        #[test]
        fn a_delay_is_within_a_tenth_and_always_the_same(id in any::<u128>(), attempt in 1u32..=9) {
            let schedule = RetrySchedule::default();
            let delivery = DeliveryId(Uuid::from_u128(id));
            let delay = schedule.delay_after(delivery, attempt).unwrap();
            let plain = schedule.delays()[attempt as usize - 1].get();
            prop_assert!(delay >= plain.mul_f64(0.899) && delay <= plain.mul_f64(1.101));
            prop_assert_eq!(Some(delay), schedule.delay_after(delivery, attempt));
        }

        #[test]
        fn a_used_up_schedule_gives_no_delay(id in any::<u128>(), attempt in 10u32..) {
            let delivery = DeliveryId(Uuid::from_u128(id));
            prop_assert_eq!(RetrySchedule::default().delay_after(delivery, attempt), None);
            prop_assert_eq!(RetrySchedule::default().delay_after(delivery, 0), None);
        }
    }

    #[test]
    fn a_jitter_lengthens_or_leaves_alone() {
        let waits = || RetrySchedule::new(vec![Span::secs(60), Span::secs(180), Span::secs(420)]);
        let (longer, exact) = (
            waits().jittered(Jitter::Longer),
            waits().jittered(Jitter::None),
        );
        for n in 0..500u128 {
            let delivery = DeliveryId(Uuid::from_u128(n));
            for attempt in 1..=3 {
                let plain = waits().delays()[attempt as usize - 1].get();
                assert_eq!(exact.delay_after(delivery, attempt), Some(plain));
                let delay = longer.delay_after(delivery, attempt).unwrap();
                assert!(delay >= plain && delay <= plain.mul_f64(1.2), "{delay:?}");
            }
            assert_eq!(exact.delay_after(delivery, 4), None);
        }
    }

    #[test]
    fn a_schedule_is_written_as_its_waits() {
        let schedule = RetrySchedule::new(vec![Span::secs(10)]).jittered(Jitter::Longer);
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(text, r#"["10s"]"#);
        let read: RetrySchedule = serde_json::from_str(&text).unwrap();
        assert_eq!(read, RetrySchedule::new(vec![Span::secs(10)]));
    }

    #[test]
    fn two_deliveries_do_not_retry_in_step() {
        let schedule = RetrySchedule::default();
        let delays: std::collections::BTreeSet<_> = (0..100u128)
            .map(|n| schedule.delay_after(DeliveryId(Uuid::from_u128(n)), 1))
            .collect();
        assert!(delays.len() > 90);
    }
}
