#![doc = include_str!("../README.md")]

pub mod postgres;
pub mod sqlite;

pub use postrider_core::{EventError, EventId, NewEvent};

/// The event was not written.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// It breaks a bound; the database was not asked.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The database did not take it. The transaction is best rolled back.
    #[error("the event could not be written to the outbox: {0}")]
    Database(#[from] sqlx::Error),
}
