//! From the delivery rows that a lease took to the requests that are sent.
//!
//! A row that cannot be sent is not in any request: the store gives its lease back.

use crate::{Delivery, HookCache, HookRequest, Lease, LeaseKind, LeaseRequest, OneOrMore, target};
use chrono::NaiveDate;
use postrider_core::{DeliveryId, Event, EventId, HookId, KeyRing, SealError, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;

/// The row of a delivery that was leased a moment ago, without its event.
#[derive(Clone, Debug)]
pub(crate) struct LeasedRow {
    pub id: DeliveryId,
    pub day: NaiveDate,
    pub event: EventId,
    pub hook: HookId,
    /// The `seq` of its event in the outbox.
    pub event_seq: i64,
    /// The leader of its batch, if it is in one.
    pub batch: Option<DeliveryId>,
    pub attempts: u32,
    pub earlier_attempts: u32,
    /// `next_attempt_at` as it was found.
    pub due: Timestamp,
    /// The target kept with an earlier attempt, sealed.
    pub target: Option<String>,
}

impl LeasedRow {
    /// Whether it is the leader of a batch: its members are leased with it.
    pub(crate) fn is_leader(&self) -> bool {
        self.batch == Some(self.id)
    }
}

/// The events of leased rows. The day is part of the key: an application that sets ids can use
/// one again on another day.
pub(crate) type LeasedEvents = HashMap<(NaiveDate, EventId), Arc<Event>>;

/// Why a row cannot be sent, and its lease is released.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// Its hook is gone, or its credentials cannot be opened.
    Hook(DeliveryId),
    /// Its event is gone.
    Event(DeliveryId),
    /// Its target cannot be opened with our keys.
    Target(DeliveryId, SealError),
}

impl Unfit {
    pub(crate) fn id(&self) -> DeliveryId {
        match self {
            Self::Hook(id) | Self::Event(id) | Self::Target(id, _) => *id,
        }
    }

    /// Whether only somebody's action can make it fit again.
    pub(crate) fn stays(&self) -> bool {
        matches!(self, Self::Event(_) | Self::Target(..))
    }
}

/// The requests of leased rows, in the order of the rows: one for each row, or for each batch.
pub(crate) fn requests(
    mut rows: Vec<LeasedRow>,
    request: &LeaseRequest,
    cache: &HookCache,
    events: &LeasedEvents,
    keys: &KeyRing,
) -> (Vec<HookRequest>, Vec<Unfit>) {
    join_batches(&mut rows);
    let mut requests: Vec<HookRequest> = Vec::with_capacity(rows.len());
    let mut unfit = Vec::new();
    let mut last_batch = None;
    for row in rows {
        let batch = row.batch;
        let single = match single(row, request, cache, events, keys) {
            Ok(single) => single,
            Err(reason) => {
                unfit.push(reason);
                continue;
            }
        };
        match requests.last_mut() {
            Some(last) if batch.is_some() && batch == last_batch => {
                last.deliveries.rest.push(single.deliveries.first);
            }
            _ => requests.push(single),
        }
        last_batch = batch;
    }
    (requests, unfit)
}

/// Moves the rows of each batch to the place of the first of them, in the order of the outbox.
fn join_batches(rows: &mut [LeasedRow]) {
    if rows.iter().all(|row| row.batch.is_none()) {
        return;
    }
    let unit = |row: &LeasedRow| row.batch.unwrap_or(row.id);
    let mut places = HashMap::new();
    for (place, row) in rows.iter().enumerate() {
        places.entry(unit(row)).or_insert(place);
    }
    rows.sort_by_key(|row| (places.get(&unit(row)).copied(), row.event_seq, row.id));
}

/// The request of one delivery.
fn single(
    row: LeasedRow,
    request: &LeaseRequest,
    cache: &HookCache,
    events: &LeasedEvents,
    keys: &KeyRing,
) -> Result<HookRequest, Unfit> {
    let hook = cache.get(row.hook).filter(|hook| !hook.locked);
    let hook = hook.ok_or(Unfit::Hook(row.id))?.clone();
    let event = events.get(&(row.day, row.event));
    let event = event.ok_or(Unfit::Event(row.id))?.clone();
    let target = target::open(keys, row.hook, row.target.as_deref())
        .map_err(|error| Unfit::Target(row.id, error))?;
    Ok(HookRequest {
        lease: Lease {
            slot: request.slot,
            token: request.token,
            expires_at: request.until,
            kind: LeaseKind::Row,
        },
        hook,
        target,
        deliveries: OneOrMore::one(Delivery {
            id: row.id,
            day: row.day,
            event,
        }),
        attempts: row.attempts,
        earlier_attempts: row.earlier_attempts,
    })
}
