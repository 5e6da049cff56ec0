//! From the outbox to deliveries: enqueue and fan out.

use crate::{FanOutRequest, FanOutResult, HookCache, Peek, Result};
use async_trait::async_trait;
use postrider_core::{EventId, KeyId, NewEvent, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// A call that is to publish events once, however often it is made.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// The key of the API that calls: the same words by another are another call.
    pub caller: KeyId,
    /// What the caller says to make repeats of the call known.
    pub key: String,
    /// The SHA-256 of what is asked for.
    pub digest: [u8; 32],
}

/// What became of such a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnqueuedOnce {
    /// The events are in the outbox now.
    Now(Vec<EventId>),
    /// They were before, under these ids; nothing was done.
    Before(Vec<EventId>),
    /// Something else was asked for with this key before; nothing was done.
    Mismatch,
}

/// How long the key of such a call is remembered.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);

/// From the outbox to deliveries: enqueue and fan out.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Inserts events into the outbox, all or none, and returns their ids in the same order.
    /// The commit is durable when this returns. Events that break a bound are refused before
    /// anything is written.
    async fn enqueue(&self, events: &[NewEvent]) -> Result<Vec<EventId>>;

    /// The same once for each key of a caller within [`IDEMPOTENCY_KEPT`]: a repeat of the call
    /// inserts nothing and is told the same ids, and so is one at the same time, after the
    /// first. The key is recorded in the transaction that inserts the events.
    async fn enqueue_once(
        &self,
        call: &Idempotency,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<EnqueuedOnce>;

    /// Which slots have outbox rows, and the version of the hooks. Cheap at any backlog.
    async fn peek(&self) -> Result<Peek>;

    /// Turns outbox rows of one slot into events and deliveries.
    ///
    /// The rows leave the outbox in the transaction that makes the deliveries, one for each hook
    /// of the account that takes deliveries and whose patterns and filter match the event, as the
    /// hooks stood when the row was read or later. A filter that cannot tell does not match, and
    /// is counted. Rows of one slot are taken in the order of `seq`; no row is taken by two
    /// callers. While any hook is ordered one caller at a time takes rows of a slot, and another
    /// meanwhile gets none. Deliveries to active hooks that are not gated, fit into the capacity and
    /// are due come back leased; all others wait, due at once or at `deliver_after`. Those of a
    /// hook that gets several events in one request all wait, for as long as its window is more.
    ///
    /// A row whose `dedup_key` was seen before in its account is dropped and counted. A row
    /// that breaks a bound, or that the database refuses to keep, moves to
    /// `postrider_rejected` with the reason; it never stops the others.
    async fn fan_out(&self, request: FanOutRequest) -> Result<FanOutResult>;

    /// The hooks as of the latest call of this store that read them.
    fn hook_cache(&self) -> Arc<HookCache>;
}
