//! Ownership of gated hooks.

use crate::{OwnershipAnswer, OwnershipRequest, Result};
use async_trait::async_trait;
use postrider_core::{HookId, WorkerId};

/// Ownership of gated hooks.
#[async_trait]
pub trait Gates: Send + Sync {
    /// Makes a worker the owner of gated hooks, or lets it stay so; an answer for each hook
    /// asked for.
    ///
    /// A hook has one owner at a time. It stays the owner's until the time that was given,
    /// however often others ask; then it is whose who asks first. Nobody becomes the owner of a
    /// hook that is backed off before it may be probed, but an owner may stay. A store that
    /// gives the right to work to one process only lets that one own all it asks for.
    async fn own_gates(&self, request: OwnershipRequest) -> Result<Vec<OwnershipAnswer>>;

    /// Gives up the ownership of these hooks, where the worker has it.
    async fn disown_gates(&self, worker: WorkerId, hooks: &[HookId]) -> Result<()>;

    /// These hooks have ramped up: they are held back no more, unless they have failed since.
    async fn end_ramps(&self, hooks: &[HookId]) -> Result<()>;
}
