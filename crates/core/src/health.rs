//! The health of a hook: its fail count, when it is backed off and when it is disabled.
//!
//! Two questions have two measures. *Is the receiver down?* is asked of the latest requests: a hook
//! is backed off when nine of ten were not served, whatever the events were. A receiver that
//! refuses some events, or fails every second time, is up. *Does anybody take care of it?* is asked
//! of the row of failures: a hook that has accepted nothing for long is disabled.
//!
//! Several workers, and several batches of one worker, settle at the same time, so attempts do not
//! arrive here in the order in which they ended. The order in which they ended decides.

use crate::{DisabledReason, HookId, Outcome, Phase, RecentRequests, Timestamp};
use chrono::TimeDelta;
use std::time::Duration;

/// What the latest attempts of a hook have shown. The default is a hook without failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Failed attempts in a row.
    pub fail_count: u32,
    /// When the first attempt of the row ended.
    pub first_failure_at: Option<Timestamp>,
    /// When the last attempt of the row ended.
    pub last_failure_at: Option<Timestamp>,
    /// How the last attempt of the row failed, as a sentence for people.
    pub last_error: Option<String>,
    /// When the attempt ended that last reset the fail count.
    pub succeeded_at: Option<Timestamp>,
    /// The latest requests since one was not served, as far as they were recorded.
    pub recent: RecentRequests,
    /// Whether and how the hook is held back; `None` for a hook without limits of this kind.
    pub phase: Option<Phase>,
    /// While the hook is backed off: the earliest time of the next probe.
    pub not_before: Option<Timestamp>,
    /// While the hook is backed off: the number of failed probes.
    pub probes: u32,
    /// When the hook was warned of; at most once in a row of failures.
    pub warned_at: Option<Timestamp>,
}

/// When a hook is backed off and when it is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Failures in a row from which the whole hook may be backed off, if as many requests are
    /// known and nine of ten of the latest were not served; [`Self::NEVER`] to never do so.
    pub back_off_after: u32,
    /// The longest pause between two probes.
    pub back_off_max: Duration,
    /// Failures in a row at which the hook is disabled; [`Self::NEVER`] to never do so.
    pub disable_after_failures: u32,
    /// The time that these failures must also span. One condition alone never disables: requests
    /// in flight at the same time fail at the same time.
    pub disable_after: Duration,
    /// Whether the hook is disabled when a delivery has used up its attempts.
    pub disable_when_exhausted: bool,
}

impl HealthPolicy {
    /// More failures in a row than any hook has.
    pub const NEVER: u32 = u32::MAX;
}

/// The part of an attempt that concerns the health of its hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When the attempt started: tells a probe from a request that was already in flight.
    pub started_at: Timestamp,
    /// When the attempt ended.
    pub at: Timestamp,
    /// The result of the attempt.
    pub outcome: Outcome,
    /// When the delivery is retried according to its own schedule; `None` when it is not.
    pub retry_at: Option<Timestamp>,
    /// Whether this was the last attempt of the delivery's schedule.
    pub exhausted: bool,
}

/// What the caller must do with the hook's status after a series of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthAction {
    /// Leave the status as it is.
    Nothing,
    /// Leave the status as it is and warn: the hook has reached half of the failures that disable
    /// it.
    Warn,
    /// Disable the hook if it is active.
    Disable(DisabledReason),
}

/// What one failure does to the phase of a hook.
enum PhaseChange {
    Unchanged,
    /// The hook is backed off from now on.
    BackOff,
    /// A probe failed: the next one waits longer.
    ProbeFailed,
    /// The receiver asked for a pause while the hook was already backed off.
    Postpone,
    /// The policy has no back-off: the hook was only to begin with one probe after it was enabled.
    /// From here on each delivery waits according to its own schedule.
    Release,
    /// The receiver served a probe, although it refused the event.
    RampUp,
}

/// The first and shortest pause of a hook that is backed off.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest plausible disorder of attempts. A larger difference comes from a clock that was set
/// back, and then the order of arrival counts.
const DISORDER_MAX: TimeDelta = TimeDelta::seconds(60);

/// Requests before a success that is longer ago than this say nothing about a receiver that
/// begins to fail now.
const RECENT_FOR: TimeDelta = TimeDelta::minutes(10);

impl Health {
    /// The health of `hook` after these attempts, and the action that follows for its status.
    ///
    /// Failures that the hook did not cause ([`Outcome::is_hook_failure`]) change nothing. An
    /// action that one attempt requires remains required, unless a later attempt succeeds. An
    /// attempt that ended before those already known does not undo their effect.
    pub fn after<'a>(
        &self,
        hook: HookId,
        observations: impl IntoIterator<Item = &'a Observation>,
        policy: &HealthPolicy,
    ) -> (Self, HealthAction) {
        let mut health = self.clone();
        let mut action = HealthAction::Nothing;
        for seen in observations {
            if seen.outcome.is_accepted() {
                health.record_success(seen.at);
                action = HealthAction::Nothing;
            } else if seen.outcome.is_hook_failure() {
                let is_stale = health
                    .succeeded_at
                    .is_some_and(|success| ended_before(seen.at, success));
                if !is_stale {
                    health.record_failure(hook, seen, policy);
                }
                action = health.action_after(seen, is_stale, action, policy);
                if action == HealthAction::Warn {
                    health.warned_at.get_or_insert(seen.at);
                }
            }
        }
        (health, action)
    }

    /// Ends the row of failures that ended before this success. Without such a row nothing
    /// changes, so that the row of a healthy hook is never written.
    fn record_success(&mut self, at: Timestamp) {
        let before_first = self.first_failure_at.is_some_and(|f| ended_before(at, f));
        let before_last = self.last_failure_at.is_some_and(|f| ended_before(at, f));
        if before_first {
            return;
        }
        self.record_served();
        if self.fail_count == 0 && self.phase != Some(Phase::BackedOff) {
            return;
        }
        self.succeeded_at = self.succeeded_at.max(Some(at));
        self.warned_at = None;
        if before_last {
            // The number of failures after this success is unknown; the last one is certain.
            self.fail_count = 1;
            self.first_failure_at = self.last_failure_at;
            return;
        }
        self.fail_count = 0;
        self.first_failure_at = None;
        self.last_failure_at = None;
        self.last_error = None;
        if self.phase == Some(Phase::BackedOff) {
            self.ramp_up();
        }
    }

    /// Remembers a request that was served. Before the first that was not there is nothing to
    /// compare it with, so that a hook that always serves has no row.
    fn record_served(&mut self) {
        if !self.recent.is_empty() {
            self.recent.record(true);
        }
    }

    /// Ends a back-off: the requests before it say nothing any more.
    fn ramp_up(&mut self) {
        self.phase = Some(Phase::Ramping);
        self.not_before = None;
        self.probes = 0;
        self.recent = RecentRequests::default();
        self.recent.record(true);
    }

    fn record_failure(&mut self, hook: HookId, seen: &Observation, policy: &HealthPolicy) {
        match seen.outcome.is_served() {
            true => self.record_served(),
            false => self.record_unserved(seen.at),
        }
        self.count_failure(seen);
        match self.phase_change(seen, policy) {
            PhaseChange::Unchanged => {}
            PhaseChange::BackOff => {
                self.phase = Some(Phase::BackedOff);
                self.probes = 0;
                self.not_before = Some(self.next_probe_at(hook, seen, policy));
            }
            PhaseChange::ProbeFailed => {
                self.probes = self.probes.saturating_add(1);
                self.postpone_probe(hook, seen, policy);
            }
            PhaseChange::Postpone => self.postpone_probe(hook, seen, policy),
            PhaseChange::Release => {
                self.phase = None;
                self.not_before = None;
                self.probes = 0;
            }
            PhaseChange::RampUp => self.ramp_up(),
        }
    }

    /// Remembers a request that was not served.
    fn record_unserved(&mut self, at: Timestamp) {
        let succeeded_long_ago = self.succeeded_at.is_some_and(|s| at - s > RECENT_FOR);
        if self.fail_count == 0 && succeeded_long_ago {
            self.recent = RecentRequests::default();
        }
        self.recent.record(false);
    }

    fn count_failure(&mut self, seen: &Observation) {
        self.fail_count = self.fail_count.saturating_add(1);
        self.first_failure_at.get_or_insert(seen.at);
        if self
            .last_failure_at
            .is_none_or(|last| !ended_before(seen.at, last))
        {
            self.last_failure_at = Some(seen.at);
            self.last_error = Some(seen.outcome.to_string());
        }
    }

    /// What a failure, already counted, does to the phase.
    fn phase_change(&self, seen: &Observation, policy: &HealthPolicy) -> PhaseChange {
        let throttled = seen.outcome.is_throttled();
        if self.phase != Some(Phase::BackedOff) {
            return match throttled || self.is_out(policy) {
                true => PhaseChange::BackOff,
                false => PhaseChange::Unchanged,
            };
        }
        let is_probe = self.is_probe(seen);
        if is_probe && seen.outcome.is_served() {
            return PhaseChange::RampUp;
        }
        if policy.back_off_after == HealthPolicy::NEVER {
            return PhaseChange::Release;
        }
        match (is_probe, throttled) {
            (true, _) => PhaseChange::ProbeFailed,
            (false, true) => PhaseChange::Postpone,
            (false, false) => PhaseChange::Unchanged,
        }
    }

    /// Whether the receiver serves nothing, or next to nothing.
    fn is_out(&self, policy: &HealthPolicy) -> bool {
        self.fail_count >= policy.back_off_after
            && self.recent.shows_an_outage(policy.back_off_after)
    }

    /// Whether an attempt at a hook that is backed off was its probe. A request that was in
    /// flight when the hook was backed off was not.
    fn is_probe(&self, seen: &Observation) -> bool {
        self.not_before.is_none_or(|at| seen.started_at >= at)
    }

    fn postpone_probe(&mut self, hook: HookId, seen: &Observation, policy: &HealthPolicy) {
        let next = self.next_probe_at(hook, seen, policy);
        self.not_before = self.not_before.max(Some(next));
    }

    /// When the hook may be probed after this failure: after the pause that the receiver asks for,
    /// if it asks; otherwise after a pause that grows with the failed probes. A throttled hook
    /// waits no longer than the delivery itself.
    fn next_probe_at(&self, hook: HookId, seen: &Observation, policy: &HealthPolicy) -> Timestamp {
        let growing = back_off(hook, self.probes, policy);
        if !seen.outcome.is_throttled() {
            return seen.at + growing;
        }
        let shortest = FIRST_WAIT.min(policy.back_off_max);
        let asked = seen.outcome.retry_after().map(|asked| asked.max(shortest));
        let until = seen.at + asked.unwrap_or(growing);
        seen.retry_at.map_or(until, |own| until.min(own))
    }

    /// The action after a failure, where `before` is the action required so far. A stale failure
    /// ended before a success that is already known.
    fn action_after(
        &self,
        seen: &Observation,
        is_stale: bool,
        before: HealthAction,
        policy: &HealthPolicy,
    ) -> HealthAction {
        if seen.outcome.is_gone() {
            return HealthAction::Disable(DisabledReason::Gone);
        }
        if is_stale || matches!(before, HealthAction::Disable(_)) {
            return before;
        }
        if self.must_be_disabled(seen, policy) {
            return HealthAction::Disable(DisabledReason::Failures);
        }
        match self.must_be_warned_of(seen.at, policy) {
            true => HealthAction::Warn,
            false => before,
        }
    }

    fn must_be_disabled(&self, seen: &Observation, policy: &HealthPolicy) -> bool {
        let fails = self.fail_count >= policy.disable_after_failures
            && self.failing_for(seen.at) >= policy.disable_after;
        fails || (policy.disable_when_exhausted && seen.exhausted)
    }

    /// At half of the count and half of the time, once in a row of failures.
    fn must_be_warned_of(&self, at: Timestamp, policy: &HealthPolicy) -> bool {
        self.warned_at.is_none()
            && self.fail_count >= policy.disable_after_failures.div_ceil(2)
            && self.failing_for(at) >= policy.disable_after / 2
    }

    fn failing_for(&self, at: Timestamp) -> Duration {
        let first = self.first_failure_at.unwrap_or(at);
        (at - first).to_std().unwrap_or_default()
    }
}

/// The pause of a hook after `probes` failed probes: 1 s, doubled by each of them up to
/// `back_off_max`, then shortened by up to a fifth so that hooks do not probe in step.
pub fn back_off(hook: HookId, probes: u32, policy: &HealthPolicy) -> Duration {
    let plain = FIRST_WAIT
        .saturating_mul(1u32 << probes.min(31))
        .min(policy.back_off_max);
    let seed = hook.0.as_u128() ^ (u128::from(probes).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let jitter = (seed % 1_000) as f64 / 1_000.0;
    let jittered = plain.mul_f64(1.0 - 0.2 * jitter);
    // Whole milliseconds, so that the time is the same after it was stored and read.
    Duration::from_millis(jittered.as_millis() as u64)
}

/// Whether an attempt that ended at `at` ended before one that ended at `other`.
fn ended_before(at: Timestamp, other: Timestamp) -> bool {
    at < other && other - at <= DISORDER_MAX
}

#[cfg(test)]
mod tests;
