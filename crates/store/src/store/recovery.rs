//! Operations on deliveries: send again, discard.

use crate::{BulkPage, BulkPageResult, DeliveryReport, Discard, Redelivery, Result};
use async_trait::async_trait;
use postrider_core::{DeliveryId, Timestamp};

/// Operations on deliveries: send again, discard.
#[async_trait]
pub trait Recovery: Send + Sync {
    /// Makes a delivery due now, with its schedule begun anew, whether it waits or has ended. It
    /// goes where its hook points, also if a target was kept with it.
    /// One in flight is a conflict, and so is one whose hook was deleted. One that waits, or has
    /// failed and holds its key, keeps its place in the order of its key; any other that has
    /// ended is a repeat outside of it, waits for none and holds up none.
    async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport>;

    /// Makes deliveries of a hook due now, with their schedules begun anew, the oldest first: a
    /// page of those that are in the state that is asked for.
    ///
    /// What is pending or in flight is left alone, and so is what has moved on meanwhile or
    /// whose event is gone. Those of a hook that is not active are held. A hook that was deleted
    /// is a conflict. All pages of one walk take the same `now`.
    async fn redeliver_many(
        &self,
        which: &Redelivery,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult>;

    /// Gives a delivery up that waits, or that has failed and holds its key: it ends as cancelled,
    /// discarded by a person, and the next one of its key has its turn. One in flight is a
    /// conflict, and so is one that has ended.
    async fn discard(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport>;

    /// Ends held deliveries of a hook as cancelled with the reason `discarded`, those that are
    /// due longest first: a page of them.
    ///
    /// What is in flight is left alone. A hook that is active holds nothing, which is a
    /// conflict. The hook's history tells how many were discarded, in one entry for all pages
    /// with the same `now`.
    async fn discard_held(
        &self,
        which: &Discard,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult>;
}
