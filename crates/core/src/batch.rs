//! Batches: several events in one request, for formats that allow it.

use crate::Hook;
use std::fmt;
use std::time::Duration;

/// How events of one hook are put into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The largest number of events in one request.
    pub most: u32,
    /// How long the first event waits for others before the batch is sent.
    pub window: Duration,
}

/// Decides which hooks get batches.
pub trait Batches: fmt::Debug + Send + Sync {
    /// The batching of `hook`; `None` when each event has a request of its own.
    fn of(&self, hook: &Hook) -> Option<Batching>;
}
