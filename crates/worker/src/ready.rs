//! What is leased to this process and not yet being sent: a queue for each hook, served in
//! turn.
//!
//! No hook has more than its cap in flight, and hooks take turns, so that a hook with a long
//! queue keeps no other waiting. What waits here spends its lease, so each hook may queue only
//! as much as it has lately shown to take quickly: its window doubles whenever it runs dry and
//! falls back when it fails.

use crate::pace::Pace;
use postrider_core::{Hook, HookId, HookStatus};
use postrider_store::{HookBook, Leased, Room};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Deliveries queued at most, over all hooks.
const QUEUE_MAX: u32 = 4096;
/// Bytes of payload queued at most, over all hooks, before nothing more is taken.
const QUEUE_MAX_BYTES: usize = 48 * 1024 * 1024;
/// The largest window of one hook.
const WINDOW_MAX: u32 = 2048;
/// With less than this in the queue it is time for more, however much may be queued: the
/// senders must not run dry while the next batch is made.
const LOW_WATER: u32 = 1024;
/// A hook that takes half of its window within this time may queue more.
const QUICKLY: Duration = Duration::from_millis(250);
/// A hook with all its places taken that has answered nothing for so long is stalled.
const STALLED_AFTER: Duration = Duration::from_millis(100);
/// What is in flight to a hook that has answered nothing for so long waits elsewhere, and takes
/// nothing from the pace of the others.
const SLOW_AFTER: Duration = Duration::from_millis(25);

/// The queue between the dispatcher and the senders.
#[derive(Debug)]
pub(crate) struct Ready {
    per_hook: u32,
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
    /// Hooks that have something to start and room in flight, each once.
    turns: VecDeque<HookId>,
    queued: u32,
    queued_bytes: usize,
    /// Of the queued, those of stalled hooks, as of the latest look at the room.
    stalled: u32,
    /// With less than this queued and not stalled it is time for more.
    low_water: u32,
    in_flight: u32,
    /// Of what is in flight, that of slow hooks, as of the latest look at the room.
    slow: u32,
    closed: bool,
    /// Hooks that this worker cannot send to, as of this version of them.
    unsendable: HashMap<HookId, i64>,
}

#[derive(Debug)]
struct HookQueue {
    waiting: VecDeque<Leased>,
    in_flight: u32,
    has_turn: bool,
    window: u32,
    /// For how many more there was room at the latest look.
    offered: u32,
    /// When it took all that it was offered, until half of its window is empty again.
    filled: Option<Instant>,
    /// When an attempt last ended, or the first was queued.
    moved: Instant,
}

impl HookQueue {
    fn new(window: u32) -> Self {
        Self {
            offered: window,
            waiting: VecDeque::new(),
            in_flight: 0,
            has_turn: false,
            window: 0,
            filled: None,
            moved: Instant::now(),
        }
    }
}

impl Ready {
    pub(crate) fn new(per_hook: u32, concurrency: u32) -> Self {
        Self {
            per_hook,
            state: Mutex::new(State {
                pace: Pace::new(concurrency),
                hooks: HashMap::new(),
                turns: VecDeque::new(),
                queued: 0,
                queued_bytes: 0,
                stalled: 0,
                low_water: 0,
                in_flight: 0,
                slow: 0,
                closed: false,
                unsendable: HashMap::new(),
            }),
            crowded: Notify::new(),
            startable: Notify::new(),
            low: Notify::new(),
        }
    }

    /// Queues what was leased.
    pub(crate) fn push(&self, leased: Vec<Leased>) {
        if leased.is_empty() {
            return;
        }
        let mut state = self.lock();
        for delivery in leased {
            let hook = delivery.hook.id;
            state.queued += 1;
            state.queued_bytes += delivery.event.payload.as_str().len();
            let queue = state
                .hooks
                .entry(hook)
                .or_insert_with(|| HookQueue::new(self.per_hook * 2));
            queue.waiting.push_back(delivery);
            queue.offered = queue.offered.saturating_sub(1);
            if queue.offered == 0 {
                queue.filled.get_or_insert_with(Instant::now);
            }
            if queue.in_flight < self.per_hook && !queue.has_turn {
                queue.has_turn = true;
                state.turns.push_back(hook);
            }
        }
        drop(state);
        self.startable.notify_one();
    }

    /// The next delivery to send, in turn over the hooks, counted as in flight from here on;
    /// `None` when there is nothing to start now.
    pub(crate) fn try_next(&self) -> Option<Leased> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.is_crowded() {
            if !state.turns.is_empty() {
                self.crowded.notify_one();
            }
            return None;
        }
        let hook = state.turns.pop_front()?;
        let queue = state.hooks.get_mut(&hook)?;
        let delivery = queue.waiting.pop_front()?;
        queue.in_flight += 1;
        queue.has_turn = queue.in_flight < self.per_hook && !queue.waiting.is_empty();
        if queue.has_turn {
            state.turns.push_back(hook);
        }
        state.queued -= 1;
        state.queued_bytes -= delivery.event.payload.as_str().len();
        state.in_flight += 1;
        let more = !state.turns.is_empty() && !state.is_crowded();
        let low = state.is_low();
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
    pub(crate) async fn next(&self) -> Option<Leased> {
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
    pub(crate) fn done(&self, hook: HookId, accepted: bool) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.in_flight -= 1;
        let Some(queue) = state.hooks.get_mut(&hook) else {
            return;
        };
        queue.in_flight -= 1;
        queue.moved = Instant::now();
        if !accepted {
            queue.window = 0;
            queue.filled = None;
        } else if let Some(filled) = queue.filled
            && held(queue) <= self.window(queue) / 2
        {
            if filled.elapsed() <= QUICKLY {
                queue.window = (self.window(queue) * 2).min(WINDOW_MAX);
            }
            queue.filled = None;
        }
        let startable = !queue.waiting.is_empty() && !queue.has_turn;
        if startable {
            queue.has_turn = true;
            state.turns.push_back(hook);
        } else if queue.in_flight == 0 && queue.waiting.is_empty() && queue.window == 0 {
            state.hooks.remove(&hook);
        }
        drop(guard);
        if startable {
            self.startable.notify_one();
        }
    }

    /// How much more may be leased now.
    pub(crate) fn room(&self) -> Room {
        let mut guard = self.lock();
        let state = &mut *guard;
        self.look_around(state);
        let total = match state.queued_bytes < QUEUE_MAX_BYTES {
            true => QUEUE_MAX.saturating_sub(state.queued),
            false => 0,
        };
        let mut room = Room::new(total, self.per_hook * 2);
        for (hook, queue) in &mut state.hooks {
            queue.offered = self.window(queue).saturating_sub(held(queue));
            room.set(*hook, queue.offered);
        }
        for hook in state.unsendable.keys() {
            room.set(*hook, 0);
        }
        let startable = !state.turns.is_empty() && !state.is_crowded();
        drop(guard);
        if startable {
            self.startable.notify_one();
        }
        room
    }

    /// Works out what of the queue is stalled, and at how much of the rest it is time for more:
    /// at half of what the moving hooks may queue.
    fn look_around(&self, state: &mut State) {
        state.look_for_slow();
        let (mut stalled, mut windows) = (0, 0);
        for queue in state.hooks.values() {
            if queue.in_flight >= self.per_hook && queue.moved.elapsed() > STALLED_AFTER {
                stalled += queue.waiting.len() as u32;
            } else if held(queue) > 0 {
                windows += self.window(queue);
            }
        }
        state.stalled = stalled;
        state.low_water = (windows / 2).clamp(self.per_hook, LOW_WATER.max(self.per_hook));
    }

    /// This worker cannot send to the hook as it is: nothing more is taken for it.
    pub(crate) fn shut_out(&self, hook: &Hook) {
        self.lock().unsendable.insert(hook.id, hook.version);
    }

    /// Holds what is queued to the hooks as they are now, and hands back what is not to be sent
    /// any more.
    pub(crate) fn follow(&self, book: &HookBook) -> Vec<Leased> {
        let mut guard = self.lock();
        let state = &mut *guard;
        state
            .unsendable
            .retain(|hook, version| book.get(*hook).is_some_and(|now| now.version == *version));
        let mut unsendable = Vec::new();
        for (id, queue) in &mut state.hooks {
            let now = book.get(*id);
            match now.filter(|hook| hook.status == HookStatus::Active && !hook.locked) {
                Some(now) => {
                    for delivery in &mut queue.waiting {
                        delivery.hook = now.clone();
                    }
                }
                None => {
                    unsendable.extend(queue.waiting.drain(..));
                    queue.has_turn = false;
                }
            }
        }
        for delivery in &unsendable {
            state.queued -= 1;
            state.queued_bytes -= delivery.event.payload.as_str().len();
        }
        state
            .hooks
            .retain(|_, queue| queue.in_flight > 0 || !queue.waiting.is_empty());
        let hooks = &state.hooks;
        state
            .turns
            .retain(|hook| hooks.get(hook).is_some_and(|queue| queue.has_turn));
        unsendable
    }

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
            state.look_for_slow();
        }
        let (waiting, crowded) = (!state.turns.is_empty(), state.is_crowded());
        drop(guard);
        if waiting && !crowded {
            self.startable.notify_one();
        }
        waiting && crowded
    }

    /// How many are queued and how many are in flight.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let state = self.lock();
        (state.queued, state.in_flight)
    }

    /// Ends [`next`](Self::next) for everyone and hands back what was not started.
    pub(crate) fn close(&self) -> Vec<Leased> {
        let mut state = self.lock();
        state.closed = true;
        state.turns.clear();
        state.queued = 0;
        state.queued_bytes = 0;
        let unstarted = state
            .hooks
            .values_mut()
            .flat_map(|queue| {
                queue.has_turn = false;
                queue.waiting.drain(..)
            })
            .collect();
        drop(state);
        self.startable.notify_one();
        unstarted
    }

    fn window(&self, queue: &HookQueue) -> u32 {
        queue.window.max(self.per_hook * 2)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_low(&self) -> bool {
        self.queued.saturating_sub(self.stalled) <= self.low_water
    }

    /// Works out how much of what is in flight waits elsewhere.
    fn look_for_slow(&mut self) {
        let slow = |queue: &&HookQueue| queue.moved.elapsed() > SLOW_AFTER;
        let slow = self.hooks.values().filter(slow);
        self.slow = slow.map(|queue| queue.in_flight).sum();
    }

    /// Whether as much is in flight as the processors can serve.
    fn is_crowded(&self) -> bool {
        self.in_flight.saturating_sub(self.slow) >= self.pace.limit()
    }
}

/// What a hook has of its window: queued or in flight.
fn held(queue: &HookQueue) -> u32 {
    queue.waiting.len() as u32 + queue.in_flight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, leased_for};
    use uuid::Uuid;

    fn hook(n: u128) -> HookId {
        HookId(Uuid::from_u128(n))
    }

    #[test]
    fn hooks_take_turns_and_keep_their_cap() {
        let ready = Ready::new(2, 64);
        ready.push((0..5).map(|_| leased_for(hook(1))).collect());
        ready.push((0..2).map(|_| leased_for(hook(2))).collect());
        let order: Vec<_> = std::iter::from_fn(|| ready.try_next())
            .map(|d| d.hook.id)
            .collect();
        assert_eq!(order, [hook(1), hook(2), hook(1), hook(2)]);
        ready.done(hook(1), true);
        assert_eq!(ready.try_next().map(|d| d.hook.id), Some(hook(1)));
        assert!(ready.try_next().is_none());
        assert_eq!(ready.counts(), (2, 4));
    }

    #[test]
    fn a_full_hook_has_no_room_and_leaves_the_others_theirs() {
        let ready = Ready::new(2, 64);
        ready.push((0..4).map(|_| leased_for(hook(1))).collect());
        let room = ready.room();
        assert_eq!((room.left(hook(1)), room.left(hook(2))), (0, 4));
    }

    #[test]
    fn a_window_doubles_when_half_of_a_full_one_is_gone_and_falls_back_on_a_failure() {
        let ready = Ready::new(1, 64);
        let fill = |count| ready.push((0..count).map(|_| leased_for(hook(1))).collect());
        fill(1);
        assert!(ready.try_next().is_some());
        ready.done(hook(1), true);
        assert_eq!(ready.room().left(hook(1)), 2, "it was not full");
        fill(2);
        assert!(ready.try_next().is_some());
        ready.done(hook(1), true);
        assert_eq!(ready.room().left(hook(1)), 3);
        assert!(ready.try_next().is_some());
        ready.done(hook(1), false);
        assert_eq!(ready.room().left(hook(1)), 2);
    }

    #[test]
    fn a_hook_that_answers_nothing_earns_no_window_and_makes_nobody_wait() {
        let ready = Ready::new(2, 64);
        for _ in 0..10 {
            let room = ready.room().left(hook(1));
            ready.push((0..room.min(1)).map(|_| leased_for(hook(1))).collect());
            ready.try_next();
        }
        assert_eq!(ready.room().left(hook(1)), 0);
        assert_eq!(ready.counts(), (2, 2));
        let mut state = ready.lock();
        for queue in state.hooks.values_mut() {
            queue.moved -= 2 * STALLED_AFTER;
        }
        drop(state);
        assert_eq!(ready.room().left(hook(2)), 4);
        assert_eq!(ready.lock().stalled, 2);
        assert!(ready.is_low());
    }

    #[test]
    fn what_is_queued_follows_the_hooks() {
        let ready = Ready::new(1, 64);
        for n in 1..=3 {
            ready.push((0..2).map(|_| leased_for(hook(n))).collect());
        }
        assert_eq!(ready.try_next().map(|d| d.hook.id), Some(hook(1)));
        let mut changed = testing::hook(hook(2), "http://127.0.0.1:2/");
        changed.version = 7;
        let mut paused = testing::hook(hook(3), "http://127.0.0.1:3/");
        paused.status = HookStatus::Paused;
        // Hook 1 was deleted.
        let unsendable = ready.follow(&HookBook::of([changed, paused]));
        let hooks: Vec<_> = unsendable.iter().map(|d| d.hook.id).collect();
        assert_eq!(hooks.len(), 3);
        assert!(!hooks.contains(&hook(2)));
        assert_eq!(ready.counts(), (2, 1));
        let next = ready.try_next().map(|d| (d.hook.id, d.hook.version));
        assert_eq!(next, Some((hook(2), 7)));
        assert!(ready.try_next().is_none());
        ready.done(hook(1), true);
        ready.done(hook(2), true);
        assert_eq!(ready.try_next().map(|d| d.hook.id), Some(hook(2)));
        assert_eq!(ready.counts(), (0, 1));
    }

    #[test]
    fn a_hook_that_cannot_be_sent_to_has_no_room_until_it_changes() {
        let ready = Ready::new(1, 64);
        let mut shut_out = testing::hook(hook(1), "http://127.0.0.1:1/");
        ready.shut_out(&shut_out);
        assert!(ready.follow(&HookBook::of([shut_out.clone()])).is_empty());
        assert_eq!(ready.room().left(hook(1)), 0);
        shut_out.version += 1;
        assert!(ready.follow(&HookBook::of([shut_out])).is_empty());
        assert_eq!(ready.room().left(hook(1)), 2);
    }

    #[tokio::test]
    async fn closing_ends_every_wait_and_hands_back_what_was_not_started() {
        let ready = std::sync::Arc::new(Ready::new(1, 64));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                tokio::spawn({
                    let ready = ready.clone();
                    async move { ready.next().await.is_none() }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(ready.close().is_empty());
        for waiter in waiters {
            assert!(waiter.await.unwrap());
        }
        let ready = Ready::new(1, 64);
        ready.push((0..3).map(|_| leased_for(hook(1))).collect());
        assert!(ready.try_next().is_some());
        assert_eq!(ready.close().len(), 2);
        ready.done(hook(1), true);
        assert!(ready.next().await.is_none());
    }
}
