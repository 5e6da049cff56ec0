//! What workers ask of the store, and what they get back.

use crate::{Capacity, HookRequest};
use postrider_core::{Batches, HookId, LeaseToken, Timestamp, WorkerId};
use std::fs::File;
use std::sync::Arc;

pub use crate::hook_cache::HookCache;

/// One worker's wish to fan out a batch of one slot.
#[derive(Clone, Debug)]
pub struct FanOutRequest {
    /// From 0; always 0 on SQLite.
    pub slot: i16,
    /// The worker's clock.
    pub now: Timestamp,
    /// The token of the deliveries that start at once, drawn anew for each call.
    pub token: LeaseToken,
    /// When their lease ends.
    pub until: Timestamp,
    /// What can start at once.
    pub capacity: Capacity,
    /// Outbox rows taken at most.
    pub max_events: u32,
    /// Bytes of payload read at most (a single event may exceed it).
    pub max_bytes: u64,
    /// Deliveries made at most (a single event may exceed it).
    pub max_deliveries: u32,
    /// Rows whose `deliver_after` is later than this are rejected: their history would be gone.
    pub deliver_before: Timestamp,
    /// Which hooks get several events in one request, if any do.
    pub batches: Option<Arc<dyn Batches>>,
}

/// One worker's wish to lease due deliveries of one slot.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// From 0; always 0 on SQLite.
    pub slot: i16,
    /// The worker's clock.
    pub now: Timestamp,
    /// The token of the lease.
    pub token: LeaseToken,
    /// When it ends.
    pub until: Timestamp,
    /// Who asks.
    pub worker: WorkerId,
    /// From which hooks, and how many of each at most; a batch counts as one.
    pub wanted: Vec<(HookId, u32)>,
    /// Which hooks get several events in one request, if any do.
    pub batches: Option<Arc<dyn Batches>>,
}

/// A hook with deliveries that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueHook {
    /// Active or not.
    pub hook: HookId,
    /// When the first of them is due.
    pub first_due: Timestamp,
}

/// The right to run a worker on a database, until it is dropped.
#[derive(Debug, Default)]
pub struct WorkerClaim(Option<File>);

impl WorkerClaim {
    /// A claim that lasts as long as this file is open, and locked.
    pub(crate) fn locked(file: File) -> Self {
        Self(Some(file))
    }

    /// Whether other processes are kept away.
    pub fn is_exclusive(&self) -> bool {
        self.0.is_some()
    }
}

/// What a look at the database tells an idle worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// The slots whose outbox has rows.
    pub outbox: Vec<i16>,
    /// Grows with every change of a hook.
    pub hooks_version: i64,
}

/// What one fan-out did.
#[derive(Clone, Debug, Default)]
pub struct FanOutResult {
    /// Outbox rows that became events.
    pub events: u32,
    /// Deliveries made of them, the started ones included.
    pub deliveries: u32,
    /// Rows dropped because their `dedup_key` had been seen.
    pub duplicates: u32,
    /// Rows moved to `postrider_rejected`.
    pub rejected: u32,
    /// How often a hook's filter could not be held against a payload: it got no delivery.
    pub filter_problems: u32,
    /// Deliveries that are leased to this worker already.
    pub started: Vec<HookRequest>,
    /// Hooks that have deliveries due at once which did not fit into the capacity.
    pub waiting: Vec<HookId>,
    /// Hooks with deliveries that wait to go in a batch, and when the first of their windows ends.
    pub batching: Vec<(HookId, Timestamp)>,
    /// Whether the outbox may hold more rows for this slot.
    pub more: bool,
}

/// One worker's wish to own gated hooks.
#[derive(Clone, Debug)]
pub struct OwnershipRequest {
    /// Who asks.
    pub worker: WorkerId,
    /// The worker's clock.
    pub now: Timestamp,
    /// When the ownership ends, unless it is renewed.
    pub until: Timestamp,
    /// The gated hooks that the worker wants to own.
    pub hooks: Vec<HookId>,
}

/// Whether a worker owns a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnershipAnswer {
    /// One of the hooks that were asked for.
    pub hook: HookId,
    /// Whether the worker that asked is now its owner.
    pub owned: bool,
    /// While it is backed off: no probe before then.
    pub not_before: Option<Timestamp>,
}

/// What looking for expired leases did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverResult {
    /// Deliveries that are due again.
    pub recovered: u32,
    /// Deliveries that lost their worker three times in a row: recorded as an attempt, they
    /// wait by their schedule, or have failed when it is used up.
    pub worker_lost: u32,
}
