//! What both stores do alike with credentials of registrants.

use crate::{Error, Result};
use postrider_core::{
    KeyId, NewCredential, PasswordHash, Proof, SealError, SharedSecret, TokenHash,
};

/// What sealed secrets of credentials are bound to beside their row.
pub(crate) const PURPOSE: &str = "credential";

/// What a caller of a compatible API shows, as far as it tells who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialQuery {
    /// An API key or a user.
    Id {
        /// The compatible API, by its profile.
        system: String,
        /// The id.
        id: String,
    },
    /// A token.
    Token {
        /// The compatible API, by its profile.
        system: String,
        /// The token's hash, [`TokenHash::of_registrant`].
        hash: TokenHash,
    },
}

/// How a proof stands in its row.
pub(crate) struct Stored {
    pub hash: Option<TokenHash>,
    pub public_id: Option<String>,
    pub proof: Option<String>,
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

impl Stored {
    /// The proof of a new credential, its secret sealed.
    pub fn of(
        new: &NewCredential,
        seal: impl FnOnce(&[u8]) -> std::result::Result<String, SealError>,
    ) -> Result<Self> {
        let by_id = |id: &str, proof: String| Self {
            hash: None,
            public_id: Some(id.to_owned()),
            proof: Some(proof),
        };
        Ok(match &new.proof {
            Proof::Secret { id, secret } => by_id(id, seal(secret.reveal())?),
            Proof::Password { user, hash } => by_id(user, hash.text().to_owned()),
            Proof::Token(hash) => Self {
                hash: Some(*hash),
                public_id: None,
                proof: None,
            },
        })
    }
}

/// The proof that is stored, its secret opened.
pub(crate) fn opened(
    stored: Stored,
    open: impl FnOnce(&str) -> std::result::Result<Vec<u8>, SealError>,
) -> Result<Proof> {
    match stored {
        // The slow hash of a password says so by how it begins; nothing sealed begins like it.
        Stored {
            public_id: Some(user),
            proof: Some(proof),
            ..
        } if proof.starts_with('$') => Ok(Proof::Password {
            user,
            hash: PasswordHash::stored(proof),
        }),
        Stored {
            public_id: Some(id),
            proof: Some(proof),
            ..
        } => Ok(Proof::Secret {
            id,
            secret: SharedSecret::new(open(&proof)?),
        }),
        Stored {
            hash: Some(hash), ..
        } => Ok(Proof::Token(hash)),
        Stored { .. } => Err(SealError::Damaged.into()),
    }
}

/// Another credential is recognised by the same.
pub(crate) fn taken(new: &NewCredential) -> Error {
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

/// There is no credential of this id; keys of Postrider's own API are none.
pub(crate) fn no_credential(id: KeyId) -> Error {
    Error::NotFound {
        what: "credential of a registrant",
        id: id.to_string(),
    }
}
