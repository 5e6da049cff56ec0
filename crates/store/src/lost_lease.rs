//! Leases that ended without a settlement: the next step of their deliveries.
//!
//! A delivery that loses its worker again and again is suspected of causing that: the third loss
//! in a row counts as an attempt, so that a delivery which kills its worker is not tried for ever.

use crate::HookCache;
use crate::operational_events::{FailedDelivery, OperationalEvent, of_failure};
use crate::row_state::RowState;
use crate::stored_row::StoredRow;
use chrono::NaiveDate;
use postrider_core::{
    DeliveryId, EventId, HookId, NextStep, OnFailure, Outcome, Reason, Schedules, Timestamp,
    next_step,
};
use std::collections::HashMap;
use uuid::Uuid;

/// The number of lost leases in a row that counts as an attempt.
const LOST_LEASES_MAX: u32 = 3;

/// A delivery whose lease ended without a settlement.
#[derive(Clone, Debug)]
pub(crate) struct LostLease {
    pub id: DeliveryId,
    pub day: NaiveDate,
    pub event: EventId,
    pub hook: HookId,
    pub attempts: u32,
    earlier_attempts: u32,
    pub lost_leases: u32,
    pub ordering_key: Option<String>,
    /// The leader of its batch.
    pub batch: Option<Uuid>,
}

/// The next step of a delivery whose lost lease counts as an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LostStep {
    /// The state of its row from now on; `None` if it leaves the queue. The row itself tells
    /// whether one that waits is in a batch.
    pub state: Option<RowState>,
    /// Why it has failed; `None` while it has not.
    pub failed: Option<Reason>,
}

impl LostLease {
    pub(crate) fn read(row: &impl StoredRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: DeliveryId(row.uuid("id")?),
            day: row.day("day")?,
            event: EventId(row.uuid("event_id")?),
            hook: HookId(row.uuid("hook_id")?),
            attempts: row.count("attempts")?,
            earlier_attempts: row.count("earlier_attempts")?,
            lost_leases: row.count("lost_leases")?,
            ordering_key: row.text_or_null("ordering_key")?,
            batch: row.uuid_or_null("batch_id")?,
        })
    }

    /// Whether this loss counts as an attempt.
    pub(crate) fn is_attempt(&self) -> bool {
        self.lost_leases + 1 >= LOST_LEASES_MAX
    }

    /// The number of that attempt.
    pub(crate) fn number(&self) -> u32 {
        self.attempts + 1
    }

    /// The next step, now that the loss counts as an attempt.
    pub(crate) fn step(
        &self,
        cache: &HookCache,
        schedules: &dyn Schedules,
        now: Timestamp,
    ) -> LostStep {
        let hook = cache.get(self.hook).map(AsRef::as_ref);
        let next = next_step(
            &Outcome::WorkerLost,
            self.batch.map_or(self.id, DeliveryId),
            self.number().saturating_sub(self.earlier_attempts),
            schedules.of(hook),
        );
        let after_failure = hook.and_then(|hook| hook.settings.after_failure());
        let holds_key = self.ordering_key.is_some() && after_failure == Some(OnFailure::Hold);
        match next {
            NextStep::RetryIn(wait) => LostStep {
                state: Some(RowState::Waiting { at: now + wait }),
                failed: None,
            },
            NextStep::Failed(reason) => LostStep {
                state: holds_key.then_some(RowState::HoldsKey),
                failed: Some(reason),
            },
            // A lost worker delivers nothing.
            NextStep::Delivered => LostStep {
                state: None,
                failed: None,
            },
        }
    }
}

/// The deliveries that have failed for good, with the reasons.
pub(crate) fn failed(
    lost: &[(LostLease, LostStep)],
) -> impl Iterator<Item = (&LostLease, Reason)> + Clone {
    lost.iter()
        .filter_map(|(lease, step)| Some((lease, step.failed?)))
}

/// The keys whose first delivery has failed without holding its key: the next one has its turn.
pub(crate) fn freed_keys(lost: &[(LostLease, LostStep)]) -> Vec<(HookId, &str)> {
    let gone = lost.iter().filter(|(_, step)| step.state.is_none());
    gone.filter_map(|(lease, _)| Some((lease.hook, lease.ordering_key.as_deref()?)))
        .collect()
}

/// The operational events of the failures. `types` has the types of the events that still exist; a
/// failure whose event is gone is not announced.
pub(crate) fn announcements(
    lost: &[(LostLease, LostStep)],
    types: &HashMap<Uuid, String>,
    cache: &HookCache,
    now: Timestamp,
) -> Vec<OperationalEvent> {
    let announced = failed(lost).filter_map(|(lease, reason)| {
        let failed = FailedDelivery {
            id: lease.id,
            event: lease.event,
            event_type: types.get(&lease.event.0)?,
            reason,
            attempts: lease.number(),
            last_error: Outcome::WorkerLost.to_string(),
        };
        of_failure(cache, cache.get(lease.hook)?, failed, now)
    });
    announced.collect()
}
