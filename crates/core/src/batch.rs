//! Several events in one request, for formats that have that.

use crate::Hook;
use std::fmt;
use std::time::Duration;

/// How the events of a hook go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Events in one request at most.
    pub most: u32,
    /// How long the first of them waits for others.
    pub window: Duration,
}

/// Which hooks get several events in one request.
pub trait Batches: fmt::Debug + Send + Sync {
    /// How the events of `hook` go together; `None` when each goes by itself.
    fn of(&self, hook: &Hook) -> Option<Batching>;
}
