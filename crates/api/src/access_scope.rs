//! How far a key reaches: everything, or what is of one account.
//!
//! What lies beyond is not there: it is not found, so that nobody learns that it exists.

use crate::problem::{Kind, Problem, not_found};
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use postrider_core::{DeliveryId, EventId, HookId, Key, KeyScope};
use std::convert::Infallible;
use std::str::FromStr;

/// What a caller may look at and change.
pub(crate) struct Reach<'a>(&'a Key);

impl<'a> Reach<'a> {
    /// The reach of a key.
    ///
    /// # Errors
    /// When the key is good for publishing only.
    pub(crate) fn of(key: &'a Key) -> Result<Self, Problem> {
        match key.scope {
            KeyScope::Admin | KeyScope::Account => Ok(Self(key)),
            KeyScope::Publish => Err(Problem::new(
                Kind::Forbidden,
                "This key has the scope publish, which is good for publishing events only: use a \
                 key with the scope account or admin.",
            )),
        }
    }

    /// Whether this account's things are within it.
    pub(crate) fn includes(&self, account: &str) -> bool {
        let own = self.0.account.as_deref();
        own.is_none_or(|own| own == account)
    }

    /// The account that something new is made in.
    ///
    /// # Errors
    /// When another than the key's own is asked for.
    pub(crate) fn account_for(&self, asked: Option<String>) -> Result<String, Problem> {
        Ok(self.0.account_for(asked)?)
    }

    /// The one account that a listing shows; `None` for all.
    ///
    /// # Errors
    /// When another than the key's own is asked for.
    pub(crate) fn listed(&self, asked: Option<String>) -> Result<Option<String>, Problem> {
        match (&self.0.account, asked) {
            (None, asked) => Ok(asked),
            (Some(_), asked) => self.account_for(asked).map(Some),
        }
    }
}

/// A thing that is named by an id in the path.
pub(crate) trait Named: FromStr + Send {
    /// What it is.
    const WHAT: &'static str;
}

impl Named for HookId {
    const WHAT: &'static str = "hook";
}

impl Named for EventId {
    const WHAT: &'static str = "event";
}

impl Named for DeliveryId {
    const WHAT: &'static str = "delivery";
}

/// The id in the path, to be asked for when it is known who calls.
pub(crate) struct Id<T>(Result<T, String>);

impl<T: Named> Id<T> {
    /// The id.
    ///
    /// # Errors
    /// When there is nothing that it could name.
    pub(crate) fn known(self) -> Result<T, Problem> {
        self.0.map_err(|text| not_found(T::WHAT, &text))
    }
}

impl<S: Send + Sync, T: Named> FromRequestParts<S> for Id<T> {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let text = text.map_or_else(|_| String::new(), |Path(text)| text);
        Ok(Self(text.parse().map_err(|_| text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::KeyId;
    use uuid::Uuid;

    fn key(scope: KeyScope, account: Option<&str>) -> Key {
        Key {
            id: KeyId(Uuid::nil()),
            scope,
            account: account.map(Into::into),
        }
    }

    #[test]
    fn a_key_reaches_its_own_account_and_an_admins_key_all() {
        let (admin, acme) = (
            key(KeyScope::Admin, None),
            key(KeyScope::Account, Some("acme")),
        );
        let asked = |account: &str| Some(account.to_owned());
        for (key, account, within) in [(&admin, "acme", true), (&acme, "other", false)] {
            let reach = Reach::of(key).unwrap();
            assert_eq!(reach.includes(account), within, "{account}");
            assert_eq!(reach.listed(asked(account)).is_ok(), within, "{account}");
            assert_eq!(reach.account_for(asked(account)).is_ok(), within);
        }
        assert_eq!(Reach::of(&admin).unwrap().listed(None).unwrap(), None);
        assert_eq!(
            Reach::of(&acme).unwrap().listed(None).unwrap(),
            asked("acme")
        );
        assert_eq!(
            Reach::of(&admin).unwrap().account_for(None).unwrap(),
            "default"
        );
    }

    #[test]
    fn a_key_for_publishing_reaches_nothing() {
        assert!(Reach::of(&key(KeyScope::Publish, None)).is_err());
        assert!(Reach::of(&key(KeyScope::Publish, Some("acme"))).is_err());
    }
}
