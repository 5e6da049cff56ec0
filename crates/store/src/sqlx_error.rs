//! The one place where an error of `sqlx` becomes one of the store, for both databases.
//!
//! It stands above the error itself, which knows neither database.

use crate::{Error, postgres, sqlite};
use sqlx::postgres::PgDatabaseError;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refusal) => {
                match refusal.try_downcast_ref::<PgDatabaseError>().is_some() {
                    true => postgres::explain(error),
                    false => sqlite::explain(error),
                }
            }
            // The columns are not those that this binary writes. That is never the fault of the row
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
