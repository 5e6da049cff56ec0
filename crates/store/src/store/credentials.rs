//! Credentials of registrants of the compatible APIs.

use crate::{CredentialQuery, KeyReport, Result};
use async_trait::async_trait;
use postrider_core::{AccessChange, Credential, KeyId, NewCredential, Timestamp};

/// Credentials of registrants of the compatible APIs. They are listed and revoked like
/// [`Keys`](crate::Keys).
#[async_trait]
pub trait Credentials: Send + Sync {
    /// Creates a credential of a registrant. Its secret, if it has one, is sealed.
    ///
    /// # Errors
    /// - [`Credential`](crate::Error::Credential): a field breaks a bound.
    /// - [`Conflict`](crate::Error::Conflict): another credential of the system, which is not
    ///   revoked, has the same API key, user or token.
    /// - [`Seal`](crate::Error::Seal): there is no key to seal the secret with.
    async fn create_credential(&self, new: NewCredential, now: Timestamp) -> Result<KeyReport>;

    /// Changes what a registrant may do.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound): there is no such credential. Keys of Postrider's
    /// own API are none.
    async fn change_credential(&self, id: KeyId, change: AccessChange) -> Result<KeyReport>;

    /// Returns the credential that a caller has presented. `None`: there is no such credential,
    /// or it is revoked.
    ///
    /// # Errors
    /// [`Seal`](crate::Error::Seal): its secret cannot be opened with the keys at hand.
    async fn find_credential(&self, query: CredentialQuery) -> Result<Option<Credential>>;

    /// Accepts a signature under a key once. `false`: it was accepted before.
    ///
    /// The signature is remembered in the database until the given moment, and may be accepted
    /// again after it. Each call deletes a few signatures whose moment has passed.
    ///
    /// # Errors
    /// Those of every method.
    async fn take_signature(
        &self,
        key: KeyId,
        signature: &[u8],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool>;
}
