//! What SQLite says, turned into what the caller does next. The one place that reads its codes.
//!
//! What is not known to be the data's fault counts as passing: taking a fault of ours for a bad
//! row would empty the outbox into `postrider_rejected`.

use crate::Error;

/// The store's error for one of sqlx's.
pub(super) fn from_sqlx(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(inner) => {
            let code = inner.code().and_then(|code| code.parse::<i32>().ok());
            match code.map(|code| code & 0xff) {
                // PERM, READONLY, CANTOPEN, AUTH
                Some(3 | 8 | 14 | 23) => Error::Denied(error),
                // TOOBIG, CONSTRAINT, MISMATCH
                Some(18..=20) => Error::Refused(error),
                // CORRUPT
                Some(11) => Error::Database(format!(
                    "the SQLite file is damaged ({}): stop everything that writes to it and \
                     restore it from a backup",
                    inner.message()
                )),
                // NOTADB
                Some(26) => Error::Database(
                    "the file is not a SQLite database, or is encrypted: name another one".into(),
                ),
                Some(1) if is_missing(inner.message()) => {
                    Error::Schema(format!("{}: run `postrider migrate`", inner.message()))
                }
                _ => Error::Unavailable(error),
            }
        }
        sqlx::Error::RowNotFound
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Encode(_) => Error::Refused(error),
        _ => Error::Unavailable(error),
    }
}

/// Whether the file was locked by others for the whole time that we waited.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|inner| inner.code());
    // BUSY, LOCKED
    code.and_then(|code| code.parse::<i32>().ok())
        .is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

fn is_missing(message: &str) -> bool {
    message.starts_with("no such table") || message.starts_with("no such column")
}
