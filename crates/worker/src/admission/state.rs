//! The admission of all hooks as plain state: no lock, no clock, nothing to wait for.
//!
//! Every change goes through a method of [`AdmissionState`], which keeps the sums over the hooks
//! and the order of turns; `state/invariants.rs` says what holds after each.

mod capacity;
mod gated;
#[cfg(debug_assertions)]
mod invariants;
#[cfg(test)]
mod sums;

use super::accounts::{Places, Turns};
use super::attempt_end::AttemptEnd;
use super::blocked::Blocked;
use super::concurrency_limit::ConcurrencyLimit;
use super::hook::{HookAdmission, RecentAnswer, RecordedAttempts, Turn};
use crate::tuning::Tuning;
use postrider_core::{Hook, HookId, Timestamp};
use postrider_store::{HookCache, HookPhase, HookRequest};
use std::collections::HashMap;
use std::time::{Duration, Instant};
#[cfg(test)]
pub(super) use sums::Sums;

/// The admission of all hooks.
#[derive(Debug)]
pub(super) struct AdmissionState {
    tuning: Tuning,
    /// The cap of a hook that sets none.
    per_hook: u32,
    /// Places that slow hooks may hold together.
    slow_max: u32,
    /// As many of these for hooks to which something was started before. The rest is for the first
    /// request to a hook, which may be quick.
    tried_max: u32,
    /// Places that one account may hold while another waits.
    account_max: u32,
    limit: ConcurrencyLimit,
    /// Hooks with deliveries queued or in flight, and hooks that are owned or cannot be sent to.
    hooks: HashMap<HookId, HookAdmission>,
    /// The latest answers of hooks that are not in `hooks`.
    remembered: HashMap<HookId, RecentAnswer>,
    /// When the answers that are not recent were last dropped from `remembered`.
    dropped_at: Option<Instant>,
    /// Hooks that may start a delivery, in their order, each once.
    turns: Turns,
    /// Hooks that are blocked by the slow share, each once: those to which something was started
    /// before, and the others.
    parked: Turns,
    parked_untried: Turns,
    /// The places that each account holds.
    places: Places,
    closed: bool,
    queued: u32,
    queued_bytes: usize,
    in_flight: u32,
    /// Of those in flight, the ones of slow hooks.
    slow: u32,
    /// Of those in flight, the ones that wait remotely, as of the latest measurement.
    remote: u32,
    /// Of those queued, the ones of stalled hooks, as of the latest measurement.
    stalled: u32,
    /// Of those queued, and of their bytes, the ones of hooks that are not known to be quick, as of
    /// the latest measurement.
    doubtful: u32,
    doubtful_bytes: usize,
    /// With no more than this queued and not stalled the queue is low, as of the latest
    /// measurement.
    low_water: u32,
    /// When blocks that end by the passing of time were last checked.
    refreshed_at: Option<Instant>,
}

/// What this worker may no longer do.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    /// Deliveries that are to be given back.
    pub(crate) deliveries: Vec<HookRequest>,
    /// Hooks that need no owner any more.
    pub(crate) gates: Vec<HookId>,
}

impl AdmissionState {
    pub(super) fn new(per_hook: u32, places: u32, tuning: Tuning) -> Self {
        let slow_max = (places / tuning.admission.slow_part).max(per_hook);
        Self {
            per_hook,
            slow_max,
            tried_max: (slow_max - slow_max / tuning.admission.untried_part).max(per_hook),
            account_max: (places / tuning.admission.account_part).max(1),
            limit: ConcurrencyLimit::new(places, tuning.concurrency),
            tuning,
            hooks: HashMap::new(),
            remembered: HashMap::new(),
            dropped_at: None,
            turns: Turns::default(),
            parked: Turns::default(),
            parked_untried: Turns::default(),
            places: Places::default(),
            closed: false,
            queued: 0,
            queued_bytes: 0,
            in_flight: 0,
            slow: 0,
            remote: 0,
            stalled: 0,
            doubtful: 0,
            doubtful_bytes: 0,
            low_water: 0,
            refreshed_at: None,
        }
    }

    // ---- what may start

    /// Whether the next delivery of `hook` may start now; what keeps it from starting
    /// otherwise, the hook's own reasons first.
    pub(super) fn may_start(&self, hook: HookId, now: Instant) -> Result<(), Blocked> {
        // Closing takes what is queued.
        let hook = self.hooks.get(&hook).ok_or(Blocked::NothingQueued)?;
        hook.may_start(now, &self.tuning.admission)?;
        if self.is_full() {
            return Err(Blocked::ConcurrencyLimit);
        }
        match hook.slow_places(now, &self.tuning.admission) {
            0 => Ok(()),
            places if self.slow + places <= self.slow_max_of(hook) => Ok(()),
            _ => Err(Blocked::SlowShare),
        }
    }

    /// Requests to slow hooks in flight at most, when one to this hook is the last of them.
    fn slow_max_of(&self, hook: &HookAdmission) -> u32 {
        match hook.is_untried() {
            true => self.slow_max,
            false => self.tried_max,
        }
    }

    /// Starts the next delivery, in turn over the accounts and then their hooks; `None` when none
    /// may start. An account that holds its share of all places waits while another has a turn.
    pub(super) fn start_next(&mut self, now: Instant) -> Option<HookRequest> {
        while let Some(id) = self.next_turn() {
            match self.may_start(id, now) {
                Ok(()) => {
                    self.turn_of(id, Turn::None);
                    if let Some(delivery) = self.start(id, now) {
                        return Some(delivery);
                    }
                }
                Err(Blocked::ConcurrencyLimit) => {
                    if let Some(hook) = self.hooks.get(&id) {
                        self.turns.put_back(&hook.account, id);
                    }
                    return None;
                }
                Err(Blocked::SlowShare) => self.park(id),
                // What ends the block gives the hook its next turn.
                Err(_) => self.turn_of(id, Turn::None),
            }
        }
        None
    }

    /// The hook whose turn is next.
    fn next_turn(&mut self) -> Option<HookId> {
        let (places, most) = (&self.places, self.account_max);
        self.turns
            .pop(|account| places.of(account).in_flight < most)
    }

    /// Starts a delivery of a hook that may, and gives the hook its next turn.
    fn start(&mut self, id: HookId, now: Instant) -> Option<HookRequest> {
        let hook = self.hooks.get_mut(&id)?;
        let places = hook.slow_places(now, &self.tuning.admission);
        let delivery = hook.start(now)?;
        hook.slow = places > 0;
        self.slow += places;
        self.places.change(&hook.account, |held| {
            held.in_flight += 1;
            held.slow += places;
        });
        self.queued -= 1;
        self.queued_bytes -= delivery.payload_bytes();
        self.in_flight += 1;
        debug_assert!(hook.in_flight <= hook.cap(), "a start exceeds the cap");
        debug_assert!(
            places == 0 || self.slow <= self.slow_max,
            "a slow start exceeds the share"
        );
        self.give_turn(id, now);
        Some(delivery)
    }

    /// Sets a hook aside until slow hooks hold fewer places.
    fn park(&mut self, id: HookId) {
        if let Some(hook) = self.hooks.get_mut(&id) {
            hook.turn = Turn::Parked;
            match hook.is_untried() {
                true => self.parked_untried.push(&hook.account, id),
                false => self.parked.push(&hook.account, id),
            }
        }
    }

    /// Whether as much is in flight as the processors can serve.
    pub(super) fn is_full(&self) -> bool {
        self.in_flight.saturating_sub(self.remote) >= self.limit.limit()
    }

    /// Whether any hook has a turn.
    pub(super) fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether so little is queued that the senders may soon have nothing to start.
    pub(super) fn is_low(&self) -> bool {
        self.queued.saturating_sub(self.stalled) <= self.low_water
    }

    /// How many deliveries are queued and how many are in flight.
    pub(super) fn counts(&self) -> (u32, u32) {
        (self.queued, self.in_flight)
    }

    fn turn_of(&mut self, hook: HookId, turn: Turn) {
        if let Some(hook) = self.hooks.get_mut(&hook) {
            hook.turn = turn;
        }
    }

    /// Gives a hook a turn, unless it has one, is parked, or may not start anything.
    fn give_turn(&mut self, id: HookId, now: Instant) {
        if let Some(hook) = self.hooks.get_mut(&id)
            && hook.turn == Turn::None
            && hook.may_start(now, &self.tuning.admission).is_ok()
        {
            hook.turn = Turn::Next;
            self.turns.push(&hook.account, id);
        }
    }

    /// Gives a hook a turn, or forgets it if it is idle.
    fn give_turn_or_forget(&mut self, id: HookId, now: Instant) {
        match self.hooks.get(&id).is_some_and(HookAdmission::is_idle) {
            true => self.forget(id, now),
            false => self.give_turn(id, now),
        }
    }

    /// Removes an idle hook, and remembers its latest answer. A hook that must be kept is only
    /// reset.
    fn forget(&mut self, id: HookId, now: Instant) {
        let Some(hook) = self.hooks.get_mut(&id) else {
            return;
        };
        if hook.is_kept() {
            hook.reset(now, &self.tuning.admission);
            return;
        }
        if let Some(answer) = hook.answered {
            self.remembered.insert(id, answer);
        }
        self.hooks.remove(&id);
    }

    /// The admission of a hook, made anew if nothing of it is here.
    fn hook(&mut self, hook: &Hook, now: Instant) -> &mut HookAdmission {
        self.hooks.entry(hook.id).or_insert_with(|| {
            let answered = self.remembered.remove(&hook.id);
            let account = hook.account.as_str().into();
            HookAdmission::new(
                account,
                self.per_hook,
                answered,
                now,
                &self.tuning.admission,
            )
        })
    }

    /// Gives turns to as many parked hooks as there are places free for slow ones, those of the
    /// accounts with the fewest first.
    fn unpark(&mut self, now: Instant) {
        let places = &self.places;
        let held = |account: &str| places.of(account).slow;
        let untried =
            (self.slow..self.slow_max).map_while(|_| self.parked_untried.pop_lowest(held));
        let tried = (self.slow..self.tried_max).map_while(|_| self.parked.pop_lowest(held));
        for hook in untried.chain(tried).collect::<Vec<_>>() {
            self.turn_of(hook, Turn::None);
            self.give_turn(hook, now);
        }
    }

    // ---- what happens to hooks

    /// Queues a delivery. Its hook is backed off after this many failures in a row.
    pub(super) fn push(&mut self, delivery: HookRequest, back_off_after: u32, now: Instant) {
        let id = delivery.hook.id;
        self.queued += 1;
        self.queued_bytes += delivery.payload_bytes();
        let hook = delivery.hook.clone();
        self.hook(&hook, now).push(delivery, back_off_after, now);
        self.give_turn(id, now);
    }

    /// An attempt for `hook` has ended, which held a place for as long as `held`.
    pub(super) fn ended(&mut self, id: HookId, end: AttemptEnd, held: Duration, now: Instant) {
        let Some(hook) = self.hooks.get_mut(&id) else {
            return;
        };
        hook.ended(end, held, now, &self.tuning.admission);
        let answered_quickly = end.is_answer() && !hook.holds_long(&self.tuning.admission);
        let mut slow = 0;
        if hook.slow {
            slow = 1;
            // A hook that answers quickly is no longer slow: its requests leave the slow share.
            if answered_quickly || hook.in_flight == 0 {
                hook.slow = false;
                slow += hook.in_flight;
            }
        }
        self.in_flight -= 1;
        self.slow -= slow;
        self.places.change(&hook.account, |held| {
            held.in_flight -= 1;
            held.slow -= slow;
        });
        if answered_quickly && hook.turn == Turn::Parked {
            hook.turn = Turn::None;
            self.parked.retain(|parked| parked != id);
            self.parked_untried.retain(|parked| parked != id);
        }
        // Who waits for the place comes before the hook that had it.
        self.unpark(now);
        self.give_turn_or_forget(id, now);
    }

    /// Attempts of `hook` were recorded; `phase` is its phase now, if it is held back or was.
    pub(super) fn recorded(
        &mut self,
        id: HookId,
        recorded: RecordedAttempts,
        phase: Option<&HookPhase>,
        now: Instant,
    ) {
        if let Some(hook) = self.hooks.get_mut(&id) {
            hook.recorded(recorded, phase);
            self.give_turn_or_forget(id, now);
        }
    }

    /// Gives turns to the hooks whose block has ended by itself.
    pub(super) fn refresh(&mut self, now: Instant) {
        self.refreshed_at = self.refreshed_at.max(Some(now));
        let tuning = &self.tuning.admission;
        for (id, hook) in &mut self.hooks {
            if hook.turn == Turn::None && hook.may_start(now, tuning).is_ok() {
                hook.turn = Turn::Next;
                self.turns.push(&hook.account, *id);
            }
        }
    }

    /// This worker cannot send to the hook as it is in this version.
    pub(super) fn shut_out(&mut self, hook: &Hook, now: Instant) {
        self.hook(hook, now).shut_out(hook.version);
    }

    /// Takes over the hooks as they are in the hook cache.
    pub(super) fn follow(&mut self, cache: &HookCache, at: Timestamp, now: Instant) -> Revoked {
        let mut revoked = Revoked::default();
        for (id, hook) in &mut self.hooks {
            let of_hook = hook.follow(cache.get(*id), at);
            revoked.deliveries.extend(of_hook.deliveries);
            revoked.gates.extend(of_hook.gate.then_some(*id));
            if hook.waiting.is_empty() {
                hook.turn = Turn::None;
            }
        }
        self.forget_queued(&revoked.deliveries);
        let empty: Vec<_> = self
            .hooks
            .iter()
            .filter_map(|(id, hook)| hook.is_empty().then_some(*id))
            .collect();
        for id in empty {
            self.forget(id, now);
        }
        let hooks = &self.hooks;
        let is = |id, turn| hooks.get(&id).is_some_and(|hook| hook.turn == turn);
        self.turns.retain(|id| is(id, Turn::Next));
        self.parked.retain(|id| is(id, Turn::Parked));
        self.parked_untried.retain(|id| is(id, Turn::Parked));
        self.remembered.retain(|id, _| cache.get(*id).is_some());
        // A cap may have grown.
        self.refresh(now);
        revoked
    }

    /// These are no longer queued.
    fn forget_queued(&mut self, taken: &[HookRequest]) {
        self.queued -= taken.len() as u32;
        self.queued_bytes -= taken.iter().map(HookRequest::payload_bytes).sum::<usize>();
    }

    /// Ends every wait, and hands back what was not started.
    pub(super) fn close(&mut self) -> Vec<HookRequest> {
        self.closed = true;
        self.turns.clear();
        self.parked.clear();
        self.parked_untried.clear();
        self.queued = 0;
        self.queued_bytes = 0;
        let unstarted = self.hooks.values_mut().flat_map(|hook| {
            hook.turn = Turn::None;
            hook.waiting.take_after(0)
        });
        unstarted.collect()
    }
}
