//! SQLite's errors as errors of the store. This is the only place that reads their codes.
//!
//! An error that is not known to be the fault of the data counts as temporary: mistaking another
//! fault for a bad row would empty the outbox into `postrider_rejected`.

use crate::Error;
use sqlx::error::DatabaseError;

/// The store's error for one that SQLite reported.
pub(crate) fn explain(error: sqlx::Error) -> Error {
    let Some(refusal) = error.as_database_error() else {
        return Error::Unavailable(error);
    };
    match primary_code(refusal) {
        // PERM, READONLY, CANTOPEN, AUTH
        Some(3 | 8 | 14 | 23) => Error::Denied(error),
        // TOOBIG, CONSTRAINT, MISMATCH
        Some(18..=20) => Error::Refused(error),
        // CORRUPT
        Some(11) => Error::Database(format!(
            "the SQLite file is damaged ({}): stop everything that writes to it and restore it \
             from a backup",
            refusal.message()
        )),
        // NOTADB
        Some(26) => Error::Database(
            "the file is not a SQLite database, or is encrypted: name another one".into(),
        ),
        Some(1) if is_missing(refusal.message()) => {
            Error::Schema(format!("{}: run `postrider migrate`", refusal.message()))
        }
        _ => Error::Unavailable(error),
    }
}

/// Whether other connections kept the file locked until the time to wait was over.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    // BUSY, LOCKED
    error
        .as_database_error()
        .and_then(primary_code)
        .is_some_and(|code| matches!(code, 5 | 6))
}

/// SQLite's primary result code, without the bits of the extended code.
fn primary_code(refusal: &dyn DatabaseError) -> Option<i32> {
    let code = refusal.code()?.parse::<i32>().ok()?;
    Some(code & 0xff)
}

fn is_missing(message: &str) -> bool {
    message.starts_with("no such table") || message.starts_with("no such column")
}
