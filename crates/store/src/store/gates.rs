//! Ownership of gated hooks.

use crate::{OwnershipAnswer, OwnershipRequest, Result};
use async_trait::async_trait;
use postrider_core::{HookId, WorkerId};

/// Ownership of gated hooks: hooks that are backed off or ramping up, or have limits or an order,
/// so that one worker alone starts their deliveries.
#[async_trait]
pub trait Gates: Send + Sync {
    /// Makes a worker the owner of gated hooks, or prolongs its ownership. Returns one answer
    /// for each hook.
    ///
    /// A hook has one owner at a time, until the time that was granted. After that the first
    /// worker to ask becomes the owner. A hook that is backed off gets no new owner before it may
    /// be probed; its present owner may prolong. SQLite, which has one worker process, grants
    /// every request.
    ///
    /// # Errors
    /// Those of every method.
    async fn own_gates(&self, request: OwnershipRequest) -> Result<Vec<OwnershipAnswer>>;

    /// Ends the ownership of those of these hooks that the worker owns.
    ///
    /// # Errors
    /// Those of every method.
    async fn disown_gates(&self, worker: WorkerId, hooks: &[HookId]) -> Result<()>;

    /// Ends the phase of those of these hooks that are ramping up. Hooks that have failed since
    /// stay backed off.
    ///
    /// # Errors
    /// Those of every method.
    async fn end_ramps(&self, hooks: &[HookId]) -> Result<()>;
}
