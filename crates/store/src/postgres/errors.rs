//! PostgreSQL's errors as errors of the store.
//!
//! Only a code that blames the data itself may become [`Error::Refused`]: fan-out and settling
//! reject or shorten such data, so a doubtful code must not.

use crate::Error;
use crate::error::READ_ONLY;
use sqlx::error::DatabaseError;

/// The hint for a pooler that shares sessions between clients.
pub(super) const POOLER: &str = "a pooler in transaction mode, such as PgBouncer, seems to stand \
                                 in between: connect to PostgreSQL itself, Postrider needs \
                                 sessions of its own";

/// The hint for a proxy that refuses what a connection asks for as it starts (`NOT_SUPPORTED`).
pub(super) const PROXY: &str = "connect to PostgreSQL itself: a proxy in between, such as RDS Proxy, \
                                refuses the start-up parameter `options`, and Postrider's sessions \
                                have settings of their own";

/// The code with which such a proxy refuses a connection.
pub(super) const NOT_SUPPORTED: &str = "0A000";

/// The store's error for one that the server reported.
pub(crate) fn explain(error: sqlx::Error) -> Error {
    let Some(refusal) = error.as_database_error() else {
        return Error::Unavailable(error);
    };
    let code = refusal.code().unwrap_or_default().into_owned();
    match code.as_str() {
        "23514" if is_missing_partition(refusal) => Error::Schema(format!(
            "{}: upkeep has not made the partition of the day yet",
            refusal.message()
        )),
        code if is_of_pooler(code) => Error::Database(format!("{}: {POOLER}", refusal.message())),
        // The server is read-only, as after a failover: another one takes writes soon.
        READ_ONLY => Error::Unavailable(error),
        "42501" => Error::Denied(error),
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

/// Whether the code is one that a connection through a pooler in transaction mode fails with: for
/// a startup parameter that it does not pass on, or a prepared statement of another client.
pub(super) fn is_of_pooler(code: &str) -> bool {
    matches!(code, "08P01" | "42P05" | "26000")
}

/// PostgreSQL reports a row without a partition as a violated check that has no name.
fn is_missing_partition(refusal: &dyn DatabaseError) -> bool {
    refusal.constraint().is_none()
}
