//! The database itself: its clock, its tables, its connections.

use crate::{Migrated, PoolGauge, Result, SchemaState, WorkerClaim};
use async_trait::async_trait;
use postrider_core::Timestamp;

/// The database itself: its clock, its tables, its connections.
#[async_trait]
pub trait Database: Send + Sync {
    /// The database's clock.
    async fn now(&self) -> Result<Timestamp>;

    /// Where the database stands between no tables and too new for this binary.
    async fn schema(&self) -> Result<SchemaState>;

    /// Makes or updates the tables, and spreads the outbox over `slots` (PostgreSQL only).
    ///
    /// May be repeated and run by several processes at once: one does the work, the others
    /// wait and find it done. A database too new for this binary is refused. Slots only grow,
    /// and not while the outbox holds rows with keys. Partitions for today and the next days
    /// are made.
    async fn migrate(&self, slots: Option<u16>, now: Timestamp) -> Result<Migrated>;

    /// A sentence naming the database for people, without its password.
    fn describe(&self) -> String;

    /// How many connections of this store are in use. Asks nothing of the database.
    fn pools(&self) -> Vec<PoolGauge>;

    /// Takes the right to work on this database, held until the claim is dropped.
    ///
    /// PostgreSQL gives it to any number of workers. SQLite gives it to one process, because
    /// its workers could only wait for each other; others get [`Error::Conflict`], which says
    /// what to do. Command line and applications need no claim.
    ///
    /// [`Error::Conflict`]: crate::Error::Conflict
    async fn claim_worker(&self) -> Result<WorkerClaim> {
        Ok(WorkerClaim::default())
    }

    /// Closes every connection; calls after this fail.
    async fn close(&self);
}
