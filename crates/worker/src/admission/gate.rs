//! The gate of a hook: how fast the one worker that owns it starts its deliveries.
//!
//! A gate limits what may be leased, so that a delivery that must wait for a token or for the
//! time of a probe occupies neither a lease nor a sender.

use super::attempt_end::AttemptEnd;
use postrider_core::{Bucket, Hook, Phase, Timestamp};
use postrider_store::HookPhase;

/// The gate of one hook that this worker owns.
#[derive(Debug)]
pub(super) struct Gate {
    owned_until: Timestamp,
    /// The version of the hook that this gate follows.
    version: i64,
    /// `None` when the hook is only limited, not held back.
    phase: Option<Phase>,
    /// While the hook is backed off: no probe before then.
    not_before: Option<Timestamp>,
    /// Deliveries in flight at most when the hook is not held back.
    cap: u32,
    bucket: Option<Bucket>,
    ramp: Ramp,
    /// Attempts that have ended and are not recorded yet.
    unrecorded: u32,
}

/// The limit while a hook recovers. It changes once in a round of as many requests.
#[derive(Debug)]
struct Ramp {
    /// Deliveries in flight at most.
    size: u32,
    /// Requests of this round that have ended, and those of them that were served.
    ended: u32,
    served: u32,
}

const FIRST_ROUND: Ramp = Ramp {
    size: 1,
    ended: 0,
    served: 0,
};

impl Ramp {
    /// A request has ended. A round in which more than one of ten was served doubles the limit:
    /// what backs a hook off again is less. Any other round halves it.
    fn ended(&mut self, served: bool) {
        self.ended += 1;
        self.served += u32::from(served);
        if self.ended >= self.size {
            let size = match self.served * 10 > self.ended {
                true => self.size.saturating_mul(2),
                false => (self.size / 2).max(1),
            };
            *self = Self {
                size,
                ..FIRST_ROUND
            };
        }
    }
}

impl Gate {
    /// The gate of a hook that this worker has just come to own. `per_hook` is the cap of a hook
    /// that sets none.
    pub(super) fn new(
        hook: &Hook,
        per_hook: u32,
        owned_until: Timestamp,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        Self {
            owned_until,
            version: hook.version,
            phase: hook.phase,
            not_before,
            cap: hook.settings.in_flight.unwrap_or(per_hook),
            bucket: hook.settings.rate.map(|rate| Bucket::new(rate, now)),
            ramp: FIRST_ROUND,
            unrecorded: 0,
        }
    }

    /// Whether this worker still owns the hook.
    pub(super) fn is_owned(&self, now: Timestamp) -> bool {
        self.owned_until > now
    }

    pub(super) fn owned_until(&self) -> Timestamp {
        self.owned_until
    }

    /// The ownership was renewed. The database's answer may be older than an attempt that was
    /// recorded since, so the time of the next probe only moves forward.
    pub(super) fn renew(&mut self, owned_until: Timestamp, not_before: Option<Timestamp>) {
        self.owned_until = owned_until;
        if self.phase == Some(Phase::BackedOff) {
            self.not_before = self.not_before.max(not_before);
        }
    }

    /// Takes over a newer version of the hook. Returns `false` when the hook was backed off by
    /// another worker: only the database knows the time of the next probe, so the gate must be
    /// made anew.
    pub(super) fn follow(&mut self, hook: &Hook, per_hook: u32, now: Timestamp) -> bool {
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
    pub(super) fn is_backed_off(&self) -> bool {
        self.phase == Some(Phase::BackedOff)
    }

    /// Deliveries in flight at most.
    pub(super) fn limit(&self) -> u32 {
        match self.phase {
            Some(Phase::BackedOff) => 1,
            Some(Phase::Ramping) => self.ramp.size.min(self.cap),
            None => self.cap,
        }
    }

    /// Deliveries that may be leased now, where `held` are queued or in flight and the hook has
    /// earned a window of `window`.
    pub(super) fn capacity(&mut self, held: u32, window: u32, now: Timestamp) -> u32 {
        if !self.is_owned(now) {
            return 0;
        }
        let free = self.limit().saturating_sub(held);
        let capacity = match self.phase {
            Some(Phase::BackedOff) => {
                let waits = self.unrecorded > 0 || self.not_before.is_some_and(|at| at > now);
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
    pub(super) fn leased(&mut self) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take();
        }
    }

    /// An attempt has ended.
    pub(super) fn ended(&mut self, end: AttemptEnd) {
        if matches!(end, AttemptEnd::LocalFault | AttemptEnd::Unsent) {
            return;
        }
        self.unrecorded += 1;
        if self.phase == Some(Phase::Ramping) {
            self.ramp.ended(end == AttemptEnd::Served);
        }
    }

    /// This many attempts were recorded, and the hook is now in this phase, if it is held back
    /// or was.
    pub(super) fn recorded(&mut self, attempts: u32, phase: Option<&HookPhase>) {
        self.unrecorded = self.unrecorded.saturating_sub(attempts);
        let Some(phase) = phase else { return };
        if let Some(version) = phase.version
            && version > self.version
        {
            self.version = version;
            self.enter(phase.phase);
        }
        if self.is_backed_off() {
            self.not_before = self.not_before.max(phase.not_before);
        }
    }

    /// Whether the ramp has reached the hook's cap.
    pub(super) fn has_ramped_up(&self) -> bool {
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
        gate.ended(AttemptEnd::Failed);
        assert_eq!(
            gate.capacity(0, 128, seconds(2)),
            0,
            "not before it is recorded"
        );
        let phase = HookPhase {
            hook: HookId(Uuid::from_u128(1)),
            phase: Some(Phase::BackedOff),
            not_before: Some(seconds(4)),
            version: None,
        };
        gate.recorded(1, Some(&phase));
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
                gate.ended(AttemptEnd::Served);
            }
        }
        assert_eq!(limits, [1, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn a_round_halves_the_limit_only_when_next_to_nothing_was_served() {
        let after_round = |served: u32| {
            let mut gate = gate(&hook(Some(Phase::Ramping)));
            gate.ramp.size = 32;
            for n in 0..32 {
                assert_eq!(gate.limit(), 32, "once in a round");
                gate.ended(match n < served {
                    true => AttemptEnd::Served,
                    false => AttemptEnd::Silent,
                });
            }
            gate.limit()
        };
        assert_eq!([0, 3].map(after_round), [16, 16]);
        assert_eq!([4, 16, 32].map(after_round), [64, 64, 64]);
        let mut gate = gate(&hook(Some(Phase::Ramping)));
        gate.ended(AttemptEnd::Failed);
        assert_eq!(gate.limit(), 1, "never less");
    }

    #[test]
    fn a_recovery_that_was_settled_is_not_undone_by_an_older_hook() {
        let mut old = hook(Some(Phase::BackedOff));
        let mut gate = gate(&old);
        let phase = HookPhase {
            hook: old.id,
            phase: Some(Phase::Ramping),
            not_before: None,
            version: Some(9),
        };
        gate.recorded(1, Some(&phase));
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
