//! The admission of one hook: what is queued for it, and whether it may start.

use super::attempt_end::AttemptEnd;
use super::blocked::Blocked;
use super::gate::Gate;
use super::hook_queue::HookQueue;
use super::record::RecentRecord;
use super::window::LeaseWindow;
use crate::tuning::AdmissionTuning;
use postrider_core::{Hook, HookId, HookStatus, Phase, Timestamp};
use postrider_store::{HookPhase, HookRequest};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The admission of one hook.
#[derive(Debug)]
pub(super) struct HookAdmission {
    /// The account of the hook.
    pub(super) account: Arc<str>,
    pub(super) waiting: HookQueue,
    pub(super) in_flight: u32,
    pub(super) turn: Turn,
    /// The places of this hook count as those of slow hooks.
    pub(super) slow: bool,
    /// Set while this worker owns the hook.
    pub(super) gate: Option<Gate>,
    pub(super) window: LeaseWindow,
    pub(super) answered: Option<RecentAnswer>,
    /// The cap of a hook without a gate.
    per_hook: u32,
    record: RecentRecord,
    /// Nothing starts before the hook cache has this version of the hook.
    outdated_before: Option<i64>,
    /// This worker cannot send to the hook as it is in this version.
    unsendable: Option<i64>,
    /// When an attempt last ended, or the first of those in flight was started.
    moved_at: Instant,
    /// Requests started since the receiver last answered.
    started_since_answer: u32,
    /// The latest request could not be tried, by a local fault: the next one starts at this time,
    /// alone.
    faulted_until: Option<Instant>,
}

/// Where a hook stands in the order in which hooks start deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nowhere: it is blocked.
    None,
    /// In the queue of turns, once.
    Next,
    /// Set aside until slow hooks hold fewer places.
    Parked,
}

/// The latest answer of a hook.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentAnswer {
    at: Instant,
    /// Whether the hook was proven then (`record.rs`).
    proven: bool,
    /// How long its requests held a place: the mean, in which older ones fade.
    held: Duration,
}

/// The attempts of one hook that were recorded together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordedAttempts {
    pub(crate) attempts: u32,
    /// How many of them were not served.
    pub(crate) unserved: u32,
}

impl RecentAnswer {
    /// Whether the answer still says something about the hook.
    pub(super) fn is_recent(&self, now: Instant, tuning: &AdmissionTuning) -> bool {
        now.saturating_duration_since(self.at) <= tuning.trusted_for
    }

    /// Whether the hook served requests, and quickly.
    pub(super) fn is_quick(&self, now: Instant, tuning: &AdmissionTuning) -> bool {
        self.proven && self.held <= tuning.slow_after && self.is_recent(now, tuning)
    }
}

impl HookAdmission {
    /// A hook with nothing queued or in flight; `answered` is its latest answer, if remembered.
    pub(super) fn new(
        account: Arc<str>,
        per_hook: u32,
        answered: Option<RecentAnswer>,
        now: Instant,
        tuning: &AdmissionTuning,
    ) -> Self {
        let answered = answered.filter(|answer| answer.is_recent(now, tuning));
        Self {
            account,
            waiting: HookQueue::default(),
            in_flight: 0,
            turn: Turn::None,
            slow: false,
            gate: None,
            window: LeaseWindow::new(per_hook),
            answered,
            per_hook,
            record: RecentRecord::new(answered.is_some_and(|answer| answer.proven)),
            outdated_before: None,
            unsendable: None,
            moved_at: now,
            started_since_answer: 0,
            faulted_until: None,
        }
    }

    /// Resets a hook with nothing queued or in flight. `gate`, `unsendable` and `answered` stay.
    pub(super) fn reset(&mut self, now: Instant, tuning: &AdmissionTuning) {
        let account = self.account.clone();
        let fresh = Self::new(account, self.per_hook, self.answered, now, tuning);
        let (gate, unsendable) = (self.gate.take(), self.unsendable);
        *self = Self {
            gate,
            unsendable,
            ..fresh
        };
        self.window = LeaseWindow::new(self.cap());
    }

    // ---- what may start

    /// Deliveries in flight at most.
    pub(super) fn cap(&self) -> u32 {
        self.gate.as_ref().map_or(self.per_hook, Gate::limit)
    }

    /// Deliveries of the hook that are queued or in flight.
    pub(super) fn held(&self) -> u32 {
        self.waiting.len() + self.in_flight
    }

    /// Whether the next delivery may start as far as this hook alone is concerned.
    pub(super) fn may_start(&self, now: Instant, tuning: &AdmissionTuning) -> Result<(), Blocked> {
        if self.waiting.is_empty() {
            return Err(Blocked::NothingQueued);
        }
        if let Some(version) = self.outdated_before {
            return Err(Blocked::OutdatedHook { version });
        }
        if let Some(at) = self.faulted_until
            && (self.in_flight > 0 || now < at)
        {
            return Err(Blocked::LocalFault);
        }
        let silent_at = self.moved_at + tuning.silent_after;
        self.record
            .may_start(self.in_flight, self.cap(), silent_at, now)
    }

    /// By how much one more start raises the number of requests to slow hooks: 0 if the hook is
    /// not slow even then; all of its requests in flight if this start makes it slow.
    pub(super) fn slow_places(&self, now: Instant, tuning: &AdmissionTuning) -> u32 {
        let answered_recently = || {
            let answer = self.answered.as_ref();
            answer.is_some_and(|answer| answer.is_recent(now, tuning))
        };
        let backed_off = || self.gate.as_ref().is_some_and(Gate::is_backed_off);
        if self.slow {
            1
        } else if self.started_since_answer + 1 >= tuning.slow_after_started
            || backed_off()
            || !answered_recently()
            || self.holds_long(tuning)
        {
            self.in_flight + 1
        } else {
            0
        }
    }

    /// Whether its requests hold a place for long, although it answers.
    pub(super) fn holds_long(&self, tuning: &AdmissionTuning) -> bool {
        self.answered
            .is_some_and(|answer| answer.held > tuning.slow_after)
    }

    /// Whether nothing is known of the hook, and nothing was started yet.
    pub(super) fn is_untried(&self) -> bool {
        self.answered.is_none() && self.started_since_answer == 0
    }

    /// Whether it lately served requests, and quickly: what is queued for it leaves soon.
    pub(super) fn is_quick(&self, now: Instant, tuning: &AdmissionTuning) -> bool {
        self.record.is_proven()
            && !self.is_unanswered(now, tuning)
            && !self.holds_long(tuning)
            && self.faulted_until.is_none()
    }

    /// For how long the requests in flight have all gone unanswered.
    fn quiet_for(&self, now: Instant) -> Duration {
        match self.in_flight {
            0 => Duration::ZERO,
            _ => now.saturating_duration_since(self.moved_at),
        }
    }

    pub(super) fn is_unanswered(&self, now: Instant, tuning: &AdmissionTuning) -> bool {
        self.quiet_for(now) > tuning.slow_after
    }

    /// Whether what is in flight occupies none of our processors.
    pub(super) fn waits_remotely(&self, now: Instant, tuning: &AdmissionTuning) -> bool {
        self.quiet_for(now) > tuning.remote_after
    }

    /// Whether nothing of it can start soon: all its places are taken and none becomes free, or it
    /// waits for the slow share.
    pub(super) fn is_stalled(&self, now: Instant, tuning: &AdmissionTuning) -> bool {
        let is_full = self.in_flight >= self.cap();
        self.turn == Turn::Parked || (is_full && self.quiet_for(now) > tuning.stalled_after)
    }

    /// Deliveries of the hook that may be here.
    pub(super) fn window_size(&self) -> u32 {
        self.window.size(self.cap())
    }

    /// Deliveries that may be leased now.
    pub(super) fn capacity(&mut self, now: Timestamp, tuning: &AdmissionTuning) -> u32 {
        let (held, earned) = (self.held(), self.window.earned());
        let left = match &mut self.gate {
            Some(gate) => gate.capacity(held, earned, now),
            None => self.window_size().saturating_sub(held),
        };
        self.window.offer(left);
        match (self.unsendable, self.turn) {
            // A lease would run out in the queue.
            (Some(_), _) | (_, Turn::Parked) => 0,
            _ if self.faulted_until.is_some() => 1_u32.saturating_sub(held),
            _ if self.slow || self.holds_long(tuning) => left.min(self.cap().saturating_sub(held)),
            _ => match self.record.start_limit() {
                Some(limit) => left.min(limit.saturating_mul(2).saturating_sub(held)),
                None => left,
            },
        }
    }

    /// Whether the hook has no state worth keeping, apart from its gate.
    pub(super) fn is_idle(&self) -> bool {
        self.held() == 0
            && self.window.earned() == 0
            && self.record.is_recorded()
            && self.outdated_before.is_none()
            && self.faulted_until.is_none()
            && self.turn == Turn::None
    }

    /// Whether the hook must be kept even when it is idle.
    pub(super) fn is_kept(&self) -> bool {
        self.gate.is_some() || self.unsendable.is_some()
    }

    /// Whether nothing of the hook is here, and nothing keeps it from starting.
    pub(super) fn is_empty(&self) -> bool {
        self.held() == 0 && self.outdated_before.is_none()
    }

    // ---- what happens to it

    /// Queues a delivery of this hook, which is backed off after this many failures in a row.
    pub(super) fn push(&mut self, delivery: HookRequest, back_off_after: u32, now: Instant) {
        if let Some(gate) = &mut self.gate {
            gate.leased();
        }
        self.record.back_off_after(back_off_after);
        self.waiting.push(delivery);
        self.window.queued(now);
    }

    /// Takes the next delivery, in flight from here on.
    pub(super) fn start(&mut self, now: Instant) -> Option<HookRequest> {
        let delivery = self.waiting.pop()?;
        if self.in_flight == 0 {
            self.moved_at = now;
        }
        self.in_flight += 1;
        self.started_since_answer = self.started_since_answer.saturating_add(1);
        Some(delivery)
    }

    /// An attempt has ended, which held a place for as long as `held`.
    pub(super) fn ended(
        &mut self,
        end: AttemptEnd,
        held: Duration,
        now: Instant,
        tuning: &AdmissionTuning,
    ) {
        // The window is measured by the cap that held until now.
        let cap = self.cap();
        if let Some(gate) = &mut self.gate {
            gate.ended(end);
        }
        self.in_flight -= 1;
        self.moved_at = now;
        self.faulted_until = (end == AttemptEnd::LocalFault).then(|| now + tuning.faulted_for);
        self.record.ended(end);
        match self.record.is_proven() && end != AttemptEnd::Throttled {
            true => self.window.ended(self.held(), cap, now, tuning),
            false => self.window.fall_back(),
        }
        if end.is_answer() {
            self.started_since_answer = 0;
            let before = self.answered.map_or(held, |answer| answer.held);
            self.answered = Some(RecentAnswer {
                at: now,
                proven: self.record.is_proven(),
                held: (before * 3 + held) / 4,
            });
        }
    }

    /// Attempts were recorded. `phase` is the hook's phase now, if it has one or has just lost it.
    pub(super) fn recorded(&mut self, recorded: RecordedAttempts, phase: Option<&HookPhase>) {
        if let Some(gate) = &mut self.gate {
            gate.recorded(recorded.attempts, phase);
        }
        if let Some(HookPhase {
            phase: Some(phase),
            version,
            ..
        }) = phase
        {
            // What is queued is given back as soon as the hook cache says so, too. A hook that
            // has been backed off before, by another worker, has no new version.
            let backed_off = *phase == Phase::BackedOff && version.is_some();
            if backed_off || self.gate.is_none() {
                let version = Some(version.unwrap_or_default());
                self.outdated_before = self.outdated_before.max(version);
            }
        }
        self.record.recorded(recorded.unserved);
    }

    /// This worker owns the hook in this version, by this gate.
    pub(super) fn own(&mut self, version: i64, gate: Gate) {
        self.gate = Some(gate);
        if Some(version) >= self.outdated_before {
            self.outdated_before = None;
        }
    }

    /// This worker cannot send to the hook as it is in this version.
    pub(super) fn shut_out(&mut self, version: i64) {
        self.unsendable = Some(version);
    }

    /// Takes over the hook as it is in the hook cache; `None` when it was deleted. Returns what
    /// this worker may no longer do for it.
    pub(super) fn follow(&mut self, known: Option<&Arc<Hook>>, now: Timestamp) -> RevokedOfHook {
        let version = known.map(|hook| hook.version);
        self.unsendable = self.unsendable.filter(|_| self.unsendable == version);
        let hook = known.filter(|hook| hook.status == HookStatus::Active && !hook.locked);
        let mut revoked = RevokedOfHook::default();
        if let Some(gate) = &mut self.gate {
            let keeps = match hook.filter(|hook| hook.is_gated()) {
                Some(hook) => gate.follow(hook, self.per_hook, now),
                None => {
                    revoked.gate = true;
                    false
                }
            };
            if !keeps {
                self.gate = None;
            }
        }
        let is_known = hook.is_none_or(|hook| Some(hook.version) >= self.outdated_before);
        let startable = hook.filter(|hook| {
            self.outdated_before.is_none() && (!hook.is_gated() || self.gate.is_some())
        });
        match startable {
            Some(hook) => self.waiting.set_hook(hook),
            None => revoked.deliveries = self.waiting.take_after(0),
        }
        if is_known {
            self.outdated_before = None;
        }
        revoked
    }
}

/// What is no longer this worker's to do for one hook.
#[derive(Debug, Default)]
pub(super) struct RevokedOfHook {
    pub(super) deliveries: Vec<HookRequest>,
    /// The hook needs no owner any more.
    pub(super) gate: bool,
}

/// A gated hook that this worker owns, or owned until lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnedHook {
    pub(crate) hook: HookId,
    pub(crate) until: Timestamp,
    /// Deliveries queued or in flight.
    pub(crate) held: u32,
}
