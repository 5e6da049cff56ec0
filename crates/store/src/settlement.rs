//! Settlements: the result of a request, and what its deliveries and its hook become.

use crate::count::count;
use crate::row_state::RowState;
use crate::{Delivery, HookCache, HookRequest, LeaseKind, OneOrMore};
use postrider_core::{
    Attempt, DeliveryId, DisabledReason, Health, HealthPolicy, HookId, HookTarget, Observation,
    OnFailure, Phase, Reason, Timestamp, scrub,
};

/// The next state of a delivery, with the time worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was accepted: its row is deleted.
    Delivered,
    /// It is attempted again at this time.
    Retry(Timestamp),
    /// It has failed for good: its row is deleted, and `postrider_ended` gets one.
    Failed(Reason),
}

/// The result of one request: an attempt of each delivery, and the next state of them all.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The request as it was leased.
    pub request: HookRequest,
    /// The attempt of each delivery, in their order: the same request and outcome, each under an
    /// id of its own.
    pub attempts: OneOrMore<Attempt>,
    /// The next state of the deliveries.
    pub step: Step,
    /// When the hook is warned of, backed off and disabled.
    pub policy: HealthPolicy,
    /// Whether further attempts go to this attempt's target, even if the hook is changed.
    pub keeps_target: bool,
}

/// The share of one delivery in the settlement of its request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeliverySettlement<'a> {
    pub settlement: &'a Settlement,
    pub delivery: &'a Delivery,
    pub attempt: &'a Attempt,
}

impl Settlement {
    /// The attempt of the first delivery: what happened to the request.
    pub fn attempt(&self) -> &Attempt {
        &self.attempts.first
    }

    /// The settlement of each delivery, in their order.
    pub(crate) fn deliveries(&self) -> impl Iterator<Item = DeliverySettlement<'_>> {
        let deliveries = self.request.deliveries.iter().zip(self.attempts.iter());
        deliveries.map(|(delivery, attempt)| DeliverySettlement {
            settlement: self,
            delivery,
            attempt,
        })
    }

    /// What the request says about its hook: one observation, however many deliveries it had.
    pub(crate) fn observation(&self) -> Observation {
        let attempt = self.attempt();
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

/// Splits settlements into two halves between requests; `None` if there is only one request.
pub(crate) fn halves<'a, 'b>(
    part: &'a [&'b Settlement],
) -> Option<(&'a [&'b Settlement], &'a [&'b Settlement])> {
    (part.len() > 1).then(|| part.split_at(part.len() / 2))
}

/// The number of deliveries in these settlements.
pub(crate) fn deliveries_of(settlements: &[&Settlement]) -> u32 {
    let deliveries = settlements.iter().map(|s| s.request.deliveries.count());
    count(deliveries.sum::<usize>())
}

/// The requests of these deliveries, each once. Deliveries of one request stand side by side.
pub(crate) fn requests_of<'a>(
    deliveries: &[DeliverySettlement<'a>],
) -> impl Iterator<Item = &'a Settlement> {
    deliveries
        .chunk_by(|a, b| std::ptr::eq(a.settlement, b.settlement))
        .filter_map(|of_request| Some(of_request.first()?.settlement))
}

impl<'a> DeliverySettlement<'a> {
    pub(crate) fn request(&self) -> &'a HookRequest {
        &self.settlement.request
    }

    pub(crate) fn hook(&self) -> HookId {
        self.settlement.request.hook.id
    }

    pub(crate) fn step(&self) -> Step {
        self.settlement.step
    }

    /// The state of the delivery's row from now on; `None` if it leaves the queue. The row itself
    /// tells whether one that waits is in a batch.
    pub(crate) fn next_state(&self) -> Option<RowState> {
        match self.step() {
            Step::Retry(at) => Some(RowState::Waiting { at }),
            Step::Failed(_) if self.holds_key() => Some(RowState::HoldsKey),
            Step::Delivered | Step::Failed(_) => None,
        }
    }

    /// The number of this attempt, from 1.
    pub(crate) fn number(&self) -> u32 {
        self.settlement.request.attempts.saturating_add(1)
    }

    /// The target of further attempts, if it is to be kept and is not yet.
    pub(crate) fn target_to_keep(&self) -> Option<HookTarget> {
        let request = self.request();
        let is_new = self.settlement.keeps_target && request.target.is_none();
        let waits = matches!(self.step(), Step::Retry(_));
        (is_new && waits).then(|| HookTarget::of(&request.hook))
    }

    /// Whether the delivery has failed for good and still blocks the later ones of its key, until
    /// it is sent again or discarded by hand.
    pub(crate) fn holds_key(&self) -> bool {
        let request = self.request();
        matches!(self.step(), Step::Failed(_))
            && request.lease.kind == LeaseKind::Row
            && self.delivery.event.ordering_key.is_some()
            && request.hook.settings.after_failure() == Some(OnFailure::Hold)
    }

    /// The key whose next delivery is to be unblocked, because this one has ended. `cache` has the
    /// hooks as they are known by now.
    pub(crate) fn freed_key(&self, cache: &HookCache) -> Option<(HookId, &'a str)> {
        let hook = &self.request().hook;
        let now = cache.get(hook.id).unwrap_or(hook);
        let ordered = now.settings.ordered.or(hook.settings.ordered);
        match self.step() {
            Step::Retry(_) => None,
            Step::Delivered | Step::Failed(_) if ordered.is_none() || self.holds_key() => None,
            Step::Delivered | Step::Failed(_) => {
                Some((hook.id, self.delivery.event.ordering_key.as_deref()?))
            }
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
    /// The phases of hooks that were failing or have failed in this batch.
    pub phases: Vec<HookPhase>,
    /// Settlements whose text the database refused; they were settled without it.
    pub scrubbed: u32,
}

impl SettleResult {
    /// Adds the result of another part.
    pub(crate) fn add(&mut self, part: Self) {
        self.settled += part.settled;
        self.late.extend(part.late);
        self.replayed += part.replayed;
        self.disabled.extend(part.disabled);
        self.warned.extend(part.warned);
        self.phases.extend(part.phases);
        self.scrubbed += part.scrubbed;
    }
}

/// A hook that was disabled because of its failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disabling {
    /// The hook that was active before.
    pub hook: HookId,
    /// `Gone` after an answer of 410, `Failures` otherwise.
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
    /// The hook that is still active.
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

/// Whether a hook is held back after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookPhase {
    /// A hook with attempts in the batch.
    pub hook: HookId,
    /// How it is held back; `None` when it is not.
    pub phase: Option<Phase>,
    /// While it is backed off: no probe before then.
    pub not_before: Option<Timestamp>,
    /// The version of the hook that begins with this batch, if its phase has changed.
    pub version: Option<i64>,
}

impl HookPhase {
    /// The phase of `hook` by this health.
    pub(crate) fn of(hook: HookId, health: &Health) -> Self {
        Self {
            hook,
            phase: health.phase,
            not_before: health.not_before,
            version: None,
        }
    }
}
