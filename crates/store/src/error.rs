//! What can go wrong in a store, named for what the caller does next.

use postrider_core::{EventError, HookError, SealError};

/// The result of every method of a store.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not answer, or is too busy; trying again may help.
    #[error("the database is unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The database refused this very data; trying the same again does not help.
    #[error("the database refused the data: {0}")]
    Refused(#[source] sqlx::Error),
    /// The database does not let us do this: it is read-only, or a privilege is missing.
    #[error("the database does not allow this: {0}")]
    Denied(#[source] sqlx::Error),
    /// The tables are missing, half made or too new; the text says what to do.
    #[error("{0}")]
    Schema(String),
    /// The URL of the database, or what it points at, cannot be used; the text says why.
    #[error("{0}")]
    Database(String),
    /// There is no such thing.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What was looked for: `hook`, `event` or `delivery`.
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
    /// A stored secret cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Error {
    /// Whether the database did not answer at all, so that no other call would fare better now.
    pub fn is_no_answer(&self) -> bool {
        matches!(self, Self::Unavailable(error) if error.as_database_error().is_none())
    }

    /// Whether the same call may succeed later without anyone doing anything.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
