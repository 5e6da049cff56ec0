//! What a worker sends: requests to hooks, each with the lease it is made under.
//!
//! A request usually carries one delivery; that of a hook which gets batches carries several.
//! Whatever happens to the request happens to all of them: they share the lease, the hook, the
//! target and the number of attempts.

use chrono::NaiveDate;
use postrider_core::{DeliveryId, Event, Hook, HookTarget, LeaseToken, Payload, Timestamp};
use std::sync::Arc;

/// A request that this worker may send until its lease expires.
#[derive(Clone, Debug)]
pub struct HookRequest {
    /// The right to send it.
    pub lease: Lease,
    /// The receiver.
    pub hook: Arc<Hook>,
    /// The target kept with an earlier attempt; `None`: the request goes where the hook points.
    pub target: Option<Arc<HookTarget>>,
    /// What it carries, in the order of the outbox. The first is the leader of the batch.
    pub deliveries: OneOrMore<Delivery>,
    /// Attempts made before this one, of each of the deliveries.
    pub attempts: u32,
    /// How many of those belong to rounds before the latest redelivery.
    pub earlier_attempts: u32,
}

/// The right to send a request, and to settle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The slot of the deliveries.
    pub slot: i16,
    /// The fence: a settlement under another token changes nothing.
    pub token: LeaseToken,
    /// From then on the deliveries may be leased by others.
    pub expires_at: Timestamp,
    /// Where the database keeps it.
    pub kind: LeaseKind,
}

/// Where the database keeps a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseKind {
    /// In the row of each delivery.
    Row,
    /// In the row of a lease group: the delivery has no row of its own until it has to wait.
    Group(GroupMember),
}

/// A member of a lease group: the deliveries that one fan-out started, under one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The `seq` of its event in the outbox.
    pub seq: i64,
    /// The number of members.
    pub members: u32,
    /// Its place among them, from 0.
    pub place: u32,
}

/// One event on its way to one hook.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Made of the ids of the event and the hook.
    pub id: DeliveryId,
    /// The day of the event's fan-out: the partition that keeps the history.
    pub day: NaiveDate,
    /// What is delivered.
    pub event: Arc<Event>,
}

/// At least one value, and no allocation for exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMore<T> {
    /// The first, often the only one.
    pub first: T,
    /// The others. An empty `Vec` allocates nothing, which is why this is not one `Vec`: nearly
    /// every request carries one delivery.
    pub rest: Vec<T>,
}

impl<T> OneOrMore<T> {
    /// Exactly one.
    pub fn one(first: T) -> Self {
        Self {
            first,
            rest: Vec::new(),
        }
    }

    /// The number of values, from 1.
    pub fn count(&self) -> usize {
        1 + self.rest.len()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// All of them, in order, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.first).chain(&mut self.rest)
    }
}

/// A larger payload than this is not kept in memory once it has been sent.
const KEPT_PAYLOAD_BYTES: usize = 4 * 1024;

impl HookRequest {
    /// The first delivery, which names the request: its event gives the headers, and its id the
    /// jitter of the schedule.
    pub fn first(&self) -> &Delivery {
        &self.deliveries.first
    }

    /// The ids of the deliveries, in their order.
    pub fn ids(&self) -> impl Iterator<Item = DeliveryId> {
        self.deliveries.iter().map(|delivery| delivery.id)
    }

    /// The events, in the order of their deliveries.
    pub fn events(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.deliveries.iter().map(|delivery| &delivery.event)
    }

    /// The size of all payloads together.
    pub fn payload_bytes(&self) -> usize {
        self.events()
            .map(|event| event.payload.as_str().len())
            .sum()
    }

    /// Drops large payloads: settling does not need them, and while the database is away many
    /// attempts may be waiting to be settled.
    pub fn forget_payload(&mut self) {
        for delivery in self.deliveries.iter_mut() {
            if delivery.event.payload.as_str().len() > KEPT_PAYLOAD_BYTES {
                let mut without = Event::clone(&delivery.event);
                without.payload = Payload::from_checked("null");
                delivery.event = Arc::new(without);
            }
        }
    }
}

impl Lease {
    /// The place in its lease group, if it is kept in one.
    pub(crate) fn group_member(&self) -> Option<GroupMember> {
        match self.kind {
            LeaseKind::Row => None,
            LeaseKind::Group(member) => Some(member),
        }
    }
}
