//! Why a hook, or a change of one, is refused.

use crate::{HEADERS_MAX, HEADERS_MAX_BYTES};

/// A hook or a change of one cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// Postrider cannot send to the URL.
    #[error("{url:?} is not a URL Postrider can send to: {why}")]
    Url {
        /// The URL that was given, shortened; hidden when it holds a password.
        url: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
    /// No event type was given.
    #[error(
        "the hook asks for no events: give at least one event type, a prefix such as \"invoice.*\", or \"*\""
    )]
    NoEvents,
    /// A header that is malformed or that Postrider sets itself.
    #[error("the header {0:?} cannot be set: {1}")]
    Header(String, &'static str),
    /// There are more extra headers than receivers accept.
    #[error(
        "there are more than {HEADERS_MAX} headers, or more than {HEADERS_MAX_BYTES} bytes of them: receivers refuse requests like that"
    )]
    HeadersTooMany,
    /// A setting has a value that it cannot have.
    #[error(transparent)]
    Setting(#[from] SettingsError),
    /// The secret cannot be sent in a header.
    #[error("the secret has a control character, which a header cannot hold")]
    Token,
    /// The account has the largest number of hooks of this profile.
    #[error("the account already has {0} hooks of this profile, which is the limit")]
    TooMany(u32),
    /// The account is empty or too long.
    #[error("the account must be 1 to {max} bytes long", max = crate::KEY_MAX_BYTES)]
    Account,
}

/// A setting cannot have this value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct SettingsError {
    /// The name of the setting.
    pub field: &'static str,
    /// What is wrong with the value, and what to write instead.
    pub why: String,
}

impl SettingsError {
    pub(crate) fn new(field: &'static str, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { field, why }
    }
}

impl HookError {
    /// The member of the hook's JSON that is wrong; `None` when it is not one member.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Url { .. } => Some("url"),
            Self::NoEvents => Some("events"),
            Self::Header(..) | Self::HeadersTooMany => Some("headers"),
            Self::Setting(error) => Some(error.field),
            Self::Account => Some("account"),
            Self::Token | Self::TooMany(_) => None,
        }
    }
}
