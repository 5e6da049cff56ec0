//! Writes events into Postrider's outbox inside the application's own transaction.
//!
//! Each function takes a connection, so that an open transaction fits and a pool does not: the
//! event commits with the application's data or not at all.

pub mod postgres;

pub use postrider_core::{EventError, EventId, NewEvent};

/// Why an event could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The event breaks a bound; nothing was sent to the database.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The database did not take it; the transaction is as it is after any failed statement.
    #[error("the database did not take the event: {0}")]
    Database(#[from] sqlx::Error),
}
