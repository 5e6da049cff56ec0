//! The database itself: its clock, its tables, its connections.

use crate::{Migrated, PoolGauge, Result, SchemaState, WorkerClaim};
use async_trait::async_trait;
use postrider_core::Timestamp;
use std::time::{Duration, Instant};

/// A reading of the database's clock.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    /// The time that the clock showed.
    pub time: Timestamp,
    /// When the database was asked.
    pub asked: Instant,
    /// How long the answer took.
    pub took: Duration,
}

/// The database itself: its clock, its tables, its connections.
#[async_trait]
pub trait Database: Send + Sync {
    /// Reads the database's clock. The wait for a connection is not part of the reading.
    ///
    /// # Errors
    /// Those of every method.
    async fn read_clock(&self) -> Result<ClockReading>;

    /// The time of the database's clock.
    ///
    /// # Errors
    /// Those of every method.
    async fn now(&self) -> Result<Timestamp> {
        Ok(self.read_clock().await?.time)
    }

    /// Reads the state of the tables, between none and too new for this binary.
    ///
    /// # Errors
    /// Those of every method.
    async fn schema(&self) -> Result<SchemaState>;

    /// Creates or updates the tables, and spreads the outbox over `slots` (PostgreSQL only).
    /// Creates the partitions of today and the next days.
    ///
    /// May be repeated and run by several processes at once: one does the work, and the others
    /// wait and find it done. The number of slots only grows, and not while the outbox holds
    /// rows with keys.
    ///
    /// # Errors
    /// - [`Schema`](crate::Error::Schema): the database is damaged or too new for this binary.
    /// - [`Conflict`](crate::Error::Conflict): the number of slots cannot be set as things are.
    async fn migrate(&self, slots: Option<u16>, now: Timestamp) -> Result<Migrated>;

    /// A phrase that names the database for people, without its password.
    fn describe(&self) -> String;

    /// Connections of this store, by pool. Makes no query.
    fn pools(&self) -> Vec<PoolGauge>;

    /// Takes the right to run a worker on this database, until the claim is dropped. The command
    /// line and applications need none.
    ///
    /// PostgreSQL grants it to any number of workers. SQLite grants it to one process, because
    /// several workers could only wait for each other.
    ///
    /// # Errors
    /// - [`Conflict`](crate::Error::Conflict): another process has it (SQLite only).
    /// - [`Denied`](crate::Error::Denied): the lock file cannot be written (SQLite only).
    async fn claim_worker(&self) -> Result<WorkerClaim> {
        Ok(WorkerClaim::default())
    }

    /// Closes every connection. Later calls fail.
    async fn close(&self);
}
