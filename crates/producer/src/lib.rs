#![doc = include_str!("../README.md")]

pub mod postgres;
pub mod sqlite;

pub use postrider_core::{EventError, EventId, NewEvent};

/// An event could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The event exceeds a limit. Nothing was sent to the database, and the transaction can go on.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The database refused the statement. Roll the transaction back, as after any failed
    /// statement.
    #[error("the event could not be written to the outbox: {0}")]
    Database(#[from] sqlx::Error),
}
