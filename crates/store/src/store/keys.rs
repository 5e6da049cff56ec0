//! Keys of the API.

use crate::{KeyReport, Result};
use async_trait::async_trait;
use postrider_core::{Key, KeyId, NewKey, Timestamp, TokenHash};

/// Which keys of the API to list.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Only keys created after this one, by id, which sorts by time.
    pub after: Option<KeyId>,
    /// Largest number of keys returned.
    pub limit: u32,
}

/// Keys of the API.
#[async_trait]
pub trait Keys: Send + Sync {
    /// Creates a key. From now on it is found by the hash of its token.
    ///
    /// # Errors
    /// - [`Key`](crate::Error::Key): a field breaks a bound.
    /// - [`Refused`](crate::Error::Refused): another key has this hash.
    async fn create_key(&self, key: NewKey, hash: TokenHash, now: Timestamp) -> Result<KeyReport>;

    /// Lists keys in the order of their ids, revoked ones and credentials of registrants
    /// included.
    ///
    /// # Errors
    /// Those of every method.
    async fn keys(&self, filter: KeyFilter) -> Result<Vec<KeyReport>>;

    /// Revokes a key or a credential of a registrant for good, and returns it as it then is. It
    /// is not found any more. One that was revoked before keeps the time of that.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound): there is no such key.
    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<KeyReport>;

    /// Returns the key whose token has this hash. `None`: there is no such key, or it is revoked.
    ///
    /// # Errors
    /// Those of every method.
    async fn find_key(&self, hash: TokenHash) -> Result<Option<Key>>;

    /// Records when keys were last used. A use less than a minute after the one on record is not
    /// recorded, so that a key costs at most one write a minute. Unknown keys are ignored.
    ///
    /// # Errors
    /// Those of every method.
    async fn keys_used(&self, used: &[(KeyId, Timestamp)]) -> Result<()>;
}
