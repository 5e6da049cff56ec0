//! Finds work: fans out new events, leases due deliveries, recovers lost leases.
//!
//! Only what can start soon is leased, because a lease runs out in the queue. New events are
//! sent without a second look at the database; a delivery that exceeds the capacity stays in the
//! database for any worker. Polling finds everything, hints only save time.
//!
//! Gated hooks are skipped until this worker owns them (`gates.rs`).

mod due_times;
mod duties;
mod fan_out;
mod gates;
mod lease;
mod sizes;
mod state;

use crate::admission::Admission;
use crate::clock::WorkerClock;
use crate::hints::Hints;
use crate::metrics::Metrics;
use crate::prepared_hooks::PreparedHooks;
use crate::settings::{HookDefaults, WorkerSettings};
use crate::settle::Settler;
use crate::tuning::DispatchTuning;
use postrider_core::{Batches, HookId, MonotonicClock, Timestamp, WorkerId};
use postrider_store::{Error, Result, Store};
use state::note;
pub(crate) use state::{DispatchState, StepResult};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Finds work and queues it for the senders.
pub(crate) struct Dispatcher {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) settler: Arc<Settler>,
    pub(crate) worker: WorkerId,
    pub(crate) clock: Arc<dyn WorkerClock>,
    pub(crate) monotonic: Arc<dyn MonotonicClock>,
    pub(crate) settings: WorkerSettings,
    pub(crate) tuning: DispatchTuning,
    pub(crate) defaults: Arc<HookDefaults>,
    pub(crate) batches: Option<Arc<dyn Batches>>,
    /// How long events are kept: nothing may be due later than this after now.
    pub(crate) keep_events: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) hints: Arc<Hints>,
    pub(crate) prepared: Arc<PreparedHooks>,
    pub(crate) state: DispatchState,
}

impl Dispatcher {
    /// Looks for work once, and does the rarer duties that are due. Returns what was found, and
    /// the first error: a duty that fails does not keep the others from being done.
    pub(crate) async fn step(&mut self) -> (StepResult, Result<()>) {
        let mut found = StepResult::default();
        if !self.clock.is_steady() {
            // Nothing is looked for, so there may be work.
            found.waits = true;
            return (found, Ok(()));
        }
        self.admission.refresh();
        let looked = self.look(&mut found).await;
        self.metrics.show_dispatch(
            self.clock.drift_seconds(),
            self.admission.owned_count(),
            self.admission.counts(),
        );
        (found, looked)
    }

    /// The order matters. The duties come first, because they find work for this very step. The
    /// peek brings the hook cache up to date, so it is applied to queued deliveries before anything
    /// is added, and fan-out comes before leasing, because new events are the cheaper work.
    async fn look(&mut self, found: &mut StepResult) -> Result<()> {
        let mut problem = Ok(());
        self.do_duties(&mut problem).await?;
        let peek = self.timed("peek", self.store.peek()).await?;
        self.follow_hooks().await;
        self.settler.give_back(self.admission.take_surplus()).await;
        found.waits |= !peek.outbox.is_empty();
        note(&mut problem, self.fan_out(&peek, found).await)?;
        self.take_hints();
        let now = self.monotonic.instant();
        if self.state.owned.passed(now, self.tuning.own_every) {
            note(&mut problem, self.own_gates().await)?;
        }
        note(&mut problem, self.lease(&peek, found).await)?;
        problem
    }

    /// Applies changed hooks to queued deliveries: nothing more is sent to a hook that was paused
    /// or removed, and a new secret signs from now on.
    async fn follow_hooks(&mut self) {
        let cache = self.store.hook_cache();
        let before = self.state.hooks_version;
        if cache.version() != before {
            self.state.hooks_version = cache.version();
            self.state.ownership_retries.follow(&cache, before);
            let now = self.clock.now();
            self.prepared.follow(&cache, now);
            let revoked = self.admission.follow(&cache, now);
            self.settler.give_back(revoked.deliveries).await;
            self.disown(&revoked.gates).await;
        }
    }

    /// Makes the rarer duties due at the next step.
    pub(crate) fn look_over_everything(&mut self) {
        self.state.forget_when();
    }

    /// Remembers what other parts of this process made due.
    fn take_hints(&mut self) {
        for (slot, hook, at) in self.hints.take() {
            self.note_due(slot, hook, at);
        }
    }

    /// Remembers when a delivery of a hook is due.
    fn note_due(&mut self, slot: i16, hook: HookId, at: Timestamp) {
        self.state.due.note(slot, hook, at, self.clock.now());
    }

    /// Makes a call of the store: bounded, measured, and visible while it is in progress.
    async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let progress = &self.settler.progress;
        let in_progress = progress.call(operation);
        let began = self.monotonic.instant();
        let longest = self.tuning.longest_call;
        let result = match timeout(longest, call).await {
            Ok(result) => result,
            Err(_) => Err(Error::overdue(longest)),
        };
        drop(in_progress);
        progress.sign_of_life();
        let took = self.monotonic.instant() - began;
        self.metrics.store_called(operation, took, result.is_ok());
        result
    }
}
