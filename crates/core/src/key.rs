//! Keys of the API: what a caller may do, and the token that shows who calls.
//!
//! A token is 256 random bits. That is too much to guess, so a plain SHA-256 is enough to
//! recognise it by, and only the hash is kept: whoever reads the database can call nothing.

use crate::event::DEFAULT_ACCOUNT;
use crate::{KEY_MAX_BYTES, KeyId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt;

/// What every token begins with, so that a leaked one is recognised.
const TOKEN_PREFIX: &str = "pr_";
const TOKEN_BYTES: usize = 32;
/// Longest name of a key, in bytes.
const NAME_MAX_BYTES: usize = 200;

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyScope {
    /// Everything, in every account.
    Admin,
    /// Everything, in one account.
    Account,
    /// Publishing events, in one account or in any.
    Publish,
}

impl KeyScope {
    /// All scopes, the widest first.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Account, Self::Publish];

    /// The scope's name, as it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Account => "account",
            Self::Publish => "publish",
        }
    }

    /// The scope of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// What a caller shows. It has no `Debug`: a token must not reach a log.
#[derive(Clone)]
pub struct KeyToken(String);

impl KeyToken {
    /// Draws a new one.
    pub fn generate() -> Self {
        let random = rand::random::<[u8; TOKEN_BYTES]>();
        Self(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// The token in the clear, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What it is recognised by.
    pub fn hash(&self) -> TokenHash {
        hash(&self.0)
    }
}

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of what a caller showed; `None` when that cannot be a token of ours.
    pub fn of(shown: &str) -> Option<Self> {
        // 32 bytes in base64, the last of whose characters holds four bits.
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

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// What it is good for.
    pub scope: KeyScope,
    /// In which account; `None` for all of them.
    pub account: Option<String>,
    /// What people call it.
    pub name: Option<String>,
}

/// The key cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// An admin key with an account.
    #[error(
        "a key with the scope admin is good for every account: leave the account out, or choose the scope account"
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
    /// Checks every bound.
    ///
    /// # Errors
    /// The first bound that is broken.
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

/// A key that a caller has shown the token of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// What it is good for.
    pub scope: KeyScope,
    /// In which account; `None` for all of them.
    pub account: Option<String>,
}

/// The key is bound to one account, and another one was named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this key is bound to the account {own:?} and cannot publish to {asked:?}: leave the account out, or use a key of that account"
)]
pub struct OtherAccount {
    own: String,
    asked: String,
}

impl Key {
    /// The account that an event goes to, where the caller asked for `asked`: the key's own
    /// account if it has one, else the one asked for, else `default`.
    ///
    /// # Errors
    /// When the key is bound to another account than the one asked for.
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
