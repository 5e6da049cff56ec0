//! What happened: events, deliveries, attempts and rejected rows.

use crate::{AttemptReport, DeliveryReport, DeliveryState, EventReport, RejectedReport, Result};
use async_trait::async_trait;
use postrider_core::{DeliveryId, EventId, HookId, Timestamp};

/// Selects events to list.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only events of this account.
    pub account: Option<String>,
    /// Only events of exactly this type.
    pub event_type: Option<String>,
    /// Only events inserted at this time or later, by the time in their ids.
    pub since: Option<Timestamp>,
    /// Only events inserted before this time, by the time in their ids.
    pub until: Option<Timestamp>,
    /// Only events with a lower id: the last one of the page before.
    pub before: Option<EventId>,
    /// The largest number of events to list.
    pub limit: u32,
}

/// Selects deliveries to list.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only deliveries to this hook.
    pub hook: Option<HookId>,
    /// Only deliveries of this event.
    pub event: Option<EventId>,
    /// Only deliveries in this state.
    pub state: Option<DeliveryState>,
    /// Only deliveries to hooks of this account, deleted hooks included.
    pub account: Option<String>,
    /// Only deliveries of events inserted at this time or later, by the time in their ids.
    pub since: Option<Timestamp>,
    /// Only deliveries of events inserted before this time, by the time in their ids.
    pub until: Option<Timestamp>,
    /// Only deliveries with a lower id: the last one of the page before.
    pub before: Option<DeliveryId>,
    /// The largest number of deliveries to list.
    pub limit: u32,
}

/// What happened: events, deliveries, attempts and rejected rows.
#[async_trait]
pub trait History: Send + Sync {
    /// Returns one event with its payload, also while it is in the outbox or after it was
    /// rejected.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound): there is no event of this id.
    async fn event(&self, id: EventId) -> Result<EventReport>;

    /// Lists events without their payloads, newest first, those in the outbox included.
    ///
    /// # Errors
    /// Those of every method.
    async fn events(&self, filter: EventFilter) -> Result<Vec<EventReport>>;

    /// Returns one delivery in its present state.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound): there is no delivery of this id.
    async fn delivery(&self, id: DeliveryId) -> Result<DeliveryReport>;

    /// Lists deliveries in their present states, by id, newest event first. A delivery that ended
    /// otherwise than delivered is listed for a week longer than its event.
    ///
    /// # Errors
    /// Those of every method.
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryReport>>;

    /// Lists the attempts of one delivery in the order they were made: by time, number and id.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound): there is no delivery of this id. One without attempts
    /// has an empty list.
    async fn attempts(&self, id: DeliveryId) -> Result<Vec<AttemptReport>>;

    /// Lists the rejected outbox rows with the highest ids, at most `limit`, by the time of
    /// rejection, newest first.
    ///
    /// # Errors
    /// Those of every method.
    async fn rejected(&self, limit: u32) -> Result<Vec<RejectedReport>>;
}
