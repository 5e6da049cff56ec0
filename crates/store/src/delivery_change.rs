//! The rules for sending one delivery again and for discarding one.
//!
//! They stand here once; a database contributes the statements of one transaction.

use crate::error::{
    delivery_ended, delivery_in_flight, event_of_delivery_erased, event_of_delivery_gone,
    hook_of_delivery_deleted,
};
use crate::history_rows::DeliveryRow;
use crate::{DeliveryReport, DeliveryState, Result};
use async_trait::async_trait;
use postrider_core::{DeliveryId, HookId, Timestamp};

/// A row of `postrider_deliveries`, as far as the rules need it.
#[derive(Clone, Debug)]
pub(crate) struct WaitingDelivery {
    /// When its lease ends; `None` without a lease.
    pub lease_expires_at: Option<Timestamp>,
    pub ordering_key: Option<String>,
}

/// What the lease groups say about a delivery without a row of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupMembership {
    /// Its lease holds.
    InFlight,
    /// Its lease had run out: it has a row now and is due.
    MadeDue,
    /// It is in none.
    None,
}

/// The statements of one transaction about one delivery.
#[async_trait]
pub(crate) trait DeliveryStatements: Send {
    /// The delivery in its present state.
    async fn find(&mut self, id: DeliveryId) -> Result<DeliveryRow>;

    async fn report(&mut self, row: DeliveryRow) -> Result<DeliveryReport>;

    /// Whether the hook exists and was not deleted.
    async fn hook_exists(&mut self, hook: HookId) -> Result<bool>;

    /// Locks the event, so that no other call sends one of its deliveries again. Returns whether
    /// it was erased; `None` if it is gone.
    async fn lock_event(&mut self, row: &DeliveryRow) -> Result<Option<bool>>;

    /// Locks the row of a delivery that waits, is being attempted, or holds its key; `None` if
    /// there is none.
    async fn lock_waiting(&mut self, row: &DeliveryRow) -> Result<Option<WaitingDelivery>>;

    /// Makes a delivery with a row due now, with a new schedule. It keeps its place in the order.
    async fn make_due(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<()>;

    /// Takes a delivery in its first attempt out of its lease group, if the lease has run out.
    async fn leave_group(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<GroupMembership>;

    /// Gives a delivery that has ended a row without a key, due now, with a new schedule. Its
    /// attempts are counted in the history.
    async fn revive(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<()>;

    /// Ends a delivery with a row as cancelled, discarded by a person.
    async fn cancel(&mut self, row: &DeliveryRow, now: Timestamp) -> Result<()>;

    /// Gives the next delivery of the key its turn.
    async fn give_turn(&mut self, row: &DeliveryRow, key: &str, now: Timestamp) -> Result<()>;
}

impl WaitingDelivery {
    fn is_leased(&self, now: Timestamp) -> bool {
        self.lease_expires_at.is_some_and(|end| end > now)
    }
}

/// Makes a delivery due now, with a new schedule.
///
/// One with a row keeps its place in the order of its key. One that has ended without holding its
/// key gets a row without a key: the order went on, so the repeat neither waits for another
/// delivery nor blocks one.
pub(crate) async fn redeliver(
    tx: &mut impl DeliveryStatements,
    id: DeliveryId,
    now: Timestamp,
) -> Result<DeliveryReport> {
    let row = tx.find(id).await?;
    if !tx.hook_exists(row.hook).await? {
        return Err(hook_of_delivery_deleted(id));
    }
    match tx.lock_event(&row).await? {
        Some(false) => {}
        Some(true) => return Err(event_of_delivery_erased(id)),
        None => return Err(event_of_delivery_gone(id)),
    }
    match tx.lock_waiting(&row).await? {
        Some(waiting) if waiting.is_leased(now) => return Err(delivery_in_flight(id)),
        Some(_) => tx.make_due(&row, now).await?,
        None => match tx.leave_group(&row, now).await? {
            GroupMembership::InFlight => return Err(delivery_in_flight(id)),
            GroupMembership::MadeDue => {}
            GroupMembership::None => tx.revive(&row, now).await?,
        },
    }
    let row = tx.find(id).await?;
    tx.report(row).await
}

/// Ends a delivery that waits or holds its key as cancelled; the next one of its key has its
/// turn.
pub(crate) async fn discard(
    tx: &mut impl DeliveryStatements,
    id: DeliveryId,
    now: Timestamp,
) -> Result<DeliveryReport> {
    let row = tx.find(id).await?;
    let key = match tx.lock_waiting(&row).await? {
        Some(waiting) if waiting.is_leased(now) => return Err(delivery_in_flight(id)),
        Some(waiting) => waiting.ordering_key,
        None if row.state == DeliveryState::InFlight => return Err(delivery_in_flight(id)),
        None => return Err(delivery_ended(id)),
    };
    tx.cancel(&row, now).await?;
    if let Some(key) = key {
        tx.give_turn(&row, &key, now).await?;
    }
    let row = tx.find(id).await?;
    tx.report(row).await
}
