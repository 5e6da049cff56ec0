//! What happened: events, deliveries, attempts, rejected rows.

use crate::{AttemptReport, DeliveryReport, DeliveryState, EventReport, RejectedReport, Result};
use async_trait::async_trait;
use postrider_core::{DeliveryId, EventId, HookId, Timestamp};

/// Which events to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only this account's.
    pub account: Option<String>,
    /// Only this exact type.
    pub event_type: Option<String>,
    /// Only events inserted at this time or later, by the time in their ids.
    pub since: Option<Timestamp>,
    /// Only events inserted before this time.
    pub until: Option<Timestamp>,
    /// Only events older than this one.
    pub before: Option<EventId>,
    /// At most this many.
    pub limit: u32,
}

/// Which deliveries to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only to this hook.
    pub hook: Option<HookId>,
    /// Only of this event.
    pub event: Option<EventId>,
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only to hooks of this account, deleted ones included.
    pub account: Option<String>,
    /// Only of events inserted at this time or later, by the time in their ids.
    pub since: Option<Timestamp>,
    /// Only of events inserted before this time.
    pub until: Option<Timestamp>,
    /// Only deliveries older than this one.
    pub before: Option<DeliveryId>,
    /// At most this many.
    pub limit: u32,
}

/// What happened: events, deliveries, attempts, rejected rows.
#[async_trait]
pub trait History: Send + Sync {
    /// One event with its payload, also while it is in the outbox or was rejected.
    async fn event(&self, id: EventId) -> Result<EventReport>;

    /// Events without their payloads, newest first, those in the outbox included.
    async fn events(&self, filter: EventFilter) -> Result<Vec<EventReport>>;

    /// One delivery, whether it waits, runs or has ended.
    async fn delivery(&self, id: DeliveryId) -> Result<DeliveryReport>;

    /// Deliveries, newest event first, whether they wait, run or have ended.
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryReport>>;

    /// The attempts of one delivery, in the order they were made.
    async fn attempts(&self, id: DeliveryId) -> Result<Vec<AttemptReport>>;

    /// The latest rejected outbox rows, newest first.
    async fn rejected(&self, limit: u32) -> Result<Vec<RejectedReport>>;
}
