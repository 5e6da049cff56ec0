//! Upkeep, pruning and erasure.

use crate::{Erased, Pruned, Result, Retention};
use async_trait::async_trait;
use postrider_core::{EventId, Timestamp};

/// The result of one run of upkeep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Deliveries of deleted hooks that were cancelled.
    pub cancelled: u32,
    /// Whether there is more to do: the next run should follow at once.
    pub more: bool,
}

/// Upkeep, pruning and erasure.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Makes partitions in advance (of today and the next three days by `now`), cancels up to
    /// `limit` deliveries of deleted hooks that are not leased, and deletes the idempotency keys
    /// older than [`IDEMPOTENCY_KEPT`](crate::IDEMPOTENCY_KEPT).
    ///
    /// Repairs the order too: blocked deliveries of a hook that is no longer ordered become due,
    /// failed ones of a hook that skips release their key, and one without a predecessor gets its
    /// turn.
    ///
    /// # Errors
    /// Those of every method. What was done before the error stays done.
    async fn upkeep(&self, now: Timestamp, limit: u32) -> Result<Upkeep>;

    /// Deletes history that is past its retention by `now`, at most `batch` rows in a transaction.
    ///
    /// History is pruned by the day of fan-out. Before events are deleted, all their deliveries that
    /// have not ended are ended as expired; those that are leased keep the events of all past days
    /// until they have ended. Attempts are deleted with their events, or earlier if all of their
    /// day are past `keep.attempts`. The records of deliveries that ended otherwise than delivered
    /// are kept a week longer than events. Deduplication keys and rejected rows are kept as long as
    /// events.
    ///
    /// Blocks no traffic: what cannot be deleted without blocking it is left for a later call, and
    /// the result says why. Of several calls at once one does the work and the others return at
    /// once. A call that was interrupted is completed by the next.
    ///
    /// # Errors
    /// Those of every method. What was deleted before the error stays deleted.
    async fn prune(&self, keep: &Retention, now: Timestamp, batch: u32) -> Result<Pruned>;

    /// Erases the content of these events: payloads become `null`, headers and the responses of
    /// receivers are deleted, also of rejected rows. Events in the outbox are deleted. Keys, types
    /// and times stay.
    ///
    /// Deliveries that wait are cancelled, and an erased event is never sent again. An event with a
    /// delivery in flight stays as it is and is named in the result: call again when the attempt
    /// has ended. Erasing an event twice changes nothing, and unknown ids are ignored.
    ///
    /// # Errors
    /// Those of every method.
    async fn erase(&self, events: &[EventId], now: Timestamp) -> Result<Erased>;

    /// Erases the content of up to `limit` rejected rows of an account; returns how many.
    ///
    /// # Errors
    /// Those of every method.
    async fn erase_rejected(&self, account: &str, limit: u32) -> Result<u32>;
}
