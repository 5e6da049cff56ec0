//! Credentials of registrants of the compatible APIs.

use crate::{CredentialQuery, KeyReport, Result};
use async_trait::async_trait;
use postrider_core::{AccessChange, Credential, KeyId, NewCredential, Timestamp};

/// Credentials of registrants of the compatible APIs.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// Makes a credential of a registrant, which is found by what it shows from now on. Its
    /// secret, if it has one, is sealed. One that breaks a bound is refused; one that shows what
    /// another of the same system shows that is not revoked, is a conflict. Keys and credentials
    /// are listed and revoked together.
    async fn create_credential(&self, new: NewCredential, now: Timestamp) -> Result<KeyReport>;

    /// Changes what a registrant may do. Keys of Postrider's own API are not found.
    async fn change_credential(&self, id: KeyId, change: AccessChange) -> Result<KeyReport>;

    /// The credential of whoever shows this; none if there is no such credential or it is
    /// revoked.
    async fn find_credential(&self, query: CredentialQuery) -> Result<Option<Credential>>;

    /// Takes a signature under a key once: `false` when it was taken before. It is remembered,
    /// whatever restarts, at least until the given moment; those whose moment has passed are
    /// forgotten bit by bit.
    async fn take_signature(
        &self,
        key: KeyId,
        signature: &[u8],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool>;
}
