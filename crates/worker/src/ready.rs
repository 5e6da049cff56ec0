//! What is leased to this process and not yet being sent: a queue for each hook, served in
//! turn.
//!
//! No hook has more than its cap in flight, and hooks take turns, so that a hook with a long
//! queue keeps no other waiting. What waits here spends its lease, so each hook may queue only
//! as much as it has lately shown to take quickly: its window doubles whenever it runs dry and
//! falls back when it fails.
//!
//! Two bounds hold over all hooks. Hooks that answer nothing, and those that have not answered
//! for long, hold at most half of all places together, so that others always find some. Of the
//! rest no more is in flight than the processors can serve ([`Pace`]): what waits for an answer
//! elsewhere takes nothing from the pace, only from the places.
//!
//! A hook that has not shown that it takes deliveries has no more in flight than the failures
//! that back it off, unless it answers nothing for a while: one that refuses costs each worker so
//! many requests, not as many as its cap. One that fails as often as that starts nothing more
//! until the failures are recorded; from then on the gates decide.

mod owned;
mod queue;

use crate::gate::{Ended, Gate};
use crate::pace::Pace;
pub(crate) use owned::Owned;
use postrider_core::{Hook, HookId, HookStatus, Phase, Timestamp};
use postrider_store::{Capacity, HookCache, HookPhase, HookRequest};
use queue::HookQueue;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Deliveries queued at most, over all hooks.
const QUEUE_MAX: u32 = 4096;
/// Bytes of payload queued at most, over all hooks, before nothing more is taken.
const QUEUE_MAX_BYTES: usize = 48 * 1024 * 1024;
/// With less than this in the queue it is time for more, however much may be queued: the
/// senders must not run dry while the next batch is made.
const LOW_WATER: u32 = 1024;
/// A hook that has not answered for so long counts as slow until it does.
const TRUSTED_FOR: Duration = Duration::from_secs(600);

/// The queue between the dispatcher and the senders.
#[derive(Debug)]
pub(crate) struct Ready {
    per_hook: u32,
    /// Places that slow hooks may hold together.
    slow_max: u32,
    back_off_after: u32,
    state: Mutex<State>,
    /// Wakes one sender: something may be started.
    startable: Notify,
    /// Wakes the dispatcher: the queue has run low.
    low: Notify,
    /// Wakes who samples the pace: more could be started than may be.
    crowded: Notify,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    hooks: HashMap<HookId, HookQueue>,
    /// The gated hooks that this worker owns.
    gates: HashMap<HookId, Gate>,
    /// Hooks that have something to start and capacity in flight, each once.
    turns: VecDeque<HookId>,
    /// Hooks that would have a turn if slow hooks held fewer places.
    parked: VecDeque<HookId>,
    queued: u32,
    queued_bytes: usize,
    /// Of the queued, those of stalled hooks, as of the latest look at the capacity.
    stalled: u32,
    /// With less than this queued and not stalled it is time for more.
    low_water: u32,
    in_flight: u32,
    /// Of those in flight, those of slow hooks.
    slow: u32,
    /// Of those in flight, those that wait elsewhere, as of the latest look.
    elsewhere: u32,
    /// How hooks last answered, and when those were forgotten that have not for long.
    answered: HashMap<HookId, Answered>,
    forgotten: Option<Instant>,
    closed: bool,
    /// Hooks that this worker cannot send to, as of this version of them.
    unsendable: HashMap<HookId, i64>,
}

/// How a hook last answered.
#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Instant,
    /// It takes deliveries.
    proven: bool,
}

/// What was recorded of a hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) attempts: u32,
    /// Of these, those that failed.
    pub(crate) failures: u32,
}

/// What is no longer this worker's to send.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    pub(crate) deliveries: Vec<HookRequest>,
    /// Hooks that need no owner any more.
    pub(crate) gates: Vec<HookId>,
}

impl Ready {
    /// A queue for so many senders. No hook has more than `per_hook` in flight, unless it sets
    /// its own cap, nor goes on after `back_off_after` failures in a row.
    pub(crate) fn new(per_hook: u32, senders: u32, back_off_after: u32) -> Self {
        Self {
            per_hook,
            slow_max: (senders / 2).max(per_hook),
            back_off_after,
            state: Mutex::new(State::new(senders)),
            startable: Notify::new(),
            low: Notify::new(),
            crowded: Notify::new(),
        }
    }

    /// Queues what was leased.
    pub(crate) fn push(&self, leased: Vec<HookRequest>) {
        if leased.is_empty() {
            return;
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        for delivery in leased {
            let hook = delivery.hook.id;
            state.queued += 1;
            state.queued_bytes += delivery.payload_bytes();
            let gate = state.gates.get_mut(&hook);
            let cap = gate.as_ref().map_or(self.per_hook, |gate| gate.limit());
            if let Some(gate) = gate {
                gate.leased();
            }
            let proven = || state.answered.get(&hook).is_some_and(Answered::is_proven);
            let queue = state
                .hooks
                .entry(hook)
                .or_insert_with(|| HookQueue::new(cap, proven()));
            queue.push(delivery, self.back_off_after);
            state.give_turn(hook);
        }
        drop(guard);
        self.startable.notify_one();
    }

    /// The next delivery to send, in turn over the hooks, counted as in flight from here on;
    /// `None` when there is nothing to start now.
    pub(crate) fn try_next(&self) -> Option<HookRequest> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.is_crowded() {
            if !state.turns.is_empty() {
                self.crowded.notify_one();
            }
            return None;
        }
        let delivery = loop {
            let hook = state.turns.pop_front()?;
            let Some(queue) = state.hooks.get_mut(&hook) else {
                continue;
            };
            queue.has_turn = false;
            if !queue.may_start() {
                continue;
            }
            let answered = state.answered.get(&hook);
            let slow = queue.slow
                || queue.is_about_to_be_slow(state.gates.get(&hook))
                || answered.is_none_or(|answered| !answered.is_recent());
            let places = if queue.slow { 1 } else { queue.in_flight + 1 };
            if slow && state.slow + places > self.slow_max {
                queue.parked = true;
                state.parked.push_back(hook);
                continue;
            }
            let Some(delivery) = queue.start() else {
                continue;
            };
            if slow {
                queue.slow = true;
                state.slow += places;
            }
            state.give_turn(hook);
            break delivery;
        };
        state.queued -= 1;
        state.queued_bytes -= delivery.payload_bytes();
        state.in_flight += 1;
        let (more, low) = (state.has_startable(), state.is_low());
        drop(guard);
        if more {
            self.startable.notify_one();
        }
        if low {
            self.low.notify_one();
        }
        Some(delivery)
    }

    /// Waits for the next delivery to send; `None` once the queue is closed.
    pub(crate) async fn next(&self) -> Option<HookRequest> {
        loop {
            if self.lock().closed {
                // Pass it on, so that every sender learns of it.
                self.startable.notify_one();
                return None;
            }
            if let Some(delivery) = self.try_next() {
                return Some(delivery);
            }
            self.startable.notified().await;
        }
    }

    /// An attempt for `hook` has ended.
    pub(crate) fn done(&self, hook: HookId, ended: Ended) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.in_flight -= 1;
        let gate = state.gates.get_mut(&hook);
        let cap = gate.map_or(self.per_hook, |gate| {
            gate.ended(ended);
            gate.limit()
        });
        let Some(queue) = state.hooks.get_mut(&hook) else {
            return;
        };
        queue.ended(ended);
        queue.cap = cap;
        if ended.is_answer() {
            let answered = Answered {
                at: queue.moved,
                proven: queue.proven,
            };
            state.answered.insert(hook, answered);
            queue.parked = false;
        }
        if queue.slow {
            state.slow -= 1;
            if ended.is_answer() || queue.in_flight == 0 {
                queue.slow = false;
                state.slow -= queue.in_flight;
            }
        }
        state.give_turn_or_forget(hook);
        state.unpark(self.slow_max);
        let waiting = !state.turns.is_empty();
        drop(guard);
        if waiting {
            self.startable.notify_one();
        }
    }

    /// So many attempts of these hooks were recorded, and some of them stand so.
    pub(crate) fn settled(&self, recorded: &HashMap<HookId, Recorded>, standings: &[HookPhase]) {
        let standings: HashMap<_, _> = standings.iter().map(|s| (s.hook, s)).collect();
        let mut guard = self.lock();
        let state = &mut *guard;
        for (hook, recorded) in recorded {
            let standing = standings.get(hook).copied();
            let phase = standing.and_then(|standing| standing.phase);
            let gate = state.gates.get_mut(hook);
            let gated = gate.is_some();
            let cap = gate.map_or(self.per_hook, |gate| {
                gate.settled(recorded.attempts, standing);
                gate.limit()
            });
            let Some(queue) = state.hooks.get_mut(hook) else {
                continue;
            };
            queue.cap = cap;
            let version = standing.and_then(|standing| standing.version);
            let backed_off = phase == Some(Phase::BackedOff) && version.is_some();
            if backed_off || (phase.is_some() && !gated) {
                // What is queued is given back as soon as the hook is known to be gated.
                queue.shut = queue.shut.max(Some(version.unwrap_or_default()));
            }
            queue.recorded(recorded.failures);
            state.give_turn_or_forget(*hook);
        }
        let waiting = !state.turns.is_empty();
        drop(guard);
        if waiting {
            self.startable.notify_one();
        }
    }

    /// Lets hooks that keep us waiting have all of their places, to be called now and then.
    pub(crate) fn note_silence(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let queues = state.hooks.iter_mut();
        let silent: Vec<_> = queues
            .filter_map(|(hook, queue)| queue.fall_silent().then_some(*hook))
            .collect();
        for hook in silent {
            state.give_turn(hook);
        }
        let startable = state.has_startable();
        drop(guard);
        if startable {
            self.startable.notify_one();
        }
    }

    /// How much more may be leased now.
    pub(crate) fn capacity(&self, now: Timestamp) -> Capacity {
        let mut guard = self.lock();
        let state = &mut *guard;
        self.look_around(state);
        let total = match state.queued_bytes < QUEUE_MAX_BYTES {
            true => QUEUE_MAX.saturating_sub(state.queued),
            false => 0,
        };
        let mut capacity = Capacity::new(total, self.per_hook * 2);
        for (hook, queue) in &mut state.hooks {
            queue.offered = queue.window().saturating_sub(queue.held());
            capacity.set(*hook, queue.offered);
        }
        for (hook, gate) in &mut state.gates {
            let queue = state.hooks.get_mut(hook);
            let (held, window) = queue
                .as_ref()
                .map_or((0, 0), |queue| (queue.held(), queue.window));
            let left = gate.capacity(held, window, now);
            if let Some(queue) = queue {
                queue.offered = left;
            }
            capacity.set(*hook, left);
        }
        for hook in state.unsendable.keys() {
            capacity.set(*hook, 0);
        }
        state.unpark(self.slow_max);
        let startable = state.has_startable();
        drop(guard);
        if startable {
            self.startable.notify_one();
        }
        capacity
    }

    /// Works out what of the queue is stalled, and at how much of the rest it is time for more:
    /// at half of what the moving hooks may queue.
    fn look_around(&self, state: &mut State) {
        state.look_elsewhere();
        let (mut stalled, mut windows) = (0, 0);
        for queue in state.hooks.values_mut() {
            if !queue.slow && queue.keeps_waiting() {
                queue.slow = true;
                state.slow += queue.in_flight;
            }
            if queue.is_stalled() {
                stalled += queue.waiting.len() as u32;
            } else if queue.held() > 0 {
                windows += queue.window();
            }
        }
        if state
            .forgotten
            .is_none_or(|last| last.elapsed() > TRUSTED_FOR)
        {
            state.forgotten = Some(Instant::now());
            state.answered.retain(|_, answered| answered.is_recent());
        }
        state.stalled = stalled;
        state.low_water = (windows / 2).clamp(self.per_hook, LOW_WATER.max(self.per_hook));
    }

    /// This worker cannot send to the hook as it is: nothing more is taken for it.
    pub(crate) fn shut_out(&self, hook: &Hook) {
        self.lock().unsendable.insert(hook.id, hook.version);
    }

    /// Holds what is queued to the hooks as they are now, and hands back what is not to be sent
    /// any more: what is for hooks that are not active, or have become another worker's to
    /// start.
    pub(crate) fn follow(&self, cache: &HookCache, now: Timestamp) -> Lost {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut lost = Lost::default();
        state
            .unsendable
            .retain(|hook, version| cache.get(*hook).is_some_and(|now| now.version == *version));
        let sendable = |id: HookId| {
            cache
                .get(id)
                .filter(|hook| hook.status == HookStatus::Active && !hook.locked)
        };
        state.gates.retain(
            |id, gate| match sendable(*id).filter(|hook| hook.is_gated()) {
                Some(hook) => gate.follow(hook, self.per_hook, now),
                None => {
                    lost.gates.push(*id);
                    false
                }
            },
        );
        for (id, queue) in &mut state.hooks {
            let gate = state.gates.get(id);
            queue.cap = gate.map_or(self.per_hook, Gate::limit);
            let now = sendable(*id);
            let known = now.is_none_or(|hook| Some(hook.version) >= queue.shut);
            let stays =
                now.filter(|hook| queue.shut.is_none() && (!hook.is_gated() || gate.is_some()));
            match stays {
                Some(now) => queue.follow(now),
                None => lost.deliveries.extend(queue.waiting.drain(..)),
            }
            if known {
                queue.shut = None;
            }
        }
        for delivery in &lost.deliveries {
            state.queued -= 1;
            state.queued_bytes -= delivery.payload_bytes();
        }
        state
            .hooks
            .retain(|_, queue| queue.held() > 0 || queue.shut.is_some());
        let hooks = &state.hooks;
        let is_there = |hook: &HookId| hooks.contains_key(hook);
        state.turns.retain(is_there);
        state.parked.retain(is_there);
        lost
    }

    // ---- the whole

    /// Whether so little is queued that the senders may soon have nothing to do.
    pub(crate) fn is_low(&self) -> bool {
        self.lock().is_low()
    }

    /// Waits until little is queued.
    pub(crate) async fn until_low(&self) {
        while !self.is_low() {
            self.low.notified().await;
        }
    }

    /// Waits until more could be started than may be.
    pub(crate) async fn crowded(&self) {
        self.crowded.notified().await;
    }

    /// Weighs how long a task waited for its turn; `true` while more could be started than may
    /// be.
    pub(crate) fn weigh(&self, waited: Duration) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.pace.weigh(waited) {
            state.look_elsewhere();
        }
        let (waiting, startable) = (!state.turns.is_empty(), state.has_startable());
        drop(guard);
        if startable {
            self.startable.notify_one();
        }
        waiting && !startable
    }

    /// How many are queued and how many are in flight.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let state = self.lock();
        (state.queued, state.in_flight)
    }

    /// Ends [`next`](Self::next) for everyone and hands back what was not started.
    pub(crate) fn close(&self) -> Vec<HookRequest> {
        let mut state = self.lock();
        state.closed = true;
        state.turns.clear();
        state.parked.clear();
        state.queued = 0;
        state.queued_bytes = 0;
        let unstarted = state
            .hooks
            .values_mut()
            .flat_map(|queue| {
                queue.has_turn = false;
                queue.parked = false;
                queue.waiting.drain(..)
            })
            .collect();
        drop(state);
        self.startable.notify_one();
        unstarted
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answered {
    fn is_recent(&self) -> bool {
        self.at.elapsed() <= TRUSTED_FOR
    }

    fn is_proven(&self) -> bool {
        self.proven && self.is_recent()
    }
}

impl State {
    fn new(senders: u32) -> Self {
        Self {
            pace: Pace::new(senders),
            hooks: HashMap::new(),
            gates: HashMap::new(),
            turns: VecDeque::new(),
            parked: VecDeque::new(),
            queued: 0,
            queued_bytes: 0,
            stalled: 0,
            low_water: 0,
            in_flight: 0,
            slow: 0,
            elsewhere: 0,
            answered: HashMap::new(),
            forgotten: None,
            closed: false,
            unsendable: HashMap::new(),
        }
    }

    fn is_low(&self) -> bool {
        self.queued.saturating_sub(self.stalled) <= self.low_water
    }

    /// Works out how much of what is in flight waits elsewhere.
    fn look_elsewhere(&mut self) {
        let waits = self.hooks.values().filter(|queue| queue.waits_elsewhere());
        self.elsewhere = waits.map(|queue| queue.in_flight).sum();
    }

    /// Whether as much is in flight as the processors can serve.
    fn is_crowded(&self) -> bool {
        self.in_flight.saturating_sub(self.elsewhere) >= self.pace.limit()
    }

    /// Whether a hook has a turn and may use it.
    fn has_startable(&self) -> bool {
        !self.turns.is_empty() && !self.is_crowded()
    }

    /// Lets the hook have a turn, if it can use one.
    fn give_turn(&mut self, hook: HookId) {
        if let Some(queue) = self.hooks.get_mut(&hook)
            && queue.may_start()
        {
            queue.has_turn = true;
            self.turns.push_back(hook);
        }
    }

    /// The same; a hook of which nothing is here and nothing worth knowing is forgotten.
    fn give_turn_or_forget(&mut self, hook: HookId) {
        match self.hooks.get(&hook).is_some_and(HookQueue::is_idle) {
            true => drop(self.hooks.remove(&hook)),
            false => self.give_turn(hook),
        }
    }

    /// Lets as many of the parked hooks have a turn as there are places for slow ones.
    fn unpark(&mut self, slow_max: u32) {
        let free = slow_max.saturating_sub(self.slow) as usize;
        let now: Vec<_> = self.parked.drain(..free.min(self.parked.len())).collect();
        for hook in &now {
            // One that has answered since waits here no more.
            if let Some(queue) = self.hooks.get_mut(hook) {
                queue.parked = false;
            }
            self.give_turn(*hook);
        }
    }
}

#[cfg(test)]
mod tests;
