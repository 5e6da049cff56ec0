//! How a hook does: its fail count, when it is backed off and when it is disabled.
//!
//! Several workers, and several batches of one worker, write at the same time, so an attempt
//! may be learned of after another that ended later. What counts is when they ended.

use crate::{DisabledReason, HookId, Outcome, Timestamp};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
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
    /// When the attempt ended that last set the fail count back.
    pub succeeded_at: Option<Timestamp>,
    /// Whether the hook is held back, and how.
    pub phase: Option<Phase>,
    /// While it is backed off: no probe before then.
    pub not_before: Option<Timestamp>,
    /// While it is backed off: probes that failed.
    pub probes: u32,
    /// When it was warned of, in this row of failures.
    pub warned_at: Option<Timestamp>,
}

/// How a hook is held back because of its failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// One probe at a time, with growing pauses; everything else waits.
    BackedOff,
    /// A probe was taken: the rest follows, 1, 2, 4, … at a time.
    Ramping,
}

/// When a hook is backed off and when it is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// From this many failures in a row the hook is backed off as a whole; [`Self::NEVER`] for
    /// one that is not.
    pub back_off_after: u32,
    /// The longest interval between two probes.
    pub back_off_max: Duration,
    /// The hook is disabled at this many failures in a row; [`Self::NEVER`] for one that is not …
    pub disable_after_failures: u32,
    /// … if they also span at least this time. Never one without the other: requests in
    /// flight together fail together.
    pub disable_after: Duration,
    /// The hook is disabled when a delivery has used up its attempts.
    pub disable_when_exhausted: bool,
}

impl HealthPolicy {
    /// More failures in a row than any hook has.
    pub const NEVER: u32 = u32::MAX;
}

/// One attempt's bearing on its hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When the attempt started.
    pub started_at: Timestamp,
    /// When it ended.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
    /// When its delivery is attempted again by its own schedule, if it is.
    pub retry_at: Option<Timestamp>,
    /// Whether it was the last attempt that the schedule of its delivery has.
    pub exhausted: bool,
}

/// What the observations mean for the hook's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Unchanged,
    /// It stays as it is, but is half of the way to being disabled: said once in a row of
    /// failures.
    Warn,
    /// It is to be disabled, if it is active.
    Disable(DisabledReason),
}

/// The first wait of a hook that is backed off, and the shortest.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// An attempt that seems to have ended longer before another than this did not: a clock was
/// set back.
const DISORDER_MAX: TimeDelta = TimeDelta::seconds(60);

impl Phase {
    /// The phase's name, as it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::BackedOff => "backed_off",
            Self::Ramping => "ramping",
        }
    }

    /// The phase of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::BackedOff, Self::Ramping]
            .into_iter()
            .find(|phase| phase.name() == name)
    }
}

impl Health {
    /// The health of `hook` after these attempts, in this order, and what it means for the
    /// status.
    ///
    /// Failures that are not the hook's ([`Outcome::is_hook_failure`]) change nothing. The
    /// verdict stands as soon as one attempt calls for it, unless a later one was accepted.
    /// An attempt that ended before one that is known already does not undo it.
    pub fn after<'a>(
        &self,
        hook: HookId,
        observations: impl IntoIterator<Item = &'a Observation>,
        policy: &HealthPolicy,
    ) -> (Self, Verdict) {
        let mut health = self.clone();
        let mut verdict = Verdict::Unchanged;
        for seen in observations {
            if seen.outcome.is_accepted() {
                health.succeeded(seen.at);
                verdict = Verdict::Unchanged;
            } else if seen.outcome.is_hook_failure() {
                if seen.outcome.is_gone() {
                    verdict = Verdict::Disable(DisabledReason::Gone);
                }
                if health
                    .succeeded_at
                    .is_some_and(|success| ended_before(seen.at, success))
                {
                    continue;
                }
                health.failed(hook, seen, policy);
                if matches!(verdict, Verdict::Disable(_)) {
                    continue;
                }
                if health.calls_for_disabling(seen, policy) {
                    verdict = Verdict::Disable(DisabledReason::Failures);
                } else if health.warned_at.is_none() && health.calls_for_warning(seen.at, policy) {
                    health.warned_at = Some(seen.at);
                    verdict = Verdict::Warn;
                }
            }
        }
        (health, verdict)
    }

    /// A success ends the row of failures that ended before it. One that finds nothing to end
    /// changes nothing at all: a healthy hook's row is never written.
    fn succeeded(&mut self, at: Timestamp) {
        if self.fail_count == 0 && self.phase != Some(Phase::BackedOff) {
            return;
        }
        let before_first = self.first_failure_at.is_some_and(|f| ended_before(at, f));
        let before_last = self.last_failure_at.is_some_and(|f| ended_before(at, f));
        if before_first {
            return;
        }
        self.succeeded_at = self.succeeded_at.max(Some(at));
        self.warned_at = None;
        if before_last {
            // How many of the failures came after it is not known: at least the last.
            self.fail_count = 1;
            self.first_failure_at = self.last_failure_at;
            return;
        }
        self.fail_count = 0;
        self.first_failure_at = None;
        self.last_failure_at = None;
        self.last_error = None;
        self.not_before = None;
        self.probes = 0;
        if self.phase == Some(Phase::BackedOff) {
            self.phase = Some(Phase::Ramping);
        }
    }

    fn failed(&mut self, hook: HookId, seen: &Observation, policy: &HealthPolicy) {
        self.fail_count = self.fail_count.saturating_add(1);
        self.first_failure_at.get_or_insert(seen.at);
        if self
            .last_failure_at
            .is_none_or(|last| !ended_before(seen.at, last))
        {
            self.last_failure_at = Some(seen.at);
            self.last_error = Some(seen.outcome.to_string());
        }
        let throttled = seen.outcome.is_throttle();
        let held = self.phase == Some(Phase::BackedOff);
        // What was on its way when the hook was backed off is no probe.
        let probe = held && self.not_before.is_none_or(|wait| seen.started_at >= wait);
        if held && policy.back_off_after == HealthPolicy::NEVER {
            // It was only to begin with a probe; from here on its deliveries wait by themselves.
            self.phase = None;
            self.not_before = None;
            self.probes = 0;
            return;
        }
        if probe {
            self.probes = self.probes.saturating_add(1);
        }
        if !held && (throttled || self.fail_count >= policy.back_off_after) {
            self.phase = Some(Phase::BackedOff);
            self.probes = 0;
            self.not_before = Some(self.quiet_until(hook, seen, policy));
        } else if probe || (held && throttled) {
            let until = self.quiet_until(hook, seen, policy);
            self.not_before = self.not_before.max(Some(until));
        }
    }

    /// Until when the hook as a whole is left alone after this failure: as long as the receiver
    /// asks for, if it asks; else by the number of probes that failed. One that only says that
    /// it is busy is left alone no longer than the delivery itself waits.
    fn quiet_until(&self, hook: HookId, seen: &Observation, policy: &HealthPolicy) -> Timestamp {
        let plain = back_off(hook, self.probes, policy);
        if !seen.outcome.is_throttle() {
            return seen.at + plain;
        }
        let shortest = FIRST_WAIT.min(policy.back_off_max);
        let asked = seen.outcome.retry_after().map(|asked| asked.max(shortest));
        let until = seen.at + asked.unwrap_or(plain);
        seen.retry_at.map_or(until, |own| until.min(own))
    }

    fn calls_for_disabling(&self, seen: &Observation, policy: &HealthPolicy) -> bool {
        let fails = self.fail_count >= policy.disable_after_failures
            && self.failing_for(seen.at) >= policy.disable_after;
        fails || (policy.disable_when_exhausted && seen.exhausted)
    }

    /// Half of the count and half of the span: never one without the other either.
    fn calls_for_warning(&self, at: Timestamp, policy: &HealthPolicy) -> bool {
        self.fail_count >= policy.disable_after_failures.div_ceil(2)
            && self.failing_for(at) >= policy.disable_after / 2
    }

    fn failing_for(&self, at: Timestamp) -> Duration {
        let first = self.first_failure_at.unwrap_or(at);
        (at - first).to_std().unwrap_or_default()
    }
}

/// How long a hook is left alone after so many probes that failed: 1 s, doubling with each of
/// them up to `back_off_max`, shortened by up to a fifth so that hooks do not probe in step.
pub fn back_off(hook: HookId, probes: u32, policy: &HealthPolicy) -> Duration {
    let plain = FIRST_WAIT
        .saturating_mul(1u32 << probes.min(31))
        .min(policy.back_off_max);
    let seed = hook.0.as_u128() ^ (u128::from(probes).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let jitter = (seed % 1_000) as f64 / 1_000.0;
    let jittered = plain.mul_f64(1.0 - 0.2 * jitter);
    // To the millisecond: a moment that is stored and read again is still the same.
    Duration::from_millis(jittered.as_millis() as u64)
}

/// Whether an attempt that ended at `at` ended before one that ended at `other`.
fn ended_before(at: Timestamp, other: Timestamp) -> bool {
    at < other && other - at <= DISORDER_MAX
}

#[cfg(test)]
mod tests;
