//! From the outbox to deliveries: enqueue and fan out.

use crate::{FanOutRequest, FanOutResult, HookCache, Peek, Result};
use async_trait::async_trait;
use postrider_core::{EventId, KeyId, NewEvent, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// A call that publishes its events once, even if it is repeated.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// The API key of the caller: an equal `key` by another caller is another call.
    pub caller: KeyId,
    /// The idempotency key: equal in all repeats of the call.
    pub key: String,
    /// The SHA-256 of the request.
    pub digest: [u8; 32],
}

/// The result of such a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnqueuedOnce {
    /// The events are in the outbox now.
    Now(Vec<EventId>),
    /// They were inserted by an earlier call, under these ids; nothing was done.
    Before(Vec<EventId>),
    /// An earlier call with this key had another request; nothing was done.
    Mismatch,
}

/// How long the key of such a call is kept.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);

/// From the outbox to deliveries: enqueue and fan out.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Inserts events into the outbox, all or none, and returns their ids in the same order.
    /// The commit is durable when this returns. Events that break a bound are refused before
    /// anything is written.
    ///
    /// # Errors
    /// - [`Event`](crate::Error::Event): an event breaks a bound.
    /// - [`Refused`](crate::Error::Refused): the database does not take an event.
    async fn enqueue(&self, events: &[NewEvent]) -> Result<Vec<EventId>>;

    /// The same once for each key of a caller within [`IDEMPOTENCY_KEPT`]: a repeat of the call
    /// inserts nothing and returns the ids of the first. A call at the same time waits for the
    /// first. The key is recorded in the transaction that inserts the events.
    ///
    /// # Errors
    /// Those of [`enqueue`](Self::enqueue).
    async fn enqueue_once(
        &self,
        call: &Idempotency,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<EnqueuedOnce>;

    /// The slots that have outbox rows, and the version of the hooks. Cheap at any backlog.
    ///
    /// # Errors
    /// Those of every method.
    async fn peek(&self) -> Result<Peek>;

    /// Turns outbox rows of one slot into events and deliveries.
    ///
    /// The rows leave the outbox in the transaction that makes the deliveries, one for each hook
    /// of the account that takes deliveries and whose patterns and filter match the event. The
    /// hooks are those at the time the row was read, or later ones. A filter that cannot evaluate
    /// the payload does not match, and is counted. Rows of one slot are taken in the order of
    /// `seq`; no row is taken by two callers. While any hook is ordered, one caller at a time takes
    /// rows of a slot, and another gets none meanwhile. Deliveries to active hooks that are not
    /// gated, fit into the capacity and are due are returned leased. All others wait, due at once
    /// or at `deliver_after`. Deliveries of a hook that gets several events in one request all
    /// wait, until the end of the batch window.
    ///
    /// A row whose `dedup_key` was seen before in its account is dropped and counted. A row
    /// that breaks a bound, or that the database refuses to keep, moves to
    /// `postrider_rejected` with the reason; it never stops the others.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused): the database does not take a row into
    /// `postrider_rejected` either.
    async fn fan_out(&self, request: FanOutRequest) -> Result<FanOutResult>;

    /// The hooks as the latest call of this store read them.
    fn hook_cache(&self) -> Arc<HookCache>;
}
