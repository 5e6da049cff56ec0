//! API keys: what a caller may do, and the token that identifies the caller.
//!
//! A token is 256 random bits, too many to guess, so that a plain SHA-256 protects it. Only the hash
//! is stored: reading the database gives no access.

use crate::event::DEFAULT_ACCOUNT;
use crate::{KEY_MAX_BYTES, KeyId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt;

/// The beginning of every token, by which scanners recognise a leaked one.
const TOKEN_PREFIX: &str = "pr_";
const TOKEN_BYTES: usize = 32;
/// Longest name of a key, in bytes.
const NAME_MAX_BYTES: usize = 200;

/// The calls that a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyScope {
    /// Every call, in every account.
    Admin,
    /// Every call, in one account.
    Account,
    /// Publishing events, in one account or in every account.
    Publish,
}

impl KeyScope {
    /// All scopes, the widest first.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Account, Self::Publish];

    /// The name under which the scope is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Account => "account",
            Self::Publish => "publish",
        }
    }

    /// The scope with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// The token that a caller sends. It has no `Debug`, so that it cannot be logged.
#[derive(Clone)]
pub struct KeyToken(String);

impl KeyToken {
    /// Draws a new token.
    pub fn generate() -> Self {
        let random = rand::random::<[u8; TOKEN_BYTES]>();
        Self(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// The token in the clear, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The hash that is stored.
    pub fn hash(&self) -> TokenHash {
        hash(&self.0)
    }
}

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of the token that a caller sent; `None` when it does not have the form of one.
    pub fn of(shown: &str) -> Option<Self> {
        // 32 bytes in base64; the last character holds four bits.
        let random = shown.strip_prefix(TOKEN_PREFIX)?;
        let of_base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let whole = random.len() == (TOKEN_BYTES * 8).div_ceil(6);
        (whole && random.bytes().all(of_base64)).then(|| hash(shown))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hash>")
    }
}

fn hash(token: &str) -> TokenHash {
    TokenHash(Sha256::digest(token.as_bytes()).into())
}

/// A key that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The calls that it allows.
    pub scope: KeyScope,
    /// The account in which it is valid; `None` for all.
    pub account: Option<String>,
    /// A name for people.
    pub name: Option<String>,
}

/// The key cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// An admin key with an account.
    #[error(
        "a key with the scope admin is valid for every account: leave the account out, or choose the scope account"
    )]
    AdminOfOne,
    /// An account key without an account.
    #[error("a key with the scope account needs an account: name it, or choose the scope admin")]
    AccountMissing,
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
}

impl NewKey {
    /// Checks every limit.
    ///
    /// # Errors
    /// The first limit that is exceeded.
    pub fn check(&self) -> Result<(), KeyError> {
        match (self.scope, &self.account) {
            (KeyScope::Admin, Some(_)) => return Err(KeyError::AdminOfOne),
            (KeyScope::Account, None) => return Err(KeyError::AccountMissing),
            (_, Some(account))
                if account.is_empty()
                    || account.len() > KEY_MAX_BYTES
                    || account.contains('\0') =>
            {
                return Err(KeyError::Account(account.len()));
            }
            _ => {}
        }
        match &self.name {
            Some(name)
                if name.is_empty()
                    || name.len() > NAME_MAX_BYTES
                    || name.contains(char::is_control) =>
            {
                Err(KeyError::Name)
            }
            _ => Ok(()),
        }
    }
}

/// The key of a caller, found by the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Drawn when the key was made.
    pub id: KeyId,
    /// The calls that it allows.
    pub scope: KeyScope,
    /// The account in which it is valid; `None` for all.
    pub account: Option<String>,
}

/// The key is valid for one account, and the call names another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this key is bound to the account {own:?} and cannot publish to {asked:?}: leave the account out, or use a key of that account"
)]
pub struct OtherAccount {
    own: String,
    asked: String,
}

impl Key {
    /// The account of a call that names the account `asked`: the account of the key if it has one,
    /// else `asked`, else `default`.
    ///
    /// # Errors
    /// When the key is valid for another account than `asked`.
    pub fn account_for(&self, asked: Option<String>) -> Result<String, OtherAccount> {
        match (&self.account, asked) {
            (Some(own), Some(asked)) if *own != asked => Err(OtherAccount {
                own: own.clone(),
                asked,
            }),
            (Some(own), _) => Ok(own.clone()),
            (None, Some(asked)) => Ok(asked),
            (None, None) => Ok(DEFAULT_ACCOUNT.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_token_is_recognised_by_its_hash() {
        let (one, other) = (KeyToken::generate(), KeyToken::generate());
        assert_eq!(TokenHash::of(one.reveal()), Some(one.hash()));
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.reveal().len(), 46);
        // printf %s pr_AAAA… | sha256sum
        let zeros = format!("pr_{}", "A".repeat(43));
        assert_eq!(TokenHash::of(&zeros).map(|h| h.0[0]), Some(0xaf));
    }

    #[test]
    fn what_cannot_be_a_token_has_no_hash() {
        let good = KeyToken::generate();
        let good = good.reveal();
        for bad in [
            "",
            "pr_",
            &good[3..],
            &good[..45],
            &good.replace("pr_", "pr_+"),
        ] {
            assert_eq!(TokenHash::of(bad), None, "{bad}");
        }
        let other = format!("pr_{}", "ä".repeat(21) + "a");
        assert_eq!(TokenHash::of(&other), None);
    }

    #[test]
    fn scope_and_account_must_fit() {
        let key = |scope, account: Option<&str>, name: Option<&str>| NewKey {
            scope,
            account: account.map(Into::into),
            name: name.map(Into::into),
        };
        use KeyScope::{Account, Admin, Publish};
        for good in [
            key(Admin, None, Some("the operator's")),
            key(Account, Some("acme"), None),
            key(Publish, Some("acme"), None),
            key(Publish, None, None),
        ] {
            assert_eq!(good.check(), Ok(()), "{good:?}");
        }
        let long = "x".repeat(600);
        for (bad, why) in [
            (key(Admin, Some("acme"), None), KeyError::AdminOfOne),
            (key(Account, None, None), KeyError::AccountMissing),
            (key(Publish, Some(""), None), KeyError::Account(0)),
            (key(Account, Some(&long), None), KeyError::Account(600)),
            (key(Account, Some("a\0b"), None), KeyError::Account(3)),
            (key(Admin, None, Some("")), KeyError::Name),
            (key(Admin, None, Some(&long)), KeyError::Name),
            (key(Admin, None, Some("a\nb")), KeyError::Name),
        ] {
            assert_eq!(bad.check(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_bound_key_publishes_to_its_own_account_only() {
        let key = |account: Option<&str>| Key {
            id: KeyId(Uuid::nil()),
            scope: KeyScope::Publish,
            account: account.map(Into::into),
        };
        let asked = |account: &str| Some(account.to_owned());
        for (own, asked, expected) in [
            (None, None, "default"),
            (None, asked("acme"), "acme"),
            (Some("acme"), None, "acme"),
            (Some("acme"), asked("acme"), "acme"),
        ] {
            assert_eq!(key(own).account_for(asked).as_deref(), Ok(expected));
        }
        let refused = key(Some("acme")).account_for(asked("other")).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("bound to the account \"acme\"")
        );
    }
}
