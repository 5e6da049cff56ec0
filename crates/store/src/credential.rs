//! Credentials of registrants: how their proof is stored, and how one is found.

use crate::key_row::access;
use crate::stored_row::StoredRow;
use crate::{Error, Result};
use postrider_core::{
    AccessChange, Credential, KeyId, KeyRing, NewCredential, PasswordHash, Proof, RegistrantStatus,
    SealError, SharedSecret, TokenHash,
};

/// The purpose that the secrets of credentials are sealed for.
pub(crate) const PURPOSE: &str = "credential";

/// What a caller of a compatible API presents to be recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialQuery {
    /// An API key or a user.
    Id {
        /// The compatible API, by its profile.
        system: String,
        /// The API key or the user name.
        id: String,
    },
    /// By a token that the registrant sends; only its hash is known.
    Token {
        /// The compatible API, by its profile.
        system: String,
        /// The token's hash, [`TokenHash::of_registrant`].
        hash: TokenHash,
    },
}

impl CredentialQuery {
    /// The compatible API.
    pub(crate) fn system(&self) -> &str {
        match self {
            Self::Id { system, .. } | Self::Token { system, .. } => system,
        }
    }

    pub(crate) fn public_id(&self) -> Option<&str> {
        match self {
            Self::Id { id, .. } => Some(id),
            Self::Token { .. } => None,
        }
    }

    pub(crate) fn hash(&self) -> Option<TokenHash> {
        match self {
            Self::Id { .. } => None,
            Self::Token { hash, .. } => Some(*hash),
        }
    }
}

/// The columns that hold the proof of a credential.
pub(crate) struct StoredProof {
    pub hash: Option<TokenHash>,
    pub public_id: Option<String>,
    /// A sealed secret or the slow hash of a password.
    pub proof: Option<String>,
}

impl StoredProof {
    /// The proof of a new credential, its secret sealed.
    pub(crate) fn of(
        new: &NewCredential,
        id: KeyId,
        keys: &KeyRing,
    ) -> std::result::Result<Self, SealError> {
        let by_id = |id: &str, proof: String| Self {
            hash: None,
            public_id: Some(id.to_owned()),
            proof: Some(proof),
        };
        Ok(match &new.proof {
            Proof::Secret {
                id: api_key,
                secret,
            } => by_id(api_key, keys.seal(PURPOSE, id.0, secret.reveal())?),
            Proof::Password { user, hash } => by_id(user, hash.text().to_owned()),
            Proof::Token(hash) => Self {
                hash: Some(*hash),
                public_id: None,
                proof: None,
            },
        })
    }

    fn open(self, id: KeyId, keys: &KeyRing) -> std::result::Result<Proof, SealError> {
        match (self.public_id, self.proof, self.hash) {
            // The slow hash of a password begins with `$`; nothing sealed does.
            (Some(user), Some(proof), _) if proof.starts_with('$') => Ok(Proof::Password {
                user,
                hash: PasswordHash::stored(proof),
            }),
            (Some(api_key), Some(proof), _) => Ok(Proof::Secret {
                id: api_key,
                secret: SharedSecret::new(keys.open(PURPOSE, id.0, &proof)?),
            }),
            (_, _, Some(hash)) => Ok(Proof::Token(hash)),
            _ => Err(SealError::Damaged),
        }
    }
}

/// The columns that a change of access writes. `None` leaves one as it is.
pub(crate) struct AccessPatch {
    pub may_read: Option<bool>,
    pub may_write: Option<bool>,
    pub account_active: Option<bool>,
    pub member_active: Option<bool>,
    pub verified: Option<bool>,
}

impl From<AccessChange> for AccessPatch {
    fn from(change: AccessChange) -> Self {
        let is_active =
            |status: Option<RegistrantStatus>| status.map(|s| s == RegistrantStatus::Active);
        Self {
            may_read: change.permission.map(|(read, _)| read),
            may_write: change.permission.map(|(_, write)| write),
            account_active: is_active(change.account_status),
            member_active: is_active(change.member_status),
            verified: change.verified,
        }
    }
}

/// Reads the credential that a query has found.
pub(crate) fn credential(
    row: &impl StoredRow,
    query: &CredentialQuery,
    keys: &KeyRing,
) -> Result<Credential> {
    let id = KeyId(row.uuid("id")?);
    let stored = StoredProof {
        hash: query.hash(),
        public_id: row.text_or_null("public_id")?,
        proof: row.text_or_null("proof")?,
    };
    Ok(Credential {
        id,
        account: row.text("account")?,
        proof: stored.open(id, keys)?,
        access: access(row)?,
        last_used_at: row.time_or_null("last_used_at")?,
    })
}

/// Another credential of the system has the same proof.
pub(crate) fn credential_exists(new: &NewCredential) -> Error {
    let what = match &new.proof {
        Proof::Secret { id, .. } => format!("the API key {id:?}"),
        Proof::Password { user, .. } => format!("the user {user:?}"),
        Proof::Token(_) => "this token".to_owned(),
    };
    Error::Conflict(format!(
        "there is a credential for {} with {what} already: revoke it first, or choose another",
        new.system
    ))
}

/// There is no credential of this id. Keys of Postrider's own API are none.
pub(crate) fn credential_not_found(id: KeyId) -> Error {
    Error::NotFound {
        what: "credential of a registrant",
        id: id.to_string(),
    }
}
