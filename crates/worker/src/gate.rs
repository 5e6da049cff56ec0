//! How fast the one worker that owns a gated hook starts its deliveries.
//!
//! A gate decides what may be leased: nothing is leased that could not start within a moment,
//! so that what waits for a token or for a probe's time holds neither a lease nor a sender.

use postrider_core::{Bucket, Hook, Outcome, Phase, Timestamp};
use postrider_store::HookPhase;

/// How an attempt ended, for the pace of its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The receiver took the delivery.
    Accepted,
    /// It answered and did not.
    Refused,
    /// It answered that it is busy.
    Throttled,
    /// It did not answer.
    Silent,
    /// Nothing was sent.
    Unsent,
}

impl Ended {
    /// What the outcome says.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Accepted { .. } => Self::Accepted,
            Outcome::Refused { .. } if outcome.is_throttled() => Self::Throttled,
            Outcome::Refused { .. } => Self::Refused,
            Outcome::TimedOut | Outcome::Unreachable { .. } | Outcome::Blocked { .. } => {
                Self::Silent
            }
            Outcome::WorkerLost => Self::Unsent,
        }
    }

    /// Whether the receiver showed that it is there.
    pub(crate) fn is_answer(self) -> bool {
        matches!(self, Self::Accepted | Self::Refused | Self::Throttled)
    }
}

/// The pace of one hook that this worker owns.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Until when this worker is the owner.
    pub(crate) until: Timestamp,
    /// The version of the hook that this gate follows.
    version: i64,
    phase: Option<Phase>,
    not_before: Option<Timestamp>,
    /// The cap that holds when the hook is not held back.
    cap: u32,
    bucket: Option<Bucket>,
    ramp: Ramp,
    /// Attempts that have ended and are not recorded yet.
    unsettled: u32,
}

/// How many may be in flight while the hook gets its deliveries again.
#[derive(Debug)]
struct Ramp {
    size: u32,
    /// Successes of this round.
    taken: u32,
}

const FIRST_ROUND: Ramp = Ramp { size: 1, taken: 0 };

impl Gate {
    /// The gate of a hook that has just become this worker's.
    pub(crate) fn new(
        hook: &Hook,
        per_hook: u32,
        until: Timestamp,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        Self {
            until,
            version: hook.version,
            phase: hook.phase,
            not_before,
            cap: hook.settings.in_flight.unwrap_or(per_hook),
            bucket: hook.settings.rate.map(|rate| Bucket::new(rate, now)),
            ramp: FIRST_ROUND,
            unsettled: 0,
        }
    }

    /// The ownership was renewed. What the database says of the time of a probe may be older
    /// than what was settled since.
    pub(crate) fn renew(&mut self, until: Timestamp, not_before: Option<Timestamp>) {
        self.until = until;
        if self.phase == Some(Phase::BackedOff) {
            self.not_before = self.not_before.max(not_before);
        }
    }

    /// The hook as it is now; `false` when the gate must be made anew, because it cannot know
    /// when the hook may be probed.
    pub(crate) fn follow(&mut self, hook: &Hook, per_hook: u32, now: Timestamp) -> bool {
        if hook.version <= self.version {
            return true;
        }
        if hook.phase == Some(Phase::BackedOff) {
            return false;
        }
        self.version = hook.version;
        self.enter(hook.phase);
        self.cap = hook.settings.in_flight.unwrap_or(per_hook);
        let same = self.bucket.as_ref().map(Bucket::rate) == hook.settings.rate;
        if !same {
            self.bucket = hook.settings.rate.map(|rate| Bucket::new(rate, now));
        }
        true
    }

    fn enter(&mut self, phase: Option<Phase>) {
        if phase != self.phase {
            self.phase = phase;
            self.ramp = FIRST_ROUND;
            self.not_before = None;
        }
    }

    /// Whether the hook gets one probe at a time.
    pub(crate) fn is_backed_off(&self) -> bool {
        self.phase == Some(Phase::BackedOff)
    }

    /// How many may be in flight.
    pub(crate) fn limit(&self) -> u32 {
        match self.phase {
            Some(Phase::BackedOff) => 1,
            Some(Phase::Ramping) => self.ramp.size.min(self.cap),
            None => self.cap,
        }
    }

    /// How many more may be leased, with so many queued or in flight and this window.
    pub(crate) fn capacity(&mut self, held: u32, window: u32, now: Timestamp) -> u32 {
        if self.until <= now {
            return 0;
        }
        let free = self.limit().saturating_sub(held);
        let capacity = match self.phase {
            Some(Phase::BackedOff) => {
                let waits = self.unsettled > 0 || self.not_before.is_some_and(|at| at > now);
                if waits { 0 } else { free }
            }
            Some(Phase::Ramping) => free,
            None => window.max(2 * self.cap).saturating_sub(held),
        };
        match &mut self.bucket {
            Some(bucket) => capacity.min(free).min(bucket.tokens(now)),
            None => capacity,
        }
    }

    /// A delivery was leased, which takes a token.
    pub(crate) fn leased(&mut self) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take();
        }
    }

    /// An attempt has ended. While the hook ramps up, each round that succeeds doubles what may
    /// be in flight, and a failure halves it.
    pub(crate) fn ended(&mut self, ended: Ended) {
        if ended == Ended::Unsent {
            return;
        }
        self.unsettled += 1;
        if self.phase != Some(Phase::Ramping) {
            return;
        }
        let Ramp { size, taken } = &mut self.ramp;
        if ended == Ended::Accepted {
            *taken += 1;
            if *taken >= *size {
                *size = size.saturating_mul(2);
                *taken = 0;
            }
        } else {
            *size = (*size / 2).max(1);
            *taken = 0;
        }
    }

    /// So many attempts were recorded, and the hook stands so.
    pub(crate) fn settled(&mut self, attempts: u32, standing: Option<&HookPhase>) {
        self.unsettled = self.unsettled.saturating_sub(attempts);
        let Some(standing) = standing else { return };
        if let Some(version) = standing.version
            && version > self.version
        {
            self.version = version;
            self.enter(standing.phase);
        }
        if self.is_backed_off() {
            self.not_before = self.not_before.max(standing.not_before);
        }
    }

    /// Whether the hook takes as much again as it ever may.
    pub(crate) fn has_ramped_up(&self) -> bool {
        self.phase == Some(Phase::Ramping) && self.ramp.size >= self.cap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, now};
    use chrono::TimeDelta;
    use postrider_core::HookId;
    use uuid::Uuid;

    fn hook(phase: Option<Phase>) -> Hook {
        let mut hook = testing::hook(HookId(Uuid::from_u128(1)), "http://127.0.0.1:1/");
        hook.phase = phase;
        hook
    }

    fn gate(hook: &Hook) -> Gate {
        Gate::new(hook, 64, now() + TimeDelta::seconds(8), None, now())
    }

    fn seconds(seconds: i64) -> Timestamp {
        now() + TimeDelta::seconds(seconds)
    }

    #[test]
    fn a_hook_that_is_backed_off_gets_one_probe_when_its_time_has_come() {
        let mut gate = gate(&hook(Some(Phase::BackedOff)));
        gate.renew(seconds(8), Some(seconds(2)));
        assert_eq!(gate.capacity(0, 128, seconds(1)), 0);
        assert_eq!(gate.capacity(0, 128, seconds(2)), 1);
        assert_eq!(gate.capacity(1, 128, seconds(2)), 0, "one at a time");
        gate.ended(Ended::Refused);
        assert_eq!(
            gate.capacity(0, 128, seconds(2)),
            0,
            "not before it is recorded"
        );
        let standing = HookPhase {
            hook: HookId(Uuid::from_u128(1)),
            phase: Some(Phase::BackedOff),
            not_before: Some(seconds(4)),
            version: None,
        };
        gate.settled(1, Some(&standing));
        assert_eq!(gate.capacity(0, 128, seconds(3)), 0);
        // The database was asked before the settlement, and answers late.
        gate.renew(seconds(8), Some(seconds(2)));
        assert_eq!(gate.capacity(0, 128, seconds(3)), 0);
        assert_eq!(gate.capacity(0, 128, seconds(4)), 1);
        assert_eq!(gate.capacity(0, 128, seconds(8)), 0, "it is another one's");
    }

    #[test]
    fn a_hook_ramps_up_round_by_round() {
        let mut gate = gate(&hook(Some(Phase::Ramping)));
        let mut limits = Vec::new();
        while !gate.has_ramped_up() {
            let limit = gate.limit();
            limits.push(limit);
            for _ in 0..limit {
                gate.ended(Ended::Accepted);
            }
        }
        assert_eq!(limits, [1, 2, 4, 8, 16, 32]);
        gate.ended(Ended::Silent);
        assert_eq!(gate.limit(), 32);
    }

    #[test]
    fn a_recovery_that_was_settled_is_not_undone_by_an_older_hook() {
        let mut old = hook(Some(Phase::BackedOff));
        let mut gate = gate(&old);
        let standing = HookPhase {
            hook: old.id,
            phase: Some(Phase::Ramping),
            not_before: None,
            version: Some(9),
        };
        gate.settled(1, Some(&standing));
        assert!(gate.follow(&old, 64, now()));
        assert!(!gate.is_backed_off());
        old.version = 10;
        assert!(!gate.follow(&old, 64, now()), "when to probe is not known");
    }

    #[test]
    fn what_is_leased_has_its_token_and_its_place() {
        let mut limited = hook(None);
        limited.settings.rate = "20/s".parse().ok();
        limited.settings.in_flight = Some(8);
        let mut gate = gate(&limited);
        assert_eq!(gate.capacity(0, 128, now()), 1);
        gate.leased();
        assert_eq!(gate.capacity(1, 128, now()), 0);
        assert_eq!(gate.capacity(1, 128, seconds(1)), 7, "20 tokens, 7 places");
        assert_eq!(gate.limit(), 8);
        limited.version += 1;
        limited.settings.rate = None;
        assert!(gate.follow(&limited, 64, now()));
        assert_eq!(
            gate.capacity(1, 0, seconds(1)),
            15,
            "some may wait for a place"
        );
    }
}
