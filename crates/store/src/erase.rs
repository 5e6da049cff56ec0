//! The rules for erasing the content of events: payloads, headers and the responses of receivers.
//!
//! An erased event is never sent: deliveries that wait are cancelled, a lease leaves out erased
//! events, and an event with a delivery in flight stays until the attempt has ended. The rules
//! stand here once; a database contributes the statements of one transaction.

use crate::count::count;
use crate::stored_row::StoredRow;
use crate::{Erased, Result};
use async_trait::async_trait;
use chrono::NaiveDate;
use postrider_core::{DeliveryId, EventId, HookId, Timestamp};
use std::collections::{BTreeSet, HashMap};

/// An event that was fanned out.
#[derive(Clone, Debug)]
pub(crate) struct FannedOutEvent {
    pub slot: i16,
    pub day: NaiveDate,
    pub id: EventId,
    account: String,
}

/// Events that were fanned out, with their deliveries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Erasure {
    pub events: Vec<FannedOutEvent>,
    /// All possible deliveries, each with its event: one for each hook that the account has or
    /// had.
    pub deliveries: Vec<(DeliveryId, EventId)>,
}

/// The statements of one transaction that erases events.
#[async_trait]
pub(crate) trait EraseStatements: Send {
    /// Those of the events that were fanned out, locked, so that none of their deliveries is sent
    /// again meanwhile.
    async fn lock_fanned_out(&mut self, ids: &[EventId]) -> Result<Vec<FannedOutEvent>>;

    /// Deletes the events from the outbox.
    async fn delete_queued(&mut self, ids: &[EventId]) -> Result<u64>;

    /// Erases the content of rejected rows.
    async fn erase_rejected(&mut self, ids: &[EventId]) -> Result<u64>;

    /// The hooks that these accounts have or had, each with its account.
    async fn hooks_of(&mut self, accounts: &BTreeSet<&str>) -> Result<Vec<(String, HookId)>>;

    /// Cancels the deliveries that wait.
    async fn cancel(&mut self, of: &Erasure, now: Timestamp) -> Result<u64>;

    /// The events that have deliveries in flight; may name others.
    async fn in_flight(&mut self, of: &Erasure) -> Result<BTreeSet<EventId>>;

    /// Erases the content of the events that are not erased yet.
    async fn erase_events(&mut self, of: &Erasure, now: Timestamp) -> Result<u64>;

    /// Deletes the responses to the deliveries.
    async fn erase_responses(&mut self, of: &Erasure) -> Result<u64>;
}

/// Erases events. Returns what was done, and what was erased of the events that were fanned out.
pub(crate) async fn erase(
    tx: &mut impl EraseStatements,
    ids: &[EventId],
    now: Timestamp,
) -> Result<(Erased, Erasure)> {
    let mut erased = Erased::default();
    let mut events = tx.lock_fanned_out(ids).await?;
    let found: BTreeSet<_> = events.iter().map(|event| event.id).collect();
    let elsewhere = ids.iter().filter(|id| !found.contains(id));
    let elsewhere: Vec<_> = elsewhere.copied().collect();
    if !elsewhere.is_empty() {
        erased.queued = count(tx.delete_queued(&elsewhere).await?);
        erased.rejected = count(tx.erase_rejected(&elsewhere).await?);
        // An event may have left the outbox since the first query.
        events = tx.lock_fanned_out(ids).await?;
    }
    let accounts = events.iter().map(|event| event.account.as_str()).collect();
    let hooks = tx.hooks_of(&accounts).await?;
    let mut erasure = Erasure::of(events, &hooks);
    erased.cancelled = count(tx.cancel(&erasure, now).await?);
    let in_flight = tx.in_flight(&erasure).await?;
    erased.in_flight = erasure.leave_out(&in_flight);
    erased.events = count(tx.erase_events(&erasure, now).await?);
    erased.responses = count(tx.erase_responses(&erasure).await?);
    Ok((erased, erasure))
}

impl FannedOutEvent {
    pub(crate) fn read(row: &impl StoredRow) -> sqlx::Result<Self> {
        Ok(Self {
            slot: i16::try_from(row.number("slot")?).unwrap_or_default(),
            day: row.day("day")?,
            id: EventId(row.uuid("id")?),
            account: row.text("account")?,
        })
    }
}

impl Erasure {
    fn of(events: Vec<FannedOutEvent>, hooks: &[(String, HookId)]) -> Self {
        let mut by_account: HashMap<&str, Vec<HookId>> = HashMap::new();
        for (account, hook) in hooks {
            by_account.entry(account).or_default().push(*hook);
        }
        let deliveries = events.iter().flat_map(|event| {
            let hooks = by_account.get(event.account.as_str()).into_iter().flatten();
            hooks.map(|hook| (DeliveryId::of(event.id, *hook), event.id))
        });
        Self {
            deliveries: deliveries.collect(),
            events,
        }
    }

    /// Leaves out those of the events, and returns them in the order of their ids.
    fn leave_out(&mut self, given: &BTreeSet<EventId>) -> Vec<EventId> {
        let left = self.events.iter().map(|event| event.id);
        let left: BTreeSet<_> = left.filter(|id| given.contains(id)).collect();
        self.events.retain(|event| !left.contains(&event.id));
        self.deliveries.retain(|(_, event)| !left.contains(event));
        left.into_iter().collect()
    }
}
