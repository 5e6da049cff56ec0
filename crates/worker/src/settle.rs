//! Writes the results of attempts to the store, in batches.
//!
//! A batch is whatever has gathered while those before were written: one attempt when little
//! happens, hundreds in one transaction under load. A database that does not answer is asked
//! again until it does: what was sent must be recorded, or it is sent again.

use crate::admission::{Admission, RecordedAttempts};
use crate::hints::Hints;
use crate::last_answers::LastAnswers;
use crate::metrics::Metrics;
use crate::send::Sent;
use crate::watchdog::Progress;
use backon::{ExponentialBuilder, Retryable};
use postrider_core::{Clock, DeliveryId, LeaseToken, Phase};
use postrider_store::{HookRequest, Result, SettleResult, Settlement, Step, Store};
use std::collections::{BTreeMap, HashMap};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// Batches written at the same time.
const WRITING_MAX: usize = 2;
/// The number of settlements from which a second batch is written beside the first.
const BATCH_GOOD: usize = 256;
/// Deliveries settled in one transaction at most, unless one request has more.
const BATCH_MAX: usize = 1_000;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Writes settlements and gives back leases.
pub(crate) struct Settler {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) hints: Arc<Hints>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) latest: Arc<LastAnswers>,
}

impl Settler {
    /// Settles until the channel is closed and empty. What has come in is written at once when
    /// nothing is being written; while something is, it gathers, and a good batch is written
    /// beside it.
    pub(crate) async fn run(self: Arc<Self>, mut sent: mpsc::Receiver<Sent>) {
        let mut writing = JoinSet::new();
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let capacity = BATCH_MAX - batch.len();
            tokio::select! {
                received = sent.recv_many(&mut batch, capacity), if capacity > 0 => {
                    if received == 0 {
                        break;
                    }
                }
                Some(written) = writing.join_next() => {
                    if let Err(ended) = written {
                        // Nothing more would be recorded: the worker must not go on sending.
                        resume_unwind(ended.into_panic());
                    }
                }
            }
            let waits = match writing.len() {
                0 => batch.is_empty(),
                n => n >= WRITING_MAX || batch.len() < BATCH_GOOD,
            };
            if !waits {
                let batch = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_MAX));
                let settler = self.clone();
                writing.spawn(async move { settler.settle(batch).await });
            }
        }
        writing.join_all().await;
        self.settle(batch).await;
    }

    /// Settles one batch, however long the database takes.
    pub(crate) async fn settle(&self, batch: Vec<Sent>) {
        let mut by_slot: BTreeMap<i16, Vec<Settlement>> = BTreeMap::new();
        let (mut unused, mut not_tried) = (Vec::new(), Vec::new());
        for sent in batch {
            match sent {
                Sent::Settle(settlement) => {
                    let slot = settlement.request.lease.slot;
                    by_slot.entry(slot).or_default().push(settlement);
                }
                Sent::GiveBack(leased) | Sent::CannotSend(leased) => unused.push(leased),
                Sent::NotTried(leased) => not_tried.push(leased),
            }
        }
        for settlements in by_slot.into_values() {
            for part in in_parts(&settlements, BATCH_MAX) {
                self.settle_slot(part).await;
            }
        }
        self.give_back(unused).await;
        // Why they were not tried is already logged.
        self.release_all(not_tried).await;
    }

    async fn settle_slot(&self, settlements: &[Settlement]) {
        let timer = self
            .metrics
            .store_seconds
            .with_label_values(&["settle"])
            .start_timer();
        let deliveries = deliveries_of(settlements);
        let write = || async {
            let _in_progress = self.progress.call("settle");
            self.store.settle(self.clock.now(), settlements).await
        };
        let patience = ExponentialBuilder::default()
            .with_min_delay(RETRY_FIRST)
            .with_max_delay(RETRY_MAX)
            .with_jitter()
            .without_max_times();
        let settled = write
            .retry(patience)
            .notify(|problem, wait| {
                self.metrics
                    .store_errors
                    .with_label_values(&["settle"])
                    .inc();
                warn!(
                    settlements = deliveries,
                    "Could not record {deliveries} attempts, trying again in {wait:.1?}: {problem}"
                );
            })
            .await;
        let Ok(settled) = settled else {
            // Never reached, because retrying does not end. The leases would expire.
            return;
        };
        timer.observe_duration();
        self.metrics
            .batch_rows
            .with_label_values(&["settle"])
            .observe(deliveries as f64);
        self.progress.moved();
        let mut recorded: HashMap<_, RecordedAttempts> = HashMap::new();
        for settlement in settlements {
            let of_hook = recorded.entry(settlement.request.hook.id).or_default();
            of_hook.attempts += 1;
            let outcome = &settlement.attempt().outcome;
            let unserved = outcome.is_hook_failure() && !outcome.is_served();
            of_hook.unserved += u32::from(unserved);
        }
        self.admission.recorded(&recorded, &settled.phases);
        self.latest.note(settlements);
        self.report(settlements, &settled);
    }

    fn report(&self, settlements: &[Settlement], settled: &SettleResult) {
        let metrics = &self.metrics;
        let effective = settlements.iter().flat_map(|settlement| {
            let deliveries = settlement.request.deliveries.iter();
            let in_time = deliveries.filter(|delivery| !settled.late.contains(&delivery.id));
            in_time.map(move |delivery| (settlement, delivery))
        });
        let mut next_in_turn = false;
        for (settlement, delivery) in effective {
            let (slot, hook) = (settlement.request.lease.slot, &settlement.request.hook);
            let keyed = delivery.event.ordering_key.is_some();
            let in_order = keyed && hook.settings.ordered.is_some();
            if in_order && !matches!(settlement.step, Step::Retry(_)) {
                // The next delivery of its key, if there is one, is due now.
                self.hints.due(slot, hook.id, self.clock.now());
                next_in_turn = true;
            }
            let result = match settlement.step {
                Step::Delivered => {
                    let attempt = settlement.attempt();
                    let since = attempt.at - delivery.event.occurred_at;
                    let took = since.as_seconds_f64() + attempt.duration.as_secs_f64();
                    metrics.delivery_completion_seconds.observe(took.max(0.0));
                    "delivered"
                }
                Step::Retry(at) => {
                    self.hints.due(slot, hook.id, at);
                    "retried"
                }
                Step::Failed(_) => "failed",
            };
            metrics.deliveries.with_label_values(&[result]).inc();
        }
        if next_in_turn {
            self.hints.wake();
        }
        metrics.settlements_late.inc_by(settled.late.len() as u64);
        metrics
            .settlements_scrubbed
            .inc_by(u64::from(settled.scrubbed));
        if !settled.late.is_empty() {
            warn!(
                deliveries = settled.late.len(),
                first = %settled.late[0],
                "The lease of {} deliveries was lost before their attempts could be recorded; \
                 the attempts are kept as late and another worker repeats them",
                settled.late.len()
            );
        }
        if settled.scrubbed > 0 {
            warn!(
                "The database refused the responses of {} attempts; they are recorded without",
                settled.scrubbed
            );
        }
        let backed_off = settled.phases.iter().filter(|standing| {
            standing.phase == Some(Phase::BackedOff) && standing.version.is_some()
        });
        for standing in backed_off {
            metrics.hooks_backed_off.inc();
            info!(
                hook.id = %standing.hook,
                "Backed off hook {}: one probe at a time until it takes one", standing.hook
            );
        }
        let ramping = settled.phases.iter().filter(|standing| {
            standing.phase == Some(Phase::Ramping) && standing.version.is_some()
        });
        for standing in ramping {
            info!(
                hook.id = %standing.hook,
                "Hook {} takes deliveries again; its waiting deliveries are sent at a growing rate",
                standing.hook
            );
        }
        for warning in &settled.warned {
            metrics.hooks_warned.inc();
            warn!(
                hook.id = %warning.hook, hook.fail_count = warning.fail_count,
                "Hook {} is half of the way to being disabled: {} failures in a row. Last error: {}",
                warning.hook, warning.fail_count, warning.last_error
            );
        }
        for disabling in &settled.disabled {
            let reason = disabling.reason.name();
            metrics.hooks_disabled.with_label_values(&[reason]).inc();
            warn!(
                hook.id = %disabling.hook, hook.fail_count = disabling.fail_count, reason,
                "Disabled hook {} after {} failures in a row ({reason}); its deliveries are held. Last error: {}",
                disabling.hook, disabling.fail_count, disabling.last_error
            );
        }
    }

    /// Gives leases back unused, and says so.
    pub(crate) async fn give_back(&self, unused: Vec<HookRequest>) {
        let released = self.release_all(unused).await;
        if released > 0 {
            info!(deliveries = released, "Gave back {released} leases unused");
        }
    }

    async fn release_all(&self, unused: Vec<HookRequest>) -> u32 {
        let mut by_lease: HashMap<(i16, LeaseToken), Vec<DeliveryId>> = HashMap::new();
        for leased in &unused {
            by_lease
                .entry((leased.lease.slot, leased.lease.token))
                .or_default()
                .extend(leased.ids());
        }
        let mut released = 0;
        for ((slot, token), deliveries) in by_lease {
            match self.release(slot, token, &deliveries).await {
                Ok(count) => released += count,
                // The lease runs out by itself; nothing is lost but time.
                Err(problem) => error!(
                    "Could not give back {} leases; they run out by themselves: {problem}",
                    deliveries.len()
                ),
            }
        }
        self.metrics.leases_released.inc_by(u64::from(released));
        let now = self.clock.now();
        for leased in unused {
            self.hints.due(leased.lease.slot, leased.hook.id, now);
        }
        released
    }

    async fn release(&self, slot: i16, token: LeaseToken, ids: &[DeliveryId]) -> Result<u32> {
        self.store.release(slot, token, ids, self.clock.now()).await
    }
}

/// The number of deliveries in these settlements.
fn deliveries_of(settlements: &[Settlement]) -> usize {
    let deliveries = settlements.iter().map(|s| s.request.deliveries.count());
    deliveries.sum()
}

/// Parts of at most `most` deliveries each; a single request with more is a part by itself.
fn in_parts(settlements: &[Settlement], most: usize) -> Vec<&[Settlement]> {
    let mut parts = Vec::new();
    let (mut begin, mut size) = (0, 0);
    for (place, settlement) in settlements.iter().enumerate() {
        let deliveries = settlement.request.deliveries.count();
        if size + deliveries > most && place > begin {
            parts.push(&settlements[begin..place]);
            (begin, size) = (place, 0);
        }
        size += deliveries;
    }
    parts.push(&settlements[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{leased_for, now};
    use postrider_core::{Attempt, AttemptId, HealthPolicy, HookId, Outcome};
    use postrider_store::OneOrMore;
    use uuid::Uuid;

    /// The settlement of a request with this many deliveries.
    fn settlement(deliveries: usize) -> Settlement {
        let mut request = leased_for(HookId(Uuid::from_u128(1)));
        let others = (1..deliveries).map(|_| leased_for(HookId(Uuid::from_u128(1))));
        request.deliveries.rest = others.map(|other| other.deliveries.first).collect();
        let attempt = || Attempt {
            id: AttemptId::draw(now()),
            number: 1,
            at: now(),
            duration: Duration::from_millis(1),
            outcome: Outcome::Accepted { status: 200 },
            response: Vec::new(),
        };
        Settlement {
            request,
            attempts: OneOrMore {
                first: attempt(),
                rest: (1..deliveries).map(|_| attempt()).collect(),
            },
            step: Step::Delivered,
            keeps_target: false,
            policy: HealthPolicy {
                back_off_after: 5,
                back_off_max: Duration::from_secs(1),
                disable_after_failures: 20,
                disable_after: Duration::ZERO,
                disable_when_exhausted: false,
            },
        }
    }

    #[test]
    fn parts_are_bounded_by_their_deliveries_and_split_no_request() {
        let table: [(&[usize], &[usize]); 6] = [
            (&[], &[0]),
            (&[1, 1, 1], &[3]),
            (&[1, 1, 1, 1, 1, 1], &[4, 2]),
            (&[3, 3, 1], &[3, 4]),
            (&[1, 5, 1], &[1, 5, 1]),
            (&[9], &[9]),
        ];
        for (requests, expected) in table {
            let all: Vec<_> = requests.iter().map(|count| settlement(*count)).collect();
            let parts = in_parts(&all, 4);
            let sizes: Vec<_> = parts.iter().map(|part| deliveries_of(part)).collect();
            assert_eq!(sizes, expected, "{requests:?}");
        }
    }
}
