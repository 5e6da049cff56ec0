//! The access scope of a key: all accounts, or one.
//!
//! Resources outside the caller's scope answer 404, so that their existence is not revealed.

use crate::problem::{Problem, ProblemKind, not_found};
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use postrider_core::{DeliveryId, EventId, HookId, Key, KeyScope};
use std::convert::Infallible;
use std::str::FromStr;

/// The accounts whose resources a key may read and change.
pub(crate) struct AccessScope<'a>(&'a Key);

impl<'a> AccessScope<'a> {
    /// The scope of a key.
    ///
    /// # Errors
    /// 403 when the key can publish only.
    pub(crate) fn of(key: &'a Key) -> Result<Self, Problem> {
        match key.scope {
            KeyScope::Admin | KeyScope::Account => Ok(Self(key)),
            KeyScope::Publish => Err(Problem::new(
                ProblemKind::Forbidden,
                "This key has the scope publish and can publish events only: use a key with the \
                 scope account or admin.",
            )),
        }
    }

    /// Whether resources of this account are inside the scope.
    pub(crate) fn includes(&self, account: &str) -> bool {
        let own = self.0.account.as_deref();
        own.is_none_or(|own| own == account)
    }

    /// The account of a new resource: `asked`, or the key's own, or the default account.
    ///
    /// # Errors
    /// 403 when `asked` is not the key's own account.
    pub(crate) fn account_for(&self, asked: Option<String>) -> Result<String, Problem> {
        Ok(self.0.account_for(asked)?)
    }

    /// The account that a listing is limited to; `None` means all accounts.
    ///
    /// # Errors
    /// 403 when `asked` is not the key's own account.
    pub(crate) fn listed(&self, asked: Option<String>) -> Result<Option<String>, Problem> {
        match (&self.0.account, asked) {
            (None, asked) => Ok(asked),
            (Some(_), asked) => self.account_for(asked).map(Some),
        }
    }
}

/// An id that can stand in a path.
pub(crate) trait Named: FromStr + Send {
    /// The noun for error texts.
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

/// The id in the path. Reading it is separate from parsing it, so that an unknown caller gets 401
/// rather than 404.
pub(crate) struct Id<T>(Result<T, String>);

impl<T: Named> Id<T> {
    /// The parsed id.
    ///
    /// # Errors
    /// 404 when the text is not an id, and so names nothing.
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
    fn a_scope_is_the_keys_account_and_for_an_admin_all_accounts() {
        let (admin, acme) = (
            key(KeyScope::Admin, None),
            key(KeyScope::Account, Some("acme")),
        );
        let asked = |account: &str| Some(account.to_owned());
        for (key, account, within) in [(&admin, "acme", true), (&acme, "other", false)] {
            let scope = AccessScope::of(key).unwrap();
            assert_eq!(scope.includes(account), within, "{account}");
            assert_eq!(scope.listed(asked(account)).is_ok(), within, "{account}");
            assert_eq!(scope.account_for(asked(account)).is_ok(), within);
        }
        assert_eq!(AccessScope::of(&admin).unwrap().listed(None).unwrap(), None);
        assert_eq!(
            AccessScope::of(&acme).unwrap().listed(None).unwrap(),
            asked("acme")
        );
        assert_eq!(
            AccessScope::of(&admin).unwrap().account_for(None).unwrap(),
            "default"
        );
    }

    #[test]
    fn a_key_for_publishing_has_no_scope() {
        assert!(AccessScope::of(&key(KeyScope::Publish, None)).is_err());
        assert!(AccessScope::of(&key(KeyScope::Publish, Some("acme"))).is_err());
    }
}
