//! Finds work: fans out new events, leases what is due, brings back what was lost.
//!
//! Nothing is leased that cannot soon be started: one kept waiting would spend its lease. New
//! events go out without a second look at the queue; what does not fit waits in the database
//! for anyone. Polling is the truth, hints only save time.

use crate::clock::WorkerClock;
use crate::metrics::Metrics;
use crate::ready::Ready;
use crate::settings::{HookDefaults, WorkerSettings};
use postrider_core::{HookId, HookStatus, LeaseToken, Timestamp};
use postrider_store::{DueHook, FanOut, Lease, Peek, Result, Room, Store};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tracing::{info, warn};

/// Outbox rows taken at once at most, and bytes of their payloads.
const FAN_OUT_EVENTS: u32 = 1_000;
const FAN_OUT_BYTES: u64 = 8 * 1024 * 1024;
/// Deliveries made at once at most.
const FAN_OUT_DELIVERIES: u32 = 10_000;
/// Fan-out waits for the queue to run low, but never longer than this.
const FAN_OUT_AT_LEAST_EVERY: Duration = Duration::from_millis(50);
/// Hooks asked for in one lease at most, and how many deliveries.
const LEASE_HOOKS: usize = 256;
const LEASE_MAX: u32 = 1_000;
/// Hooks read at once when looking for what is due.
const SWEEP_PAGE: u32 = 512;
/// How often the whole queue is looked over for what other processes made due.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
const RECOVER_EVERY: Duration = Duration::from_secs(1);
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
    pub(crate) clock: Arc<dyn WorkerClock>,
    pub(crate) settings: WorkerSettings,
    pub(crate) defaults: Arc<HookDefaults>,
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
    fanned_out: Option<Instant>,
    swept: Option<Instant>,
    recovered: Option<Instant>,
    kept_up: Option<Instant>,
}

/// What one step found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Events fanned out and deliveries leased.
    pub(crate) work: u32,
    /// Whether the outbox holds more.
    pub(crate) more: bool,
}

impl Dispatcher {
    /// One look for work, with the rarer duties when their time has come.
    pub(crate) async fn step(&mut self) -> Result<Found> {
        let mut found = Found::default();
        if !self.clock.is_steady() {
            return Ok(found);
        }
        self.metrics
            .clock_drift_milliseconds
            .set((self.clock.drift_seconds() * 1e3) as i64);
        if passed(&mut self.state.kept_up, UPKEEP_EVERY) {
            self.upkeep().await?;
        }
        if passed(&mut self.state.recovered, RECOVER_EVERY) {
            self.recover().await?;
        }
        if passed(&mut self.state.swept, SWEEP_EVERY) {
            self.sweep().await?;
        }
        let peek = self.timed("peek", self.store.peek()).await?;
        self.fan_out(&peek, &mut found).await?;
        self.lease(&peek, &mut found).await?;
        let (queued, in_flight) = self.ready.counts();
        self.metrics.queued_deliveries.set(i64::from(queued));
        self.metrics.inflight_requests.set(i64::from(in_flight));
        Ok(found)
    }

    /// Makes the rarer duties due at the next step.
    pub(crate) fn look_over_everything(&mut self) {
        self.state = State {
            turn: self.state.turn,
            ..State::default()
        };
    }

    /// Fans out one batch of each slot that has rows.
    async fn fan_out(&mut self, peek: &Peek, found: &mut Found) -> Result<()> {
        if peek.outbox.is_empty() {
            return Ok(());
        }
        if !self.ready.is_low() && !passed(&mut self.state.fanned_out, FAN_OUT_AT_LEAST_EVERY) {
            found.more = true;
            return Ok(());
        }
        self.state.fanned_out = Some(Instant::now());
        self.state.turn = self.state.turn.wrapping_add(1);
        let slots = peek.outbox.len();
        for n in 0..slots {
            let slot = peek.outbox[(n + self.state.turn) % slots];
            let now = self.clock.now();
            let request = FanOut {
                slot,
                now,
                token: LeaseToken::draw(now),
                until: now + self.settings.lease.get(),
                room: self.ready.room(),
                max_events: FAN_OUT_EVENTS,
                max_bytes: FAN_OUT_BYTES,
                max_deliveries: FAN_OUT_DELIVERIES,
                deliver_before: now + self.keep_events,
            };
            let fanned_out = self.timed("fan_out", self.store.fan_out(request)).await?;
            let metrics = &self.metrics;
            metrics
                .events_fanned_out
                .inc_by(u64::from(fanned_out.events));
            metrics
                .events_duplicate
                .inc_by(u64::from(fanned_out.duplicates));
            metrics
                .events_rejected
                .inc_by(u64::from(fanned_out.rejected));
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
            found.work += fanned_out.events + fanned_out.duplicates + fanned_out.rejected;
            found.more |= fanned_out.more;
            self.ready.push(fanned_out.started);
        }
        Ok(())
    }

    /// Leases due deliveries of the hooks that have room, sharing it between them.
    async fn lease(&mut self, peek: &Peek, found: &mut Found) -> Result<()> {
        for (slot, hook, at) in self.hints.take() {
            self.note_due(slot, hook, at);
        }
        let now = self.clock.now();
        let room = self.ready.room();
        let mut candidates = Vec::new();
        let book = self.store.hooks_book();
        let book_is_old = book.version() != peek.hooks_version;
        for ((slot, hook), at) in &self.state.due {
            let may_run = book_is_old
                || book
                    .get(*hook)
                    .is_some_and(|hook| hook.status == HookStatus::Active && !hook.locked);
            if *at <= now && may_run && room.left(*hook) > 0 {
                candidates.push((*at, *slot, *hook));
            }
        }
        candidates.sort_unstable();
        let mut by_slot: BTreeMap<i16, Vec<(HookId, u32)>> = BTreeMap::new();
        for (_, slot, hook) in candidates {
            by_slot
                .entry(slot)
                .or_default()
                .push((hook, room.left(hook)));
        }
        for (slot, mut wanted) in by_slot {
            share(&mut wanted, &room);
            let now = self.clock.now();
            let request = Lease {
                slot,
                now,
                token: LeaseToken::draw(now),
                until: now + self.settings.lease.get(),
                wanted: wanted.clone(),
            };
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
            found.work += leased.len() as u32;
            self.ready.push(leased);
        }
        Ok(())
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
        Ok(())
    }

    /// Brings back what lost leases held.
    async fn recover(&mut self) -> Result<()> {
        for slot in self.timed("recover", self.store.slots()).await? {
            loop {
                let now = self.clock.now();
                let schedule = &self.defaults.retry_schedule;
                let call = self.store.recover(slot, now, RECOVER_MAX, schedule);
                let recovered = self.timed("recover", call).await?;
                let total = recovered.recovered + recovered.worker_lost;
                self.metrics.leases_expired.inc_by(u64::from(total));
                self.metrics
                    .attempts
                    .with_label_values(&["worker_lost"])
                    .inc_by(u64::from(recovered.worker_lost));
                if total > 0 {
                    info!(
                        deliveries = total,
                        "Brought back {total} deliveries whose lease ran out without a settlement"
                    );
                    self.state.swept = None;
                }
                if total < RECOVER_MAX {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn upkeep(&mut self) -> Result<()> {
        loop {
            let call = self.store.upkeep(self.clock.now(), UPKEEP_MAX);
            let upkeep = self.timed("upkeep", call).await?;
            if upkeep.cancelled > 0 {
                info!(
                    deliveries = upkeep.cancelled,
                    "Cancelled {} deliveries of deleted hooks", upkeep.cancelled
                );
            }
            if !upkeep.more {
                return Ok(());
            }
        }
    }

    /// Remembers the earlier of two moments.
    fn note_due(&mut self, slot: i16, hook: HookId, at: Timestamp) {
        let known = self.state.due.entry((slot, hook)).or_insert(at);
        *known = (*known).min(at);
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

/// Whether `every` has passed since `last`, which is then set to now.
fn passed(last: &mut Option<Instant>, every: Duration) -> bool {
    let now = Instant::now();
    let due = last.is_none_or(|last| now.saturating_duration_since(last) >= every);
    if due {
        *last = Some(now);
    }
    due
}

/// Cuts what is wanted down to one lease: at most so many hooks, and the room shared between
/// them.
fn share(wanted: &mut Vec<(HookId, u32)>, room: &Room) {
    wanted.truncate(LEASE_HOOKS);
    let total = room.total().min(LEASE_MAX);
    let each = (total / wanted.len().max(1) as u32).max(1);
    for (_, limit) in wanted {
        *limit = (*limit).min(each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn the_room_is_shared_between_hooks() {
        let hook = |n| HookId(Uuid::from_u128(n));
        let mut wanted = vec![(hook(1), 500), (hook(2), 3)];
        share(&mut wanted, &Room::new(100, 500));
        assert_eq!(wanted, [(hook(1), 50), (hook(2), 3)]);
        let mut many: Vec<_> = (0..1_000).map(|n| (hook(n), 10)).collect();
        share(&mut many, &Room::new(100, 10));
        assert_eq!(many.len(), LEASE_HOOKS);
        assert!(many.iter().all(|(_, limit)| *limit == 1));
    }
}
