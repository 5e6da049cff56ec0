//! Upkeep, pruning and erasure.

use crate::{Erased, Pruned, Result, Retention};
use async_trait::async_trait;
use postrider_core::{EventId, Timestamp};

/// What one turn of upkeep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Deliveries of deleted hooks that were cancelled.
    pub cancelled: u32,
    /// Whether there is more to cancel.
    pub more: bool,
}

/// Upkeep, pruning and erasure.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Makes partitions ahead (today and the next three days by `now`), cancels up to `limit`
    /// deliveries of deleted hooks that are not leased, forgets the keys of calls that are older
    /// than [`IDEMPOTENCY_KEPT`](crate::IDEMPOTENCY_KEPT), and looks after the order: what waits for another in a hook that
    /// is ordered no more goes, what holds a key of one that skips now holds it no longer, and what
    /// waits for nothing has its turn.
    async fn upkeep(&self, now: Timestamp, limit: u32) -> Result<Upkeep>;

    /// Takes away what is past its retention by `now`, `batch` rows at a time where it goes by
    /// rows.
    ///
    /// History goes by the day of fan-out. Before events go, every delivery of theirs that has
    /// not ended is ended as expired; those that are leased keep the events of all days that are
    /// past until they have ended. Attempts go with their events, or before, when all of their
    /// day are past `keep.attempts`. What ended otherwise than delivered is told for a week
    /// longer than its event. Deduplication keys and rejected rows are kept as long as events.
    ///
    /// Keeps nobody waiting: what cannot go without is left for a later call, and the answer
    /// says why. Of several that call at once one does the work and the others return at once.
    /// What a call that was cut short had begun is finished by the next.
    async fn prune(&self, keep: &Retention, now: Timestamp, batch: u32) -> Result<Pruned>;

    /// Erases what these events said: payloads become `null`, headers and what receivers
    /// answered go, also of rejected ones; those in the outbox go altogether.
    ///
    /// Deliveries that wait are cancelled, and nothing is sent of an erased event any more. An
    /// event with a delivery that is being attempted stays as it is and is named in the answer:
    /// call again when the attempt has ended. What was erased before changes nothing, and
    /// unknown ids are passed over. Keys, type and times stay.
    async fn erase(&self, events: &[EventId], now: Timestamp) -> Result<Erased>;

    /// Erases what up to `limit` rejected rows of an account said; returns how many.
    async fn erase_rejected(&self, account: &str, limit: u32) -> Result<u32>;
}
