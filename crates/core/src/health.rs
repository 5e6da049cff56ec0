//! How a hook does: its fail count, when it is backed off and when it is disabled.

use crate::{DisabledReason, HookId, Outcome, Timestamp};
use std::time::Duration;

/// What is known of a hook's latest attempts. A hook without failures has the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Failed attempts in a row.
    pub fail_count: u32,
    /// When the first of them failed.
    pub first_failure_at: Option<Timestamp>,
    /// When the last of them failed.
    pub last_failure_at: Option<Timestamp>,
    /// How the last of them failed, in words.
    pub last_error: Option<String>,
}

/// When a hook is backed off and when it is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// From this many failures in a row the hook is backed off as a whole.
    pub back_off_after: u32,
    /// The longest interval between two probes.
    pub back_off_max: Duration,
    /// The hook is disabled at this many failures in a row …
    pub disable_after_failures: u32,
    /// … if they also span at least this time. Never one without the other: requests in
    /// flight together fail together.
    pub disable_after: Duration,
}

/// One attempt's bearing on its hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When the attempt ended.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
}

/// What the observations mean for the hook's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Unchanged,
    /// It is to be disabled, if it is active.
    Disable(DisabledReason),
}

impl Health {
    /// The health after these attempts, in this order, and what it means for the status.
    ///
    /// Failures that are not the hook's ([`Outcome::is_hook_failure`]) change nothing. The
    /// verdict stands as soon as one attempt calls for it, unless a later one was accepted.
    pub fn after<'a>(
        &self,
        observations: impl IntoIterator<Item = &'a Observation>,
        policy: &HealthPolicy,
    ) -> (Self, Verdict) {
        let mut health = self.clone();
        let mut verdict = Verdict::Unchanged;
        for Observation { at, outcome } in observations {
            if outcome.is_accepted() {
                health = Self::default();
                verdict = Verdict::Unchanged;
            } else if outcome.is_hook_failure() {
                health.fail_count = health.fail_count.saturating_add(1);
                let first = *health.first_failure_at.get_or_insert(*at);
                health.last_failure_at = Some(*at);
                health.last_error = Some(outcome.to_string());
                if outcome.status() == Some(410) {
                    verdict = Verdict::Disable(DisabledReason::Gone);
                } else if verdict == Verdict::Unchanged
                    && health.fail_count >= policy.disable_after_failures
                    && (*at - first).to_std().unwrap_or_default() >= policy.disable_after
                {
                    verdict = Verdict::Disable(DisabledReason::Failures);
                }
            }
        }
        (health, verdict)
    }

    /// How long the hook as a whole is left alone after its latest failure: nothing below
    /// `back_off_after` failures in a row, then 1 s, doubling with each further failure up to
    /// `back_off_max`, shortened by up to a fifth so that hooks do not probe in step.
    pub fn back_off(&self, hook: HookId, policy: &HealthPolicy) -> Option<Duration> {
        let step = self.fail_count.checked_sub(policy.back_off_after)?;
        let plain = Duration::from_secs(1u64 << step.min(32)).min(policy.back_off_max);
        let seed = hook.0.as_u128() ^ (u128::from(step).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let jitter = (seed % 1_000) as f64 / 1_000.0;
        Some(plain.mul_f64(1.0 - 0.2 * jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};
    use proptest::prelude::*;
    use uuid::Uuid;

    const POLICY: HealthPolicy = HealthPolicy {
        back_off_after: 5,
        back_off_max: Duration::from_secs(900),
        disable_after_failures: 3,
        disable_after: Duration::from_secs(60),
    };

    fn seen(second: i64, status: u16) -> Observation {
        let outcome = match status {
            200..300 => Outcome::Accepted { status },
            _ => Outcome::Refused {
                status,
                retry_after: None,
            },
        };
        Observation {
            at: Utc.timestamp_opt(second, 0).unwrap(),
            outcome,
        }
    }

    #[test]
    fn the_attempts_decide_count_and_verdict() {
        let failures = Verdict::Disable(DisabledReason::Failures);
        let gone = Verdict::Disable(DisabledReason::Gone);
        let table: [(&str, Vec<Observation>, u32, Verdict); 8] = [
            (
                "a success changes nothing",
                vec![seen(0, 200)],
                0,
                Verdict::Unchanged,
            ),
            (
                "failures count",
                vec![seen(0, 500), seen(1, 404)],
                2,
                Verdict::Unchanged,
            ),
            (
                "a success resets",
                vec![seen(0, 500), seen(99, 200), seen(100, 500)],
                1,
                Verdict::Unchanged,
            ),
            (
                "count without span",
                vec![seen(0, 500); 50],
                50,
                Verdict::Unchanged,
            ),
            (
                "span without count",
                vec![seen(0, 500), seen(99, 500)],
                2,
                Verdict::Unchanged,
            ),
            (
                "count and span",
                vec![seen(0, 500), seen(30, 500), seen(60, 500)],
                3,
                failures,
            ),
            (
                "a later success spares it",
                vec![seen(0, 500), seen(30, 500), seen(60, 500), seen(61, 200)],
                0,
                Verdict::Unchanged,
            ),
            ("410 at once", vec![seen(0, 410)], 1, gone),
        ];
        for (name, observations, count, verdict) in table {
            let (health, got) = Health::default().after(&observations, &POLICY);
            assert_eq!((health.fail_count, got), (count, verdict), "{name}");
        }
    }

    #[test]
    fn a_lost_worker_is_not_the_hooks_failure() {
        let lost = Observation {
            at: Utc.timestamp_opt(0, 0).unwrap(),
            outcome: Outcome::WorkerLost,
        };
        assert_eq!(
            Health::default().after([&lost], &POLICY).0,
            Health::default()
        );
    }

    #[test]
    fn a_clock_that_jumps_back_disables_nothing() {
        let observations = [seen(1_000, 500), seen(10, 500), seen(5, 500)];
        let (health, verdict) = Health::default().after(&observations, &POLICY);
        assert_eq!((health.fail_count, verdict), (3, Verdict::Unchanged));
    }

    proptest! {
        #[test]
        fn splitting_the_attempts_into_batches_changes_nothing(
            statuses in prop::collection::vec(prop::sample::select(vec![200u16, 500, 503]), 0..40),
            cut in 0usize..40,
        ) {
            let seen: Vec<_> = statuses.iter().enumerate().map(|(n, s)| seen(n as i64, *s)).collect();
            let cut = cut.min(seen.len());
            let (whole, _) = Health::default().after(&seen, &POLICY);
            let (first, _) = Health::default().after(&seen[..cut], &POLICY);
            let (second, _) = first.after(&seen[cut..], &POLICY);
            prop_assert_eq!(whole, second);
        }

        #[test]
        fn back_off_grows_to_its_bound(count in 0u32..200, id in any::<u128>()) {
            let health = Health { fail_count: count, ..Health::default() };
            let wait = health.back_off(HookId(Uuid::from_u128(id)), &POLICY);
            prop_assert_eq!(wait.is_some(), count >= 5);
            if let Some(wait) = wait {
                prop_assert!(wait <= POLICY.back_off_max);
                prop_assert!(wait >= Duration::from_millis(800));
            }
        }
    }
}
