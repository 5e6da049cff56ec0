#![doc = include_str!("../README.md")]

pub mod postgres;
pub mod sqlite;

pub use postrider_core::{EventError, EventId, NewEvent};

/// Why an event could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The event breaks a bound; nothing was sent to the database.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The database did not take it; the transaction is as it is after any failed statement,
    /// and best rolled back.
    #[error("the event could not be written to the outbox: {0}")]
    Database(#[from] sqlx::Error),
}
