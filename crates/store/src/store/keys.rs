//! Keys of the API.

use crate::{KeyReport, Result};
use async_trait::async_trait;
use postrider_core::{Key, KeyId, NewKey, Timestamp, TokenHash};

/// Which keys of the API to list.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Only keys made after this one (by id, which sorts by time).
    pub after: Option<KeyId>,
    /// At most this many.
    pub limit: u32,
}

/// Keys of the API.
#[async_trait]
pub trait Keys: Send + Sync {
    /// Makes a key that is found by the hash of its token from now on. A key that breaks a
    /// bound is refused, and so is a hash that another key has.
    async fn create_key(&self, key: NewKey, hash: TokenHash, now: Timestamp) -> Result<KeyReport>;

    /// Keys in the order of their ids, revoked ones included.
    async fn keys(&self, filter: KeyFilter) -> Result<Vec<KeyReport>>;

    /// Revokes a key for good: it is not found any more. One that is revoked already keeps the
    /// time. Returns it as it then is.
    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<KeyReport>;

    /// The key whose token has this hash; none if there is no such key or it is revoked.
    async fn find_key(&self, hash: TokenHash) -> Result<Option<Key>>;

    /// Records when keys were last used. A use less than a minute after the one on record is
    /// not recorded, so that it costs one write a minute for a key at most, whoever calls.
    /// Unknown keys are passed over.
    async fn keys_used(&self, used: &[(KeyId, Timestamp)]) -> Result<()>;
}
