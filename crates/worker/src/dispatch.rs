//! Finds work: fans out new events, leases what is due, brings back what was lost.
//!
//! Nothing is leased that cannot soon be started: one kept waiting would spend its lease. New
//! events go out without a second look at the queue; what does not fit waits in the database
//! for anyone. Polling is the truth, hints only save time.
//!
//! Gated hooks are left alone until this worker owns them (`gates.rs`).

mod gates;
mod sizes;

use crate::clock::WorkerClock;
use crate::metrics::Metrics;
use crate::ready::Ready;
use crate::settings::{HookDefaults, WorkerSettings};
use crate::settle::Settler;
use gates::Asking;
use postrider_core::{Batches, HookId, HookStatus, LeaseToken, Timestamp, WorkerId};
use postrider_store::{DueHook, FanOutRequest, HookRequest, LeaseRequest, Peek, Result, Store};
use sizes::{BATCH_BYTES, fan_out_size, lease_size, share, take_turns};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tracing::{info, warn};

/// Fan-out waits for the queue to run low, but never longer than this.
const FAN_OUT_AT_LEAST_EVERY: Duration = Duration::from_millis(50);
/// Hooks read at once when looking for what is due.
const SWEEP_PAGE: u32 = 512;
/// How often the whole queue is looked over for what other processes made due.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// What a quicker call than this leased is for the hooks as they are.
const SURELY_CURRENT: Duration = Duration::from_millis(2);
/// How often the hooks that have something due are looked over for gated ones.
const OWN_EVERY: Duration = Duration::from_millis(10);
const RECOVER_EVERY: Duration = Duration::from_secs(1);
/// Each of the rarer duties takes at most this part of the time …
const DUTY_SHARE: u32 = 50;
/// … unless it would be done less often than this.
const DUTY_LEAST_OFTEN: Duration = Duration::from_secs(15);
const RECOVER_MAX: u32 = 1_000;
const UPKEEP_EVERY: Duration = Duration::from_secs(30);
const UPKEEP_MAX: u32 = 5_000;

/// What other parts of the process know of work before the database is asked.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    due: Mutex<Vec<(i16, HookId, Timestamp)>>,
    wake: Notify,
}

impl Hints {
    /// A delivery of this hook will be due at this moment.
    pub(crate) fn due(&self, slot: i16, hook: HookId, at: Timestamp) {
        self.lock().push((slot, hook, at));
    }

    /// Something was inserted into the outbox.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until something was inserted.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn take(&self) -> Vec<(i16, HookId, Timestamp)> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(i16, HookId, Timestamp)>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds work and puts it into the queue.
pub(crate) struct Dispatcher {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) settler: Arc<Settler>,
    pub(crate) worker: WorkerId,
    pub(crate) clock: Arc<dyn WorkerClock>,
    pub(crate) settings: WorkerSettings,
    pub(crate) defaults: Arc<HookDefaults>,
    pub(crate) batches: Option<Arc<dyn Batches>>,
    pub(crate) keep_events: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ready: Arc<Ready>,
    pub(crate) hints: Arc<Hints>,
    pub(crate) state: State,
}

/// What the dispatcher remembers between steps.
#[derive(Default)]
pub(crate) struct State {
    /// When the first delivery of a hook is due, as far as is known.
    due: HashMap<(i16, HookId), Timestamp>,
    /// Where the next round over the slots begins.
    turn: usize,
    /// The hooks that what is queued was last held to.
    hooks_version: i64,
    /// When to ask again for gated hooks.
    asking: Asking,
    /// The hook that was leased last from each slot: the next lease begins after it.
    leased_last: HashMap<i16, HookId>,
    /// Whether a lease got nothing although something was due: others took it, or keep it locked.
    /// The next sweep tells which.
    passed_over: bool,
    /// The largest average payload lately seen.
    payload_bytes: u64,
    /// How many deliveries an event lately made.
    deliveries_per_event: u32,
    fanned_out: Option<Instant>,
    owned: Option<Instant>,
    sweep_at: Option<Instant>,
    recover_at: Option<Instant>,
    kept_up: Option<Instant>,
}

/// What one step found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Events fanned out and deliveries leased.
    pub(crate) work: u32,
    /// Whether the outbox holds more.
    pub(crate) more: bool,
    /// Whether there was something to do that this worker may do, taken or not.
    pub(crate) waits: bool,
}

impl Dispatcher {
    /// One look for work, with the rarer duties when their time has come: what was found, and
    /// the first thing that went wrong. A duty that fails keeps no other from being done.
    pub(crate) async fn step(&mut self) -> (Found, Result<()>) {
        let mut found = Found::default();
        if !self.clock.is_steady() {
            // Nothing is looked for, so nothing is known: there may be anything.
            found.waits = true;
            return (found, Ok(()));
        }
        self.metrics
            .clock_drift_seconds
            .set(self.clock.drift_seconds());
        self.ready.note_silence();
        let looked = self.look(&mut found).await;
        let owned = i64::try_from(self.ready.owned_count()).unwrap_or(i64::MAX);
        self.metrics.hooks_owned.set(owned);
        let (queued, in_flight) = self.ready.counts();
        self.metrics.queued_deliveries.set(i64::from(queued));
        self.metrics.inflight_requests.set(i64::from(in_flight));
        (found, looked)
    }

    async fn look(&mut self, found: &mut Found) -> Result<()> {
        let mut problem = Ok(());
        if passed(&mut self.state.kept_up, UPKEEP_EVERY) {
            note(&mut problem, self.upkeep().await)?;
        }
        if is_due(self.state.recover_at) {
            let began = Instant::now();
            let recovered = self.recover().await;
            self.state.recover_at = Some(began + rest(RECOVER_EVERY, began.elapsed()));
            note(&mut problem, recovered)?;
        }
        if is_due(self.state.sweep_at) {
            let began = Instant::now();
            let swept = self.sweep().await;
            self.state.sweep_at = Some(began + rest(SWEEP_EVERY, began.elapsed()));
            note(&mut problem, swept)?;
        }
        let peek = self.timed("peek", self.store.peek()).await?;
        self.follow_hooks().await;
        found.waits |= !peek.outbox.is_empty();
        note(&mut problem, self.fan_out(&peek, found).await)?;
        self.take_hints();
        if passed(&mut self.state.owned, OWN_EVERY) {
            note(&mut problem, self.own_gates().await)?;
        }
        note(&mut problem, self.lease(&peek, found).await)?;
        problem
    }

    /// Holds what is queued to the hooks as they are now: a hook that was paused or removed is
    /// not sent to any more, a new secret signs from now on.
    async fn follow_hooks(&mut self) {
        let cache = self.store.hook_cache();
        let before = self.state.hooks_version;
        if cache.version() != before {
            self.state.hooks_version = cache.version();
            self.state.asking.follow(&cache, before);
            let lost = self.ready.follow(&cache, self.clock.now());
            self.settler.give_back(lost.deliveries).await;
            self.disown(&lost.gates).await;
        }
    }

    /// Makes the rarer duties due at the next step.
    pub(crate) fn look_over_everything(&mut self) {
        self.state = State {
            turn: self.state.turn,
            payload_bytes: self.state.payload_bytes,
            deliveries_per_event: self.state.deliveries_per_event,
            hooks_version: self.state.hooks_version,
            ..State::default()
        };
    }

    /// Fans out one batch of each slot that has rows.
    async fn fan_out(&mut self, peek: &Peek, found: &mut Found) -> Result<()> {
        if peek.outbox.is_empty() {
            return Ok(());
        }
        let low = self.ready.is_low();
        if !low && !passed(&mut self.state.fanned_out, FAN_OUT_AT_LEAST_EVERY) {
            found.more = true;
            return Ok(());
        }
        self.state.fanned_out = Some(Instant::now());
        self.state.turn = self.state.turn.wrapping_add(1);
        let slots = peek.outbox.len();
        let begin = self.state.turn;
        for n in 0..slots {
            let slot = peek.outbox[begin.wrapping_add(n) % slots];
            // If this one fails, the next round begins after it.
            self.state.turn = begin.wrapping_add(n);
            let now = self.clock.now();
            let capacity = self.ready.capacity(now);
            let (max_events, max_deliveries) =
                fan_out_size(low, capacity.total(), self.state.deliveries_per_event);
            let request = FanOutRequest {
                slot,
                now,
                token: LeaseToken::draw(now),
                until: now + self.settings.lease.get(),
                capacity,
                max_events,
                max_bytes: BATCH_BYTES,
                max_deliveries,
                deliver_before: now + self.keep_events,
                batches: self.batches.clone(),
            };
            let began = Instant::now();
            let fanned_out = self.timed("fan_out", self.store.fan_out(request)).await?;
            if fanned_out.events > 0 {
                self.state.deliveries_per_event = fanned_out.deliveries.div_ceil(fanned_out.events);
            }
            let metrics = &self.metrics;
            metrics
                .batch_rows
                .with_label_values(&["fan_out"])
                .observe(f64::from(fanned_out.events));
            metrics
                .events_fanned_out
                .inc_by(u64::from(fanned_out.events));
            metrics
                .events_duplicate
                .inc_by(u64::from(fanned_out.duplicates));
            metrics
                .events_rejected
                .inc_by(u64::from(fanned_out.rejected));
            metrics
                .filter_problems
                .inc_by(u64::from(fanned_out.filter_problems));
            if fanned_out.rejected > 0 {
                warn!(
                    rows = fanned_out.rejected,
                    "Rejected {} outbox rows that cannot be delivered; `postrider check` lists them with their reasons",
                    fanned_out.rejected
                );
            }
            for hook in &fanned_out.waiting {
                self.note_due(slot, *hook, now);
            }
            for (hook, until) in &fanned_out.gathering {
                self.note_due(slot, *hook, *until);
            }
            found.work += fanned_out.events + fanned_out.duplicates + fanned_out.rejected;
            found.more |= fanned_out.more;
            self.start(fanned_out.started, began).await?;
        }
        self.state.turn = begin;
        Ok(())
    }

    /// Remembers what this process made due.
    fn take_hints(&mut self) {
        for (slot, hook, at) in self.hints.take() {
            self.note_due(slot, hook, at);
        }
    }

    /// Leases due deliveries of the hooks that have capacity, sharing it between them.
    async fn lease(&mut self, peek: &Peek, found: &mut Found) -> Result<()> {
        let mut problem = Ok(());
        let candidates = self.candidates(peek);
        let waits = self.state.passed_over || self.may_start(&candidates);
        found.waits |= found.work > 0 || waits;
        for (slot, hooks) in candidates {
            let leased = self.lease_slot(slot, hooks).await;
            found.work += *leased.as_ref().unwrap_or(&0);
            note(&mut problem, leased.map(|_| ()))?;
        }
        problem
    }

    /// The hooks that have something due and may be sent to, by slot.
    fn candidates(&self, peek: &Peek) -> BTreeMap<i16, BTreeSet<HookId>> {
        let now = self.clock.now();
        let cache = self.store.hook_cache();
        let mut candidates: BTreeMap<i16, BTreeSet<HookId>> = BTreeMap::new();
        let cache_is_old = cache.version() < peek.hooks_version;
        let owned = self.ready.startable_gates(now);
        for ((slot, hook), at) in &self.state.due {
            let may_run = match cache.get(*hook) {
                Some(known) => {
                    let active = known.status == HookStatus::Active && !known.locked;
                    (active || cache_is_old) && (!known.is_gated() || owned.contains(hook))
                }
                None => cache_is_old,
            };
            if *at <= now && may_run {
                candidates.entry(*slot).or_default().insert(*hook);
            }
        }
        candidates
    }

    /// Whether any of these hooks is one that this worker would start something of: it has capacity
    /// for it, or no capacity for anything, which an end of what is in flight must make.
    fn may_start(&self, candidates: &BTreeMap<i16, BTreeSet<HookId>>) -> bool {
        if candidates.is_empty() {
            return false;
        }
        let capacity = self.ready.capacity(self.clock.now());
        let mut hooks = candidates.values().flatten();
        capacity.total() == 0 || hooks.any(|hook| capacity.left(*hook) > 0)
    }

    /// Leases due deliveries of these hooks of one slot, as many as there is capacity for; returns
    /// how many.
    async fn lease_slot(&mut self, slot: i16, hooks: BTreeSet<HookId>) -> Result<u32> {
        let now = self.clock.now();
        let capacity = self.ready.capacity(now);
        let with_capacity_left = hooks.into_iter().filter(|hook| capacity.left(*hook) > 0);
        let last = self.state.leased_last.get(&slot).copied();
        let most = lease_size(self.state.payload_bytes);
        let in_turn = take_turns(with_capacity_left.collect(), last, most as usize);
        let Some(last) = in_turn.last().copied() else {
            return Ok(0);
        };
        self.state.leased_last.insert(slot, last);
        let wanted = share(&in_turn, &capacity, most);
        let request = LeaseRequest {
            slot,
            now,
            token: LeaseToken::draw(now),
            until: now + self.settings.lease.get(),
            worker: self.worker,
            wanted: wanted.clone(),
            batches: self.batches.clone(),
        };
        let began = Instant::now();
        let leased = self.timed("lease", self.store.lease(request)).await?;
        let mut got: HashMap<HookId, u32> = HashMap::new();
        for delivery in &leased {
            *got.entry(delivery.hook.id).or_default() += 1;
        }
        for (hook, limit) in wanted {
            // Fewer than asked for: nothing more is due, and the sweep tells what will be.
            if got.get(&hook).copied().unwrap_or(0) < limit {
                self.state.due.remove(&(slot, hook));
            }
        }
        let count = leased.len() as u32;
        self.state.passed_over |= count == 0;
        self.metrics
            .batch_rows
            .with_label_values(&["lease"])
            .observe(leased.iter().flat_map(HookRequest::ids).count() as f64);
        self.note_sizes(&leased);
        self.start(leased, began).await?;
        Ok(count)
    }

    /// Queues what was leased by a call that began then. While a long call is made other workers
    /// may back a hook off; its deliveries are given back instead of being started all at once.
    async fn start(&mut self, mut leased: Vec<HookRequest>, began: Instant) -> Result<()> {
        let mut looked = Ok(());
        if !leased.is_empty() && began.elapsed() > SURELY_CURRENT {
            looked = self.timed("peek", self.store.peek()).await.map(|_| ());
            let cache = self.store.hook_cache();
            let owned = self.ready.startable_gates(self.clock.now());
            let mut verdicts = HashMap::new();
            let mut is_current = |leased: &HookRequest| {
                let hook = &leased.hook;
                *verdicts.entry(hook.id).or_insert_with(|| {
                    cache
                        .get(hook.id)
                        .is_some_and(|now| !now.is_gated() || owned.contains(&now.id))
                })
            };
            let outdated;
            (leased, outdated) = leased.into_iter().partition(|leased| is_current(leased));
            if !outdated.is_empty() {
                self.settler.give_back(outdated).await;
            }
        }
        self.ready.push(leased);
        looked
    }

    /// Looks over all hooks that have something waiting, a page at a time.
    async fn sweep(&mut self) -> Result<()> {
        for slot in self.timed("peek", self.store.slots()).await? {
            let mut seen = BTreeSet::new();
            let mut after = None;
            loop {
                let call = self.store.due_hooks(slot, after, SWEEP_PAGE);
                let page = self.timed("peek", call).await?;
                for DueHook { hook, first_due } in &page {
                    seen.insert(*hook);
                    self.state.due.insert((slot, *hook), *first_due);
                }
                match page.last() {
                    Some(last) if page.len() as u32 == SWEEP_PAGE => after = Some(last.hook),
                    _ => break,
                }
            }
            self.state
                .due
                .retain(|(of, hook), _| *of != slot || seen.contains(hook));
        }
        self.state.passed_over = false;
        Ok(())
    }

    /// Brings back what lost leases held.
    async fn recover(&mut self) -> Result<()> {
        for slot in self.timed("recover", self.store.slots()).await? {
            loop {
                let now = self.clock.now();
                let schedules = &*self.defaults;
                let call = self.store.recover(slot, now, RECOVER_MAX, schedules);
                let recovered = self.timed("recover", call).await?;
                let total = recovered.recovered + recovered.worker_lost;
                self.metrics.leases_expired.inc_by(u64::from(total));
                self.metrics.workers_lost(recovered.worker_lost);
                if total > 0 {
                    info!(
                        deliveries = total,
                        "Brought back {total} deliveries whose lease ran out without a settlement"
                    );
                    self.state.sweep_at = None;
                }
                if total < RECOVER_MAX {
                    break;
                }
            }
        }
        Ok(())
    }

    /// One turn of upkeep; what is left is for the next step, so that work goes on in between.
    async fn upkeep(&mut self) -> Result<()> {
        let call = self.store.upkeep(self.clock.now(), UPKEEP_MAX);
        let upkeep = self.timed("upkeep", call).await?;
        if upkeep.cancelled > 0 {
            info!(
                deliveries = upkeep.cancelled,
                "Cancelled {} deliveries of deleted hooks", upkeep.cancelled
            );
        }
        if upkeep.more {
            self.state.kept_up = None;
        }
        Ok(())
    }

    /// Remembers the earlier of two moments.
    fn note_due(&mut self, slot: i16, hook: HookId, at: Timestamp) {
        let known = self.state.due.entry((slot, hook)).or_insert(at);
        *known = (*known).min(at);
    }

    /// Remembers how large payloads are, so that a batch of large ones stays small.
    fn note_sizes(&mut self, started: &[HookRequest]) {
        if started.is_empty() {
            return;
        }
        let bytes: usize = started.iter().map(HookRequest::payload_bytes).sum();
        let average = bytes as u64 / started.len() as u64;
        self.state.payload_bytes = average.max(self.state.payload_bytes * 7 / 8).max(1);
    }

    async fn timed<T>(&self, operation: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let timer = self
            .metrics
            .store_seconds
            .with_label_values(&[operation])
            .start_timer();
        let result = call.await;
        timer.observe_duration();
        if result.is_err() {
            self.metrics
                .store_errors
                .with_label_values(&[operation])
                .inc();
        }
        result
    }
}

/// Whether the time of a rarer duty has come.
fn is_due(at: Option<Instant>) -> bool {
    at.is_none_or(|at| at <= Instant::now())
}

/// From the beginning of a rarer duty that took so long to its next one. While a transaction
/// that stays open keeps dead rows in the indexes these duties step over all of them: then they
/// are done less often, so that they never take more than a small part of the time.
fn rest(every: Duration, took: Duration) -> Duration {
    (took * DUTY_SHARE).min(DUTY_LEAST_OFTEN).max(every)
}

/// Whether `every` has passed since `last`, which is then set to now.
fn passed(last: &mut Option<Instant>, every: Duration) -> bool {
    let now = Instant::now();
    let due = last.is_none_or(|last| now.saturating_duration_since(last) >= every);
    if due {
        *last = Some(now);
    }
    due
}

/// Keeps the first problem in mind. Returns it at once when the database did not answer at all:
/// then nothing else needs to be tried.
fn note(first: &mut Result<()>, result: Result<()>) -> Result<()> {
    match result {
        Err(problem) if problem.is_no_answer() => Err(problem),
        Err(problem) if first.is_ok() => {
            *first = Err(problem);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duty_that_takes_long_is_done_less_often() {
        let ms = Duration::from_millis;
        let rests = [1, 100, 60_000].map(|took| rest(ms(500), ms(took)));
        assert_eq!(rests, [ms(500), ms(5_000), ms(15_000)]);
    }
}
