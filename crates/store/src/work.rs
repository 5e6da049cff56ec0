//! What passes between a worker and the store: leased deliveries out, settlements in.

use crate::Capacity;
use chrono::NaiveDate;
use postrider_core::{
    Attempt, Batches, DeliveryId, DisabledReason, Event, Health, HealthPolicy, Hook, HookId,
    HookTarget, LeaseToken, Observation, OnFailure, Payload, Phase, Reason, Timestamp, WorkerId,
    scrub,
};
use std::fs::File;
use std::sync::Arc;

pub use crate::hook_cache::HookCache;

/// One worker's wish to fan out a batch of one slot.
#[derive(Clone, Debug)]
pub struct FanOutRequest {
    /// The slot.
    pub slot: i16,
    /// The worker's clock.
    pub now: Timestamp,
    /// The token of the deliveries that start at once, drawn anew for each call.
    pub token: LeaseToken,
    /// When their lease ends.
    pub until: Timestamp,
    /// What can start at once.
    pub capacity: Capacity,
    /// Outbox rows taken at most.
    pub max_events: u32,
    /// Bytes of payload read at most (a single event may exceed it).
    pub max_bytes: u64,
    /// Deliveries made at most (a single event may exceed it).
    pub max_deliveries: u32,
    /// Rows whose `deliver_after` is later than this are rejected: their history would be gone.
    pub deliver_before: Timestamp,
    /// Which hooks get several events in one request, if any do.
    pub batches: Option<Arc<dyn Batches>>,
}

/// One worker's wish to lease due deliveries of one slot.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// The slot.
    pub slot: i16,
    /// The worker's clock.
    pub now: Timestamp,
    /// The token of the lease.
    pub token: LeaseToken,
    /// When it ends.
    pub until: Timestamp,
    /// Who asks.
    pub worker: WorkerId,
    /// From which hooks, and how many of each at most; a batch counts as one.
    pub wanted: Vec<(HookId, u32)>,
    /// Which hooks get several events in one request, if any do.
    pub batches: Option<Arc<dyn Batches>>,
}

/// A hook with deliveries that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueHook {
    /// Which hook.
    pub hook: HookId,
    /// When the first of them is due.
    pub first_due: Timestamp,
}

/// A delivery that is this worker's to attempt until the lease expires, with those that go in
/// the same request.
#[derive(Clone, Debug)]
pub struct Leased {
    /// Its slot.
    pub slot: i16,
    /// Its id.
    pub id: DeliveryId,
    /// The partition of its history: the day of the event's fan-out.
    pub day: NaiveDate,
    /// What is delivered.
    pub event: Arc<Event>,
    /// To whom.
    pub hook: Arc<Hook>,
    /// Where it goes, if that was kept with an earlier attempt; else where the hook points.
    pub target: Option<Arc<HookTarget>>,
    /// Attempts made before this one.
    pub attempts: u32,
    /// How many of those belong to rounds before the latest redelivery.
    pub earlier_attempts: u32,
    /// The fence: a settlement under another token changes nothing.
    pub token: LeaseToken,
    /// When the lease ends.
    pub expires_at: Timestamp,
    /// Where the lease stands, if it is not in a row of the delivery's own.
    pub fresh: Option<GroupMember>,
    /// The batch it goes in, by the id of the first of it, if it goes in one.
    pub batch: Option<DeliveryId>,
    /// What else goes in the same request, after it: under the same lease, with as many attempts.
    pub companions: Vec<Companion>,
}

/// A delivery that goes in the request of another.
#[derive(Clone, Debug)]
pub struct Companion {
    /// Its id.
    pub id: DeliveryId,
    /// The partition of its history.
    pub day: NaiveDate,
    /// What is delivered.
    pub event: Arc<Event>,
}

/// A delivery that started when its event was fanned out and has no row of its own yet: it is
/// a member of the one row that stands for all that started with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The place of its event in the order of the outbox.
    pub seq: i64,
    /// How many deliveries started together, this one included.
    pub together: u32,
    /// Its place among them, from 0.
    pub place: u32,
}

/// The right to run a worker on a database, until it is dropped.
#[derive(Debug, Default)]
pub struct WorkerClaim(Option<File>);

impl WorkerClaim {
    /// A claim that lasts as long as this file is open, and locked.
    pub(crate) fn locked(file: File) -> Self {
        Self(Some(file))
    }

    /// Whether other processes are kept away.
    pub fn is_exclusive(&self) -> bool {
        self.0.is_some()
    }
}

/// A larger payload than this is not kept in memory once it has been sent.
const KEPT_PAYLOAD_BYTES: usize = 4 * 1024;

impl Leased {
    /// The deliveries that go in the request, in their order.
    pub fn ids(&self) -> impl Iterator<Item = DeliveryId> {
        let companions = self.companions.iter().map(|companion| companion.id);
        std::iter::once(self.id).chain(companions)
    }

    /// The events that go in the request, in their order.
    pub fn events(&self) -> impl Iterator<Item = &Arc<Event>> {
        let companions = self.companions.iter().map(|companion| &companion.event);
        std::iter::once(&self.event).chain(companions)
    }

    /// Whether a request begins with it, among those that [`apart`](Self::apart) tells: it goes
    /// alone, or is the first of its batch.
    pub fn begins_request(&self) -> bool {
        self.batch.is_none_or(|batch| batch == self.id)
    }

    /// How large the payloads are that go in the request.
    pub fn payload_bytes(&self) -> usize {
        self.events()
            .map(|event| event.payload.as_str().len())
            .sum()
    }

    /// Each delivery by itself, in their order.
    pub fn apart(mut self) -> Vec<Self> {
        let companions = std::mem::take(&mut self.companions);
        let mut apart = Vec::with_capacity(companions.len() + 1);
        apart.push(self);
        for Companion { id, day, event } in companions {
            apart.push(Self {
                id,
                day,
                event,
                ..apart[0].clone()
            });
        }
        apart
    }

    /// Lets go of large payloads: settling does not need them, and while the database is away
    /// many attempts may wait to be settled.
    pub fn forget_payload(&mut self) {
        let companions = self.companions.iter_mut().map(|c| &mut c.event);
        for event in std::iter::once(&mut self.event).chain(companions) {
            if event.payload.as_str().len() > KEPT_PAYLOAD_BYTES {
                let mut without = Event::clone(event);
                without.payload = Payload::from_checked("null");
                *event = Arc::new(without);
            }
        }
    }
}

/// What a look at the database tells an idle worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// The slots whose outbox has rows.
    pub outbox: Vec<i16>,
    /// Grows with every change of a hook.
    pub hooks_version: i64,
}

/// What one fan-out did.
#[derive(Clone, Debug, Default)]
pub struct FanOutResult {
    /// Outbox rows that became events.
    pub events: u32,
    /// Deliveries made of them, the started ones included.
    pub deliveries: u32,
    /// Rows dropped because their `dedup_key` had been seen.
    pub duplicates: u32,
    /// Rows moved to `postrider_rejected`.
    pub rejected: u32,
    /// How often a hook's filter could not be held against a payload: it got no delivery.
    pub filter_problems: u32,
    /// Deliveries that are leased to this worker already.
    pub started: Vec<Leased>,
    /// Hooks that have deliveries due at once which did not fit into the capacity.
    pub waiting: Vec<HookId>,
    /// Hooks that have deliveries which wait for others to go with, and until when.
    pub gathering: Vec<(HookId, Timestamp)>,
    /// Whether the outbox may hold more rows for this slot.
    pub more: bool,
}

/// What becomes of a delivery, with the moment worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was taken: its row goes.
    Delivered,
    /// It waits until then.
    Retry(Timestamp),
    /// It has failed for good: its row goes, a row of `postrider_ended` stays.
    Failed(Reason),
}

/// One finished attempt and what it means.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The delivery as it was leased.
    pub leased: Leased,
    /// The request and its outcome.
    pub attempt: Attempt,
    /// What becomes of the delivery.
    pub step: Step,
    /// When its hook is disabled.
    pub policy: HealthPolicy,
    /// Whether further attempts go where this one went, whatever becomes of the hook.
    pub keeps_target: bool,
}

impl Settlement {
    /// Where further attempts go, if that is to be kept and is not yet.
    pub(crate) fn target_to_keep(&self) -> Option<HookTarget> {
        let leased = &self.leased;
        let is_new = self.keeps_target && leased.target.is_none();
        let waits = matches!(self.step, Step::Retry(_));
        (is_new && waits).then(|| HookTarget::of(&leased.hook))
    }

    /// Whether the delivery has failed for good and those of its key behind it wait until a
    /// person decides.
    pub(crate) fn holds_key(&self) -> bool {
        let leased = &self.leased;
        matches!(self.step, Step::Failed(_))
            && leased.fresh.is_none()
            && leased.event.ordering_key.is_some()
            && leased.hook.settings.after_failure() == Some(OnFailure::Hold)
    }

    /// The key that may have a new first delivery now: this one has ended. `cache` has the hooks
    /// as they are known by now.
    pub(crate) fn freed_key(&self, cache: &HookCache) -> Option<(HookId, &str)> {
        let hook = &self.leased.hook;
        let now = cache.get(hook.id).unwrap_or(hook);
        let ordered = now.settings.ordered.or(hook.settings.ordered);
        match self.step {
            Step::Retry(_) => None,
            Step::Delivered | Step::Failed(_) if ordered.is_none() || self.holds_key() => None,
            Step::Delivered | Step::Failed(_) => {
                Some((hook.id, self.leased.event.ordering_key.as_deref()?))
            }
        }
    }

    /// What the attempt says of its hook.
    pub(crate) fn observation(&self) -> Observation {
        let attempt = &self.attempt;
        Observation {
            started_at: attempt.at,
            at: attempt.at + attempt.duration,
            outcome: attempt.outcome.clone(),
            retry_at: match self.step {
                Step::Retry(at) => Some(at),
                Step::Delivered | Step::Failed(_) => None,
            },
            exhausted: self.step == Step::Failed(Reason::Exhausted),
        }
    }
}

/// What settling a batch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettleResult {
    /// Settlements that took effect.
    pub settled: u32,
    /// Deliveries whose lease was lost by then: the attempt is recorded as late, nothing else
    /// changed.
    pub late: Vec<DeliveryId>,
    /// Settlements that had taken effect before: the call repeats one whose answer was lost.
    pub replayed: u32,
    /// Hooks that were disabled by this batch.
    pub disabled: Vec<Disabling>,
    /// Active hooks that this batch has brought half of the way to being disabled.
    pub warned: Vec<Warning>,
    /// How hooks stand that were failing, or have failed in this batch.
    pub standings: Vec<HookPhase>,
    /// Settlements whose text the database refused; they were settled without it.
    pub scrubbed: u32,
}

/// A hook that was disabled because of its failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disabling {
    /// Which hook.
    pub hook: HookId,
    /// Why.
    pub reason: DisabledReason,
    /// Its failures in a row.
    pub fail_count: u32,
    /// When the first of them failed.
    pub first_failure_at: Option<Timestamp>,
    /// How the last of them failed.
    pub last_error: String,
}

impl Disabling {
    /// The disabling of `hook` by this health.
    pub(crate) fn of(hook: HookId, reason: DisabledReason, health: &Health) -> Self {
        Self {
            hook,
            reason,
            fail_count: health.fail_count,
            first_failure_at: health.first_failure_at,
            last_error: last_error(health),
        }
    }
}

/// A hook that is half of the way to being disabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which hook.
    pub hook: HookId,
    /// Its failures in a row.
    pub fail_count: u32,
    /// When the first of them failed.
    pub first_failure_at: Option<Timestamp>,
    /// How the last of them failed.
    pub last_error: String,
}

impl Warning {
    /// The warning of `hook` by this health.
    pub(crate) fn of(hook: HookId, health: &Health) -> Self {
        Self {
            hook,
            fail_count: health.fail_count,
            first_failure_at: health.first_failure_at,
            last_error: last_error(health),
        }
    }
}

fn last_error(health: &Health) -> String {
    health.last_error.as_deref().map(scrub).unwrap_or_default()
}

/// How a hook stands after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookPhase {
    /// Which hook.
    pub hook: HookId,
    /// Whether it is held back.
    pub phase: Option<Phase>,
    /// While it is backed off: no probe before then.
    pub not_before: Option<Timestamp>,
    /// The version of the hook that begins with this batch, if its phase has changed.
    pub version: Option<i64>,
}

impl HookPhase {
    /// How `hook` stands by this health.
    pub(crate) fn of(hook: HookId, health: &Health) -> Self {
        Self {
            hook,
            phase: health.phase,
            not_before: health.not_before,
            version: None,
        }
    }
}

/// One worker's wish to own gated hooks.
#[derive(Clone, Debug)]
pub struct OwnershipRequest {
    /// Who asks.
    pub worker: WorkerId,
    /// The worker's clock.
    pub now: Timestamp,
    /// When the ownership ends, unless it is renewed.
    pub until: Timestamp,
    /// Which hooks.
    pub hooks: Vec<HookId>,
}

/// Whether a worker owns a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnershipAnswer {
    /// Which hook.
    pub hook: HookId,
    /// Whether the worker that asked is now its owner.
    pub owned: bool,
    /// While it is backed off: no probe before then.
    pub not_before: Option<Timestamp>,
}

/// What looking for expired leases did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverResult {
    /// Deliveries that are due again.
    pub recovered: u32,
    /// Deliveries that lost their worker three times in a row: recorded as an attempt, they
    /// wait by their schedule, or have failed when it is used up.
    pub worker_lost: u32,
}
