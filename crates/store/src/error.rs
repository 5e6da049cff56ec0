//! What can go wrong in a store, named for what the caller does next.
//!
//! An error of the database tells its cause in the database's own words, all of it: there is
//! no source behind it that would say the same once more.

use crate::{DeliveryState, postgres, sqlite};
use postrider_core::{CredentialError, EventError, HookError, HookId, KeyError, SealError};
use postrider_producer::EnqueueError;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;

/// The result of every method of a store.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not answer, or is too busy; trying again may help.
    #[error("the database is unavailable: {}", words(.0))]
    Unavailable(sqlx::Error),
    /// The database refused this very data; trying the same again does not help.
    #[error("the database refused the data: {}", words(.0))]
    Refused(sqlx::Error),
    /// The database does not let us do this: it is read-only, or a privilege is missing.
    #[error("the database does not allow this: {}", words(.0))]
    Denied(sqlx::Error),
    /// The tables are missing, half made or too new; the text says what to do.
    #[error("{0}")]
    Schema(String),
    /// The URL of the database, or what it points at, cannot be used; the text says why.
    #[error("{0}")]
    Database(String),
    /// There is no such thing.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What was looked for: `hook`, `event`, `delivery` or `key`.
        what: &'static str,
        /// By which id.
        id: String,
    },
    /// It cannot be done to the thing as it is now; the text says why and what to do.
    #[error("{0}")]
    Conflict(String),
    /// The event cannot be accepted.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The hook cannot be accepted.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The key cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The credential of a registrant cannot be made.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A stored secret cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Error {
    /// Whether the database did not answer at all, so that no other call would fare better now.
    pub fn is_no_answer(&self) -> bool {
        matches!(self, Self::Unavailable(error) if error.as_database_error().is_none())
    }

    /// The database's words about the very data that it refused, if it did.
    pub(crate) fn refusal(&self) -> Option<String> {
        match self {
            Self::Refused(error) => Some(words(error)),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anyone doing anything.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// The one place where an error of `sqlx` becomes one of the store, whichever database it is from.
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refusal) => {
                match refusal.try_downcast_ref::<PgDatabaseError>().is_some() {
                    true => postgres::explain(error),
                    false => sqlite::explain(error),
                }
            }
            // What was read is not what this binary wrote. That is never the fault of the row
            // that is being worked on.
            sqlx::Error::RowNotFound
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::Decode(_) => Self::Schema(format!(
                "the tables are not as this binary expects them ({error}): run `postrider check`"
            )),
            sqlx::Error::Encode(_) => Self::Refused(error),
            _ => Self::Unavailable(error),
        }
    }
}

impl From<EnqueueError> for Error {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Event(error) => error.into(),
            EnqueueError::Database(error) => error.into(),
        }
    }
}

impl From<MigrateError> for Error {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::Schema(format!("the tables could not be migrated: {other}")),
        }
    }
}

/// There is no hook of this id, or it was deleted.
pub(crate) fn hook_not_found(id: HookId) -> Error {
    Error::NotFound {
        what: "hook",
        id: id.to_string(),
    }
}

/// The hook has settings that only a newer version knows: changing one would lose the others.
pub(crate) fn not_understood(hook: HookId) -> Error {
    Error::Conflict(format!(
        "the settings of hook {hook} were written by a newer version of Postrider: change them with that one"
    ))
}

/// Nothing is held for a hook that is active.
pub(crate) fn nothing_held(hook: HookId) -> Error {
    Error::Conflict(format!(
        "hook {hook} is active: only what is held for a hook that is not can be discarded"
    ))
}

/// There is nowhere to send deliveries of a deleted hook.
pub(crate) fn hook_deleted(hook: HookId) -> Error {
    Error::Conflict(format!(
        "hook {hook} was deleted: there is nowhere to send its deliveries"
    ))
}

/// What is pending or in flight is not to be sent again.
pub(crate) fn on_its_way(state: DeliveryState) -> Error {
    Error::Conflict(format!(
        "{} deliveries are on their way already: name a state in which they have ended, such as \
         failed, or held",
        state.name()
    ))
}

/// A hook of the profile has had this alias.
pub(crate) fn alias_taken(profile: &str, alias: Option<&str>) -> Error {
    Error::Conflict(format!(
        "a hook of the profile {profile} has, or has had, the alias {}: register it with another one",
        alias.unwrap_or_default()
    ))
}

/// What went wrong, in the database's own words where it has any.
pub(crate) fn words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(refusal) => match detail(error) {
            Some(detail) => format!("{} ({})", refusal.message(), detail.trim_end_matches('.')),
            None => refusal.message().to_owned(),
        },
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::PoolTimedOut => "no connection to it could be had in time".into(),
        sqlx::Error::PoolClosed => "the connections to it are closed".into(),
        other => other.to_string(),
    }
}

/// What PostgreSQL adds to its message, except where it shows the row: a payload has no place
/// in a log.
fn detail(error: &sqlx::Error) -> Option<&str> {
    let error = error.as_database_error()?;
    let error = error.try_downcast_ref::<PgDatabaseError>()?;
    match error.code() {
        "23502" | "23514" => None,
        _ => error.detail(),
    }
}
