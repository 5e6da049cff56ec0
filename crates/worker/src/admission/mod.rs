//! Admission: which leased delivery may start now, and how much more may be leased.
//!
//! [`Admission`] stands between the dispatcher, which leases deliveries, and the senders, which
//! attempt them. It has a queue for each hook, and hooks take turns. A lease runs out in the
//! queue, so no more is leased than can start soon.
//!
//! A hook is one state machine ([`hook::HookAdmission`]). Whether its next delivery may start is
//! one question ([`state::AdmissionState::may_start`]), whose answer names what blocks it
//! ([`blocked::Blocked`]). Its limiters:
//!
//! | limiter | bounds | for | where | why | measured by |
//! | --- | --- | --- | --- | --- | --- |
//! | turns | who is next: accounts in turn, then their hooks | all hooks | `accounts.rs` | a hook with a long queue, or an account with many hooks, does not delay others | `isolation` |
//! | account share | requests in flight of one account, while another waits: half of all places | an account | `state.rs` | one tenant does not keep all places | `isolation` |
//! | cap | requests in flight: `worker.per_hook`, or the hook's own limit | a hook | `hook.rs`, `gate.rs` | one receiver does not take all places | `isolation` |
//! | gate | leases and requests in flight: one probe, a ramp, tokens of a rate | a gated hook, by its owner | `gate.rs` | a hook recovers without a storm, in all workers together | `tests/it/back_off.rs`, `rate.rs` |
//! | recent record | requests in flight of a hook that is unproven, or whose failures are unrecorded | a hook | `record.rs` | a dead receiver costs a few requests, not its whole cap | `tests/it/back_off.rs`, `sick` |
//! | outdated hook | requests of a hook that was just backed off | a hook | `hook.rs` | nothing more goes to it until what is queued is given back | `tests/it/back_off.rs` |
//! | slow share | requests in flight to slow hooks: half of all places, the account with the fewest first | all slow hooks | `state.rs` | receivers that hang or are slow leave places to others | `isolation` |
//! | concurrency limit | requests in flight that occupy a processor | all hooks that answer quickly | `concurrency_limit.rs` | more in flight than the processors serve is slower | `throughput` |
//! | window | leases: twice the cap, more for a hook that takes them quickly, none ahead for a slow one | a hook | `window.rs` | quick hooks are fed in large batches, slow ones waste no leases | `throughput`, `isolation` |
//! | queue | leases: deliveries and bytes queued | all hooks | `state/capacity.rs` | memory | none |
//! | doubtful share | leases: half of the queue, for hooks that are not known to be quick | all doubtful hooks | `state/capacity.rs` | hooks that hang, however many, leave room in the queue to others | `admission/tests/shares.rs` |
//! | local fault | requests in flight: one after a second, after one that could not be tried here | a hook | `hook.rs` | what is wrong with this machine holds few places | `admission/tests/shares.rs` |
//! | low water | when to lease more: half of the windows of the hooks that move | all hooks | `state.rs` | senders do not run dry, batches stay large | `throughput`, `steady` |
//!
//! A hook is *slow* if its last answer is long ago or unknown, if it has left several requests in
//! a row, or all of them for a second, unanswered, if its answers take longer than a second, or if it
//! is backed off. It stays slow until it answers quickly. It is *doubtful* while it is not known to
//! serve requests, and quickly: what is queued for it may stay. Requests to a hook that has answered
//! nothing for a moment *wait remotely*: they occupy places, and no processor. Every number is in
//! [`crate::tuning`].

mod accounts;
mod attempt_end;
mod blocked;
mod concurrency_limit;
mod gate;
mod hook;
mod hook_queue;
mod ownership;
#[cfg(test)]
mod properties;
mod record;
mod state;
#[cfg(test)]
mod tests;
mod window;

use crate::settings::HookDefaults;
use crate::tuning::{ConcurrencyTuning, Tuning};
pub(crate) use attempt_end::AttemptEnd;
#[cfg(test)]
use blocked::Blocked;
pub(crate) use hook::{OwnedHook, RecordedAttempts};
use postrider_core::{Hook, HookId, MonotonicClock, Timestamp};
use postrider_store::{Capacity, HookCache, HookPhase, HookRequest};
use state::AdmissionState;
pub(crate) use state::Revoked;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;

/// The queue between the dispatcher and the senders, and what may leave it.
#[derive(Debug)]
pub(crate) struct Admission {
    clock: Arc<dyn MonotonicClock>,
    defaults: Arc<HookDefaults>,
    concurrency: ConcurrencyTuning,
    state: Mutex<AdmissionState>,
    /// Wakes one sender: a delivery may start.
    startable: Notify,
    /// Wakes the dispatcher: the queue is low.
    low: Notify,
    /// Wakes the sampling of the concurrency limit, when only that limit blocks a delivery.
    full: Notify,
}

impl Admission {
    /// An empty queue for `places` senders. A hook has at most `per_hook` in flight, unless it
    /// sets its own cap, and is backed off as `defaults`, its profile or the hook itself says.
    pub(crate) fn new(
        per_hook: u32,
        places: u32,
        defaults: Arc<HookDefaults>,
        tuning: Tuning,
        clock: Arc<dyn MonotonicClock>,
    ) -> Self {
        Self {
            clock,
            defaults,
            concurrency: tuning.concurrency,
            state: Mutex::new(AdmissionState::new(per_hook, places, tuning)),
            startable: Notify::new(),
            low: Notify::new(),
            full: Notify::new(),
        }
    }

    /// Queues what was leased.
    pub(crate) fn push(&self, leased: Vec<HookRequest>) {
        self.update(|state, now| {
            for delivery in leased {
                let back_off_after = self.defaults.back_off_after(&delivery.hook);
                state.push(delivery, back_off_after, now);
            }
        });
    }

    /// The next delivery to send, in turn over the hooks, counted as in flight until
    /// [`ended`](Self::ended); `None` when none may start now.
    pub(crate) fn try_next(&self) -> Option<HookRequest> {
        let (delivery, is_low) = self.update(|state, now| {
            let delivery = state.start_next(now)?;
            Some((delivery, state.is_low()))
        })?;
        if is_low {
            self.low.notify_one();
        }
        Some(delivery)
    }

    /// Waits for the next delivery to send; `None` once the queue is closed.
    pub(crate) async fn next(&self) -> Option<HookRequest> {
        loop {
            if self.lock().is_closed() {
                // Pass it on, so that every sender learns it.
                self.startable.notify_one();
                return None;
            }
            if let Some(delivery) = self.try_next() {
                return Some(delivery);
            }
            self.startable.notified().await;
        }
    }

    /// The time by the clock of this queue.
    pub(crate) fn now(&self) -> Instant {
        self.clock.instant()
    }

    /// An attempt for `hook` that began at `began` has ended.
    pub(crate) fn ended(&self, hook: HookId, end: AttemptEnd, began: Instant) {
        self.update(|state, now| {
            let held = now.saturating_duration_since(began);
            state.ended(hook, end, held, now);
        });
    }

    /// Attempts of these hooks were recorded; `phases` says which of them are held back now, or
    /// have just recovered.
    pub(crate) fn recorded(
        &self,
        recorded: &HashMap<HookId, RecordedAttempts>,
        phases: &[HookPhase],
    ) {
        let phases: HashMap<_, _> = phases.iter().map(|phase| (phase.hook, phase)).collect();
        self.update(|state, now| {
            for (hook, recorded) in recorded {
                state.recorded(*hook, *recorded, phases.get(hook).copied(), now);
            }
        });
    }

    /// Gives turns to hooks whose block ended by the passing of time. Must be called regularly.
    pub(crate) fn refresh(&self) {
        self.update(|state, now| state.refresh(now));
    }

    /// How much more may be leased now.
    pub(crate) fn capacity(&self, at: Timestamp) -> Capacity {
        self.update(|state, now| state.capacity(at, now))
    }

    /// This worker cannot send to the hook as it is: nothing more is leased for it until it
    /// changes.
    pub(crate) fn shut_out(&self, hook: &Hook) {
        self.update(|state, now| state.shut_out(hook, now));
    }

    /// Takes over the hooks as they are in the hook cache. Returns the deliveries of hooks that
    /// are not active or that another worker owns, and the hooks that are not gated any more.
    pub(crate) fn follow(&self, cache: &HookCache, at: Timestamp) -> Revoked {
        self.update(|state, now| state.follow(cache, at, now))
    }

    /// Takes out of the queue what hooks that have become slow have more than their share of. It is
    /// to be given back.
    pub(crate) fn take_surplus(&self) -> Vec<HookRequest> {
        self.update(|state, now| state.take_surplus(now))
    }

    /// Whether so little is queued that the senders may soon have nothing to start.
    pub(crate) fn is_low(&self) -> bool {
        self.lock().is_low()
    }

    /// Waits until the queue is low.
    pub(crate) async fn until_low(&self) {
        while !self.is_low() {
            self.low.notified().await;
        }
    }

    /// How many deliveries are queued and how many are in flight.
    pub(crate) fn counts(&self) -> (u32, u32) {
        self.lock().counts()
    }

    /// Ends [`next`](Self::next) for every sender, and hands back what was not started.
    pub(crate) fn close(&self) -> Vec<HookRequest> {
        let unstarted = self.update(|state, _| state.close());
        self.startable.notify_one();
        unstarted
    }

    /// Adjusts the concurrency limit, for ever: takes samples of how long a task that could run
    /// waits for its turn, while the limit alone keeps deliveries from starting.
    pub(crate) async fn adjust_concurrency(&self) {
        loop {
            self.full.notified().await;
            loop {
                let began = self.clock.instant();
                yield_now().await;
                let waited = self.clock.instant() - began;
                if !self.update(|state, now| state.weigh(waited, now)) {
                    break;
                }
                sleep(self.concurrency.sample_every).await;
            }
        }
    }

    /// Changes the state, and wakes the tasks that wait for the change.
    fn update<T>(&self, change: impl FnOnce(&mut AdmissionState, Instant) -> T) -> T {
        let now = self.clock.instant();
        let mut state = self.lock();
        let result = change(&mut state, now);
        #[cfg(debug_assertions)]
        state.check();
        let (has_turns, is_full) = (state.has_turns(), state.is_full());
        drop(state);
        match (has_turns, is_full) {
            (true, false) => self.startable.notify_one(),
            (true, true) => self.full.notify_one(),
            (false, _) => {}
        }
        result
    }

    /// Whether the next delivery of `hook` may start now.
    #[cfg(test)]
    fn may_start(&self, hook: HookId) -> Result<(), Blocked> {
        self.lock().may_start(hook, self.clock.instant())
    }

    fn lock(&self) -> MutexGuard<'_, AdmissionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
