//! Operations on deliveries: send again, discard.

use crate::{BulkPage, BulkPageResult, DeliveryReport, Discard, Redelivery, Result};
use async_trait::async_trait;
use postrider_core::{DeliveryId, Timestamp};

/// Operations on deliveries: send again, discard.
#[async_trait]
pub trait DeliveryChanges: Send + Sync {
    /// Makes a delivery due now, with a new schedule, whether it waits or has ended. It is sent
    /// to the hook's present target, also if an earlier target was kept with it.
    ///
    /// A delivery that waits, or that has failed and holds its key, keeps its place in the order
    /// of its key. Any other that has ended becomes a repeat outside the order: it is not blocked
    /// and blocks no other.
    ///
    /// # Errors
    /// - [`NotFound`](crate::Error::NotFound): there is no delivery of this id.
    /// - [`Conflict`](crate::Error::Conflict): it is in flight, its hook was deleted, or its event
    ///   was erased or is past its retention.
    async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport>;

    /// Makes deliveries of a hook due now, with new schedules, the oldest first: one page of those
    /// in the selected state.
    ///
    /// Deliveries whose state has changed meanwhile, or whose event is gone or erased, are left
    /// alone. Deliveries of a hook that is not active are held. All pages of one operation must
    /// have the same `now`.
    ///
    /// # Errors
    /// - [`NotFound`](crate::Error::NotFound): there is no hook of this id.
    /// - [`Conflict`](crate::Error::Conflict): the hook was deleted, or the selected state is
    ///   pending or in flight.
    async fn redeliver_many(
        &self,
        which: &Redelivery,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult>;

    /// Ends a delivery that waits, or that has failed and holds its key, as cancelled with the
    /// reason `discarded`. The next delivery of its key has its turn.
    ///
    /// # Errors
    /// - [`NotFound`](crate::Error::NotFound): there is no delivery of this id.
    /// - [`Conflict`](crate::Error::Conflict): it is in flight or has ended.
    async fn discard(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport>;

    /// Ends held deliveries of a hook as cancelled with the reason `discarded`, longest due first:
    /// one page of them. Deliveries in flight are left alone.
    ///
    /// The hook's history has one entry with the number of discarded deliveries for all pages with
    /// the same `now`.
    ///
    /// # Errors
    /// - [`NotFound`](crate::Error::NotFound): there is no hook of this id, or it was deleted.
    /// - [`Conflict`](crate::Error::Conflict): the hook is active and holds nothing.
    async fn discard_held(
        &self,
        which: &Discard,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult>;
}
