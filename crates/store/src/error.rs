//! Errors of a store, named after what the caller does next.
//!
//! The text of a database error holds the whole message of the database, so that these errors have
//! no `source` which would repeat it.

use crate::DeliveryState;
use postrider_core::{
    CredentialError, DeliveryId, EventError, EventId, HookError, HookId, KeyError, SealError,
};
use postrider_producer::EnqueueError;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;
use std::io;
use std::time::Duration;

/// PostgreSQL's code for a write on a read-only server, or in a read-only transaction.
pub(crate) const READ_ONLY: &str = "25006";

/// The result of every method of a store.
pub type Result<T> = std::result::Result<T, Error>;

/// A call of a store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not answer or is overloaded; a retry may help.
    #[error("the database is unavailable: {}", words(.0))]
    Unavailable(sqlx::Error),
    /// The database refused the data; a retry with the same data does not help.
    #[error("the database refused the data: {}", words(.0))]
    Refused(sqlx::Error),
    /// The database does not allow the call: it is read-only, or a privilege is missing.
    #[error("the database does not allow this: {}", words(.0))]
    Denied(sqlx::Error),
    /// The tables are missing, incomplete or too new; the text says what to do.
    #[error("{0}")]
    Schema(String),
    /// The URL of the database, or the file it names, cannot be used; the text says why.
    #[error("{0}")]
    Database(String),
    /// Nothing has this id.
    #[error("there is no {what} {id}")]
    NotFound {
        /// `hook`, `event`, `delivery` or `key`.
        what: &'static str,
        /// The id in the call, as text.
        id: String,
    },
    /// The present state does not allow the call; the text says why and what to do.
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
    /// A call was given up because it took longer than `waited`.
    pub fn overdue(waited: Duration) -> Self {
        let text = format!("the call took longer than {} s", waited.as_secs());
        Self::Unavailable(sqlx::Error::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            text,
        )))
    }

    /// Whether the database did not answer at all, or is read-only as after a failover, so that
    /// any other call would fail too.
    pub fn is_no_answer(&self) -> bool {
        match self {
            Self::Unavailable(error) => error
                .as_database_error()
                .is_none_or(|refusal| refusal.code().as_deref() == Some(READ_ONLY)),
            _ => false,
        }
    }

    /// The message of the database, if it refused the data.
    pub(crate) fn refusal(&self) -> Option<String> {
        match self {
            Self::Refused(error) => Some(words(error)),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
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

/// There is no event of this id.
pub(crate) fn event_not_found(id: EventId) -> Error {
    Error::NotFound {
        what: "event",
        id: id.to_string(),
    }
}

/// There is no delivery of this id.
pub(crate) fn delivery_not_found(id: DeliveryId) -> Error {
    Error::NotFound {
        what: "delivery",
        id: id.to_string(),
    }
}

/// The settings of the hook were written by a newer version; a change would lose those that only
/// that version knows.
pub(crate) fn not_understood(hook: HookId) -> Error {
    Error::Conflict(format!(
        "the settings of hook {hook} were written by a newer version of Postrider: use that version to change them"
    ))
}

/// An active hook has no held deliveries.
pub(crate) fn nothing_held(hook: HookId) -> Error {
    Error::Conflict(format!(
        "hook {hook} is active: only the held deliveries of a paused or disabled hook can be discarded"
    ))
}

/// Deliveries of a deleted hook cannot be sent.
pub(crate) fn hook_deleted(hook: HookId) -> Error {
    Error::Conflict(format!(
        "hook {hook} was deleted: there is nowhere to send its deliveries"
    ))
}

/// A delivery cannot be sent again: its hook was deleted.
pub(crate) fn hook_of_delivery_deleted(id: DeliveryId) -> Error {
    Error::Conflict(format!(
        "the hook of delivery {id} was deleted: there is nowhere to send it"
    ))
}

/// A delivery cannot be sent again: its event was erased.
pub(crate) fn event_of_delivery_erased(id: DeliveryId) -> Error {
    Error::Conflict(format!(
        "the event of delivery {id} was erased: there is nothing left to send"
    ))
}

/// A delivery cannot be sent again: its event is gone.
pub(crate) fn event_of_delivery_gone(id: DeliveryId) -> Error {
    Error::Conflict(format!(
        "the event of delivery {id} is past its retention: there is nothing left to send"
    ))
}

/// A delivery cannot be changed while it is being attempted.
pub(crate) fn delivery_in_flight(id: DeliveryId) -> Error {
    Error::Conflict(format!(
        "delivery {id} is in flight: send it again when its attempt has ended"
    ))
}

/// A delivery that has ended cannot be discarded.
pub(crate) fn delivery_ended(id: DeliveryId) -> Error {
    Error::Conflict(format!(
        "delivery {id} has ended: there is nothing left to discard"
    ))
}

/// Deliveries that have not ended cannot be sent again.
pub(crate) fn on_its_way(state: DeliveryState) -> Error {
    Error::Conflict(format!(
        "{} deliveries have not ended: name a state such as failed, or held",
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

/// The message of the error, with that of the database if there is one.
pub(crate) fn words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(refusal) => match detail(error) {
            Some(detail) => format!("{} ({})", refusal.message(), detail.trim_end_matches('.')),
            None => refusal.message().to_owned(),
        },
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::PoolTimedOut => "no connection became free in time".into(),
        sqlx::Error::PoolClosed => "the connections to it are closed".into(),
        other => other.to_string(),
    }
}

/// The detail of a PostgreSQL message, except when it shows the row: payloads must not be logged.
fn detail(error: &sqlx::Error) -> Option<&str> {
    let error = error.as_database_error()?;
    let error = error.try_downcast_ref::<PgDatabaseError>()?;
    match error.code() {
        "23502" | "23514" => None,
        _ => error.detail(),
    }
}
