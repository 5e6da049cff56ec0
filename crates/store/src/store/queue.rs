//! The queue of deliveries: lease, settle, release, recover. Each call names one slot.

use crate::{DueHook, HookRequest, LeaseRequest, RecoverResult, Result, SettleResult, Settlement};
use async_trait::async_trait;
use postrider_core::{DeliveryId, HookId, LeaseToken, Schedules, Timestamp};

/// The queue of deliveries: lease, settle, release, recover. Each call names one slot.
#[async_trait]
pub trait Queue: Send + Sync {
    /// The slots that have deliveries. Cheap at any backlog.
    ///
    /// # Errors
    /// Those of every method.
    async fn slots(&self) -> Result<Vec<i16>>;

    /// Hooks of the slot that have deliveries waiting without a lease, by id, after `after`,
    /// at most `limit`, with the time the first is due. The cost grows with `limit`, not with
    /// the backlog. Includes hooks that are not active.
    ///
    /// # Errors
    /// Those of every method.
    async fn due_hooks(&self, slot: i16, after: Option<HookId>, limit: u32)
    -> Result<Vec<DueHook>>;

    /// Leases due deliveries of the wanted hooks, of each the longest due first.
    ///
    /// Due: without a lease and `next_attempt_at <= now`. No delivery is leased to two callers
    /// at once. Hooks that are not active give none, and gated hooks give none to a worker that
    /// does not own them. Of an ordered hook's deliveries with the same `ordering_key` only the
    /// first in the order of insertion that has not ended is leased, and none while any of them
    /// is; the others are blocked by it, even if they are due. A delivery whose event is gone, or
    /// whose hook's credentials or own target cannot be opened, is not leased. A target that was
    /// kept is returned with the delivery, beside the hook as it is now.
    ///
    /// Where a hook gets several events in one request, deliveries that were never attempted are
    /// cut into batches as soon as the first of them is due: those in their batch window go too,
    /// each batch of one event type, in the order of insertion, bounded in number and size. A
    /// batch is returned as one [`HookRequest`], and counts as one. It is durable then and stays
    /// together until its deliveries end, for every worker and after any change of the hook. One
    /// that a person sends again, or that ends otherwise, leaves its batch.
    ///
    /// # Errors
    /// Those of every method.
    async fn lease(&self, request: LeaseRequest) -> Result<Vec<HookRequest>>;

    /// Records attempts and gives their deliveries the next step, under the lease.
    ///
    /// A delivery of an ordered hook that ends gives the next one of its key its turn. One that
    /// has failed for good blocks them instead, unless the hook skips failed ones, until it is
    /// sent again and accepted, or discarded. All settlements are of one slot. The attempt, the
    /// step and the hook's fail count are one transaction. A settlement whose token is no longer
    /// the delivery's changes nothing: its attempt is recorded as late and its delivery returned.
    /// A settlement that was made before (the same attempt id) changes nothing at all. The fail
    /// count is written only when it changes. A hook whose phase changes gets a new version, and
    /// every hook that was failing or has failed is among the phases. A hook that is to be
    /// disabled is disabled once, with reason and time, if it is active. A settlement that the
    /// database refuses is made without the response and with a plain error text; it never stops
    /// the others.
    ///
    /// An active hook that comes half of the way to being disabled is warned of once in a row of
    /// failures. Warnings and disablings are recorded in the hook's history, and they and
    /// deliveries that fail for good are announced by events of our own, all in the same
    /// transaction; nothing is announced where no hook of the account asks for it, as far as
    /// the cache of hooks knows.
    ///
    /// Where the target is to be kept, a delivery that waits keeps the target of this attempt,
    /// sealed, unless it has one already. It stays until the delivery ends or is sent again by a
    /// person.
    ///
    /// # Errors
    /// - [`Seal`](crate::Error::Seal): there is no key to seal a target with.
    /// - [`Refused`](crate::Error::Refused): the database does not take a settlement without its
    ///   texts either.
    async fn settle(&self, now: Timestamp, settlements: &[Settlement]) -> Result<SettleResult>;

    /// Gives leases back unused: the deliveries are due at once for anyone, and neither an
    /// attempt nor a lost lease is counted. Those under another token are left alone. Returns
    /// the number released.
    ///
    /// # Errors
    /// Those of every method.
    async fn release(
        &self,
        slot: i16,
        token: LeaseToken,
        deliveries: &[DeliveryId],
        now: Timestamp,
    ) -> Result<u32>;

    /// Makes deliveries due again whose leases expired by `now`, at most `limit`; the members of a
    /// batch are recovered together.
    ///
    /// The third lease in a row that a delivery loses counts as an attempt with the outcome
    /// `worker_lost`: the delivery is retried by its hook's schedule, or fails when that is used
    /// up. Such a failure is announced, unless the event is gone.
    ///
    /// # Errors
    /// Those of every method.
    async fn recover(
        &self,
        slot: i16,
        now: Timestamp,
        limit: u32,
        schedules: &dyn Schedules,
    ) -> Result<RecoverResult>;
}
