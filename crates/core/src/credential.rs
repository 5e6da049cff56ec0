//! Credentials of registrants, who register hooks through a compatible API.
//!
//! Compatible APIs identify callers in three ways: by an id and a secret that signs, which is needed
//! to check signatures and is stored sealed; by a user and a password, stored as a slow hash; and by
//! a token, stored as its SHA-256. The APIs themselves are not known here.

use crate::{KEY_MAX_BYTES, KeyId, PasswordHash, Timestamp, TokenHash};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt;

/// Longest id, secret, user, password or token of a credential, in bytes.
const PART_MAX_BYTES: usize = 255;
/// Longest name of a credential, in bytes.
const NAME_MAX_BYTES: usize = 200;

/// A secret that signs. `Debug` hides it, so that it cannot be logged.
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
    /// The hash of a token that a registrant sends to a compatible API.
    ///
    /// The name of the API is part of the hash, so that a token is valid in one API only.
    pub fn of_registrant(system: &str, token: &str) -> Self {
        let digest = Sha256::new()
            .chain_update(system.as_bytes())
            .chain_update([0])
            .chain_update(token.as_bytes());
        Self(digest.finalize().into())
    }
}

/// How a registrant proves its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By signing with a secret that has an id.
    Secret {
        /// The public id of the secret.
        id: String,
        /// The secret that signs.
        secret: SharedSecret,
    },
    /// By a user name and a password.
    Password {
        /// The user name.
        user: String,
        /// The slow hash of the password.
        hash: PasswordHash,
    },
    /// By a token.
    Token(TokenHash),
}

/// Whether an account, or a member of it, may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistrantStatus {
    /// It may call.
    Active,
    /// It is suspended or not yet approved.
    Inactive,
}

impl RegistrantStatus {
    /// The name under which the status is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }

    /// The status with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Inactive]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// The rights of a registrant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Whether it may read hooks.
    pub read: bool,
    /// Whether it may register, change and delete hooks.
    pub write: bool,
    /// Whether its account may call.
    pub account_status: RegistrantStatus,
    /// Whether it may call as a member of its account.
    pub member_status: RegistrantStatus,
    /// Whether the identity of its account was verified.
    pub verified: bool,
}

impl Access {
    /// Whether every right is granted.
    pub fn is_full(&self) -> bool {
        *self == Self::default()
    }
}

/// Every right.
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

/// A change of the rights of a registrant. `None` leaves a right as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessChange {
    /// Whether it may read hooks, and whether it may change them.
    pub permission: Option<(bool, bool)>,
    /// Whether its account may call.
    pub account_status: Option<RegistrantStatus>,
    /// Whether it may call as a member of its account.
    pub member_status: Option<RegistrantStatus>,
    /// Whether the identity of its account was verified.
    pub verified: Option<bool>,
}

impl AccessChange {
    /// Whether the change names nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A credential that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCredential {
    /// The compatible API, by the name of its profile.
    pub system: String,
    /// The account of the hooks that it registers.
    pub account: String,
    /// A name for people.
    pub name: Option<String>,
    /// How the registrant proves its identity.
    pub proof: Proof,
    /// The rights of the registrant.
    pub access: Access,
}

/// The credential of a caller, found by its public part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Drawn when the credential was made.
    pub id: KeyId,
    /// The account of the hooks that it registers.
    pub account: String,
    /// How the registrant proves its identity.
    pub proof: Proof,
    /// The rights of the registrant.
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
    /// A part of the credential cannot be sent.
    #[error(
        "the {what} must be {least} to {PART_MAX_BYTES} bytes long, {form}; this one has {bytes}"
    )]
    Part {
        /// The part, such as `user`.
        what: &'static str,
        /// The shortest length, in bytes.
        least: usize,
        /// The characters that it may have.
        form: &'static str,
        /// The length that was given, in bytes.
        bytes: usize,
    },
}

impl NewCredential {
    /// Checks every limit.
    ///
    /// # Errors
    /// The first limit that is exceeded.
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
            // HTTP Basic separates user and password by a colon.
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

/// Checks a part that is sent in a header between commas: printable ASCII without blanks, commas,
/// equals signs and quotes.
///
/// # Errors
/// When it is too short or too long, or has other characters.
pub fn check_word(what: &'static str, least: usize, text: &str) -> Result<(), CredentialError> {
    let of_word = |b: u8| b.is_ascii_graphic() && !matches!(b, b',' | b'=' | b'"');
    let form = "letters, digits and punctuation, without blanks, commas, equals signs and quotes";
    part(what, least, form, text, text.bytes().all(of_word))
}

/// Checks a part that may be any text without control characters.
///
/// # Errors
/// When it is too short or too long, or has a control character.
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
