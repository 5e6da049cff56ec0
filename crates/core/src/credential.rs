//! Credentials of registrants: who may register hooks over a compatible API, and as whom.
//!
//! Each compatible API shows who calls in its own way, but there are three kinds only: an id and
//! a secret that signs, which must be had again to check a signature and is sealed at rest; a
//! user and a password, of which a slow hash is kept; and a token, recognised by its SHA-256.
//! Which API uses which is not known here.

use crate::{KEY_MAX_BYTES, KeyId, PasswordHash, Timestamp, TokenHash};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt;

/// Longest id, secret, user, password or token of a credential, in bytes.
const PART_MAX_BYTES: usize = 255;
/// Longest name of a credential, in bytes.
const NAME_MAX_BYTES: usize = 200;

/// A secret that signs. It has no `Debug`: it must not reach a log.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret(Vec<u8>);

impl SharedSecret {
    /// A secret of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The secret in the clear.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl TokenHash {
    /// The hash of a token that a registrant shows to a compatible API.
    ///
    /// The API's name is hashed with it, so that a token of one API is none of another's.
    pub fn of_registrant(system: &str, token: &str) -> Self {
        let digest = Sha256::new()
            .chain_update(system.as_bytes())
            .chain_update([0])
            .chain_update(token.as_bytes());
        Self(digest.finalize().into())
    }
}

/// What a registrant is recognised by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// An id, and the secret that signs under it.
    Secret {
        /// The id, which is no secret.
        id: String,
        /// The secret.
        secret: SharedSecret,
    },
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The slow hash of the password.
        hash: PasswordHash,
    },
    /// A token.
    Token(TokenHash),
}

/// Whether an account, or a member of it, may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistrantStatus {
    /// It may.
    Active,
    /// It is suspended, or not yet let in.
    Inactive,
}

impl RegistrantStatus {
    /// The standing's name, as it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }

    /// The standing of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Inactive]
            .into_iter()
            .find(|standing| standing.name() == name)
    }
}

/// What the holder of a credential may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Whether it may see hooks.
    pub read: bool,
    /// Whether it may register, change and delete hooks.
    pub write: bool,
    /// Whether its account may act.
    pub account_status: RegistrantStatus,
    /// Whether it may act in its account.
    pub member_status: RegistrantStatus,
    /// Whether its account has shown whose it is.
    pub verified: bool,
}

impl Access {
    /// Whether nothing is withheld.
    pub fn is_full(&self) -> bool {
        *self == Self::default()
    }
}

/// Everything.
impl Default for Access {
    fn default() -> Self {
        Self {
            read: true,
            write: true,
            account_status: RegistrantStatus::Active,
            member_status: RegistrantStatus::Active,
            verified: true,
        }
    }
}

/// A change of what a credential's holder may do; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessChange {
    /// Whether it may see hooks, and whether it may change them.
    pub permission: Option<(bool, bool)>,
    /// Whether its account may act.
    pub account_status: Option<RegistrantStatus>,
    /// Whether it may act in its account.
    pub member_status: Option<RegistrantStatus>,
    /// Whether its account has shown whose it is.
    pub verified: Option<bool>,
}

impl AccessChange {
    /// Whether anything is to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A credential to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCredential {
    /// For which compatible API: the name of its profile.
    pub system: String,
    /// Whose hooks its holder registers.
    pub account: String,
    /// What people call it.
    pub name: Option<String>,
    /// What its holder is recognised by.
    pub proof: Proof,
    /// What its holder may do.
    pub access: Access,
}

/// A credential that a caller has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its id.
    pub id: KeyId,
    /// Whose hooks its holder registers.
    pub account: String,
    /// What its holder is recognised by.
    pub proof: Proof,
    /// What its holder may do.
    pub access: Access,
    /// When it was last used, within about a minute.
    pub last_used_at: Option<Timestamp>,
}

/// The credential cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The account is empty or too long, or holds a NUL.
    #[error(
        "the account must be 1 to {KEY_MAX_BYTES} bytes long, without NUL; this one has {0} bytes"
    )]
    Account(usize),
    /// The name is empty, too long or holds control characters.
    #[error(
        "the name of a key must be 1 to {NAME_MAX_BYTES} bytes long, without control characters"
    )]
    Name,
    /// A part of the credential that cannot be sent as it is.
    #[error(
        "the {what} must be {least} to {PART_MAX_BYTES} bytes long, {form}; this one has {bytes}"
    )]
    Part {
        /// Which part.
        what: &'static str,
        /// How long it is at least.
        least: usize,
        /// What it may hold.
        form: &'static str,
        /// How long it is.
        bytes: usize,
    },
}

impl NewCredential {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self) -> Result<(), CredentialError> {
        let account = &self.account;
        if account.is_empty() || account.len() > KEY_MAX_BYTES || account.contains('\0') {
            return Err(CredentialError::Account(account.len()));
        }
        if let Some(name) = &self.name
            && (name.is_empty() || name.len() > NAME_MAX_BYTES || name.contains(char::is_control))
        {
            return Err(CredentialError::Name);
        }
        match &self.proof {
            Proof::Secret { id, .. } => check_word("API key", 1, id),
            // A colon would end the user.
            Proof::Password { user, .. } if user.contains(':') => Err(CredentialError::Part {
                what: "user",
                least: 1,
                form: "without a colon",
                bytes: user.len(),
            }),
            Proof::Password { user, .. } => check_text("user", 1, user),
            Proof::Token(_) => Ok(()),
        }
    }
}

/// Checks a part that stands in a header between commas: printable ASCII without blanks,
/// commas and equals signs.
///
/// # Errors
/// When it is too short or too long, or holds something else.
pub fn check_word(what: &'static str, least: usize, text: &str) -> Result<(), CredentialError> {
    let of_word = |b: u8| b.is_ascii_graphic() && !matches!(b, b',' | b'=' | b'"');
    let form = "letters, digits and marks, without blanks, commas, equals signs and quotes";
    part(what, least, form, text, text.bytes().all(of_word))
}

/// Checks a part that may be any text without control characters.
///
/// # Errors
/// When it is too short or too long, or holds a control character.
pub fn check_text(what: &'static str, least: usize, text: &str) -> Result<(), CredentialError> {
    let form = "without control characters";
    part(what, least, form, text, !text.contains(char::is_control))
}

fn part(
    what: &'static str,
    least: usize,
    form: &'static str,
    text: &str,
    well_formed: bool,
) -> Result<(), CredentialError> {
    let bytes = text.len();
    match well_formed && (least..=PART_MAX_BYTES).contains(&bytes) {
        true => Ok(()),
        false => Err(CredentialError::Part {
            what,
            least,
            form,
            bytes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(proof: Proof) -> NewCredential {
        NewCredential {
            system: "some".into(),
            account: "acme".into(),
            name: None,
            proof,
            access: Access::default(),
        }
    }

    fn signing(id: &str) -> NewCredential {
        credential(Proof::Secret {
            id: id.into(),
            secret: SharedSecret::new("s"),
        })
    }

    #[test]
    fn what_could_not_be_sent_is_refused() {
        let user = |user: &str| {
            credential(Proof::Password {
                user: user.into(),
                hash: PasswordHash::stored("x"),
            })
        };
        let long = "x".repeat(256);
        for good in [
            signing("NCSAYU7YDBXYORXC"),
            user("api_user"),
            user("ü x"),
            credential(Proof::Token(TokenHash([1; 32]))),
        ] {
            assert_eq!(good.check(), Ok(()), "{good:?}");
        }
        for bad in ["", "a b", "a,b", "a=b", "a\"b", "ä", &long] {
            assert!(signing(bad).check().is_err(), "{bad}");
        }
        for bad in ["", "a:b", "a\nb", &long] {
            assert!(user(bad).check().is_err(), "{bad}");
        }
        let broken = NewCredential {
            account: String::new(),
            ..signing("a")
        };
        assert_eq!(broken.check(), Err(CredentialError::Account(0)));
        let broken = NewCredential {
            name: Some("a\nb".into()),
            ..signing("a")
        };
        assert_eq!(broken.check(), Err(CredentialError::Name));
    }

    #[test]
    fn a_token_of_one_system_is_none_of_anothers() {
        let hash = TokenHash::of_registrant("one", "token");
        assert_eq!(hash, TokenHash::of_registrant("one", "token"));
        assert_ne!(hash, TokenHash::of_registrant("other", "token"));
        assert_ne!(hash, TokenHash::of_registrant("one", "tokens"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?}", signing("NCSKEY"));
        assert!(
            shown.contains("NCSKEY") && shown.contains("<secret>"),
            "{shown}"
        );
    }
}
