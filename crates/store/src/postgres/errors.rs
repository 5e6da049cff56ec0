//! Turns what sqlx reports into what the caller does next, once.
//!
//! Only an error that says the very data is at fault may become [`Error::Refused`]: fan-out
//! and settle take such data out of their way, so anything doubtful must not be one.

use crate::Error;
use crate::error::words;
use postrider_core::{CredentialError, HookError, KeyError, SealError};
use postrider_producer::EnqueueError;
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

/// What goes wrong inside this store: every error is explained where `?` lets it through.
#[derive(Debug)]
pub(super) struct Failure(pub Error);

/// The result of everything inside this store.
pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// What the database says about the very data that it refused, if it did.
    pub(super) fn refusal(&self) -> Option<String> {
        match &self.0 {
            Error::Refused(error) => Some(words(error)),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self(explain(error))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<HookError> for Failure {
    fn from(error: HookError) -> Self {
        Self(error.into())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self(error.into())
    }
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        Self(error.into())
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Self(error.into())
    }
}

impl From<EnqueueError> for Failure {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Event(error) => Self(error.into()),
            EnqueueError::Database(error) => error.into(),
        }
    }
}

impl From<MigrateError> for Failure {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self(Error::Schema(format!(
                "the tables could not be migrated: {other}"
            ))),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

pub(crate) fn explain(error: sqlx::Error) -> Error {
    let sqlx::Error::Database(refusal) = &error else {
        return match error {
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::Decode(_) => Error::Schema(format!(
                "the tables are not as this binary expects them ({error}): run `postrider check`"
            )),
            other => Error::Unavailable(other),
        };
    };
    let code = refusal.code().unwrap_or_default().into_owned();
    match code.as_str() {
        "23514" if is_missing_partition(refusal.as_ref()) => Error::Schema(format!(
            "{}: upkeep has not made the partition of the day yet",
            refusal.message()
        )),
        code if is_of_pooler(code) => Error::Database(format!("{}: {POOLER}", refusal.message())),
        "25006" | "42501" => Error::Denied(error),
        "3F000" | "42P01" | "42703" | "42883" => Error::Schema(format!(
            "{}: run `postrider migrate`, or set the search_path that it ran with",
            refusal.message()
        )),
        code => match code.get(..2) {
            Some("22" | "23" | "54") => Error::Refused(error),
            Some("28") => Error::Denied(error),
            _ => Error::Unavailable(error),
        },
    }
}

/// What to do about a pooler that shares out sessions.
pub(super) const POOLER: &str = "a pooler in transaction mode, such as PgBouncer, seems to stand \
                                 in between: connect to PostgreSQL itself, Postrider needs \
                                 sessions of its own";

/// Whether it is what a connection through such a pooler ends with: a startup parameter that
/// it does not pass on, or prepared statements of another client.
pub(super) fn is_of_pooler(code: &str) -> bool {
    matches!(code, "08P01" | "42P05" | "26000")
}

/// PostgreSQL reports a row without a partition as a violated check that has no name.
fn is_missing_partition(refusal: &dyn DatabaseError) -> bool {
    refusal.constraint().is_none()
}
