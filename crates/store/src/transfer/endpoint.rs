//! The operations that a move needs of its source and its target.

use super::tables::{OUTBOX, STAYS, TransferColumn, TransferTable};
use super::value::ValueKind;
use crate::{Result, Store};
use async_trait::async_trait;
use chrono::NaiveDate;
use postrider_core::{KeyRing, RetrySchedule};

/// The number of expired leases recovered in one call.
const RECOVERED_AT_ONCE: u32 = 5_000;

/// A row that is being moved.
#[derive(Clone, Debug)]
pub(crate) struct TransferRow {
    /// The values of its key, in the form described in `value`.
    pub(crate) key: Vec<String>,
    /// The values of the selected columns.
    pub(crate) cells: Vec<Option<String>>,
}

/// The facts about a database that the other one needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyState {
    pub(crate) slots: u16,
    /// The latest version of the hooks.
    pub(crate) hooks_version: i64,
    /// The highest `seq` of any event.
    pub(crate) last_seq: i64,
}

/// A lock on the outbox of the source: applications cannot insert.
#[async_trait]
pub(crate) trait OutboxLock: Send {
    /// Marks the source as moved for good: it refuses work and inserts from now on.
    async fn mark_moved(self: Box<Self>, to: &str) -> Result<()>;
}

/// A database that takes part in a move.
#[async_trait]
pub(crate) trait Endpoint: Store {
    fn is_sqlite(&self) -> bool;

    fn key_ring(&self) -> &KeyRing;

    /// All tables of Postrider; partitions are parts of their tables.
    async fn tables(&self) -> Result<Vec<TransferTable>>;

    /// The number that this statement, in the SQL of both databases, selects.
    async fn number(&self, statement: String) -> Result<u64>;

    async fn count(&self, table: &str) -> Result<u64> {
        let count = format!("-- postrider: move_count\nSELECT count(*) FROM {table}");
        self.number(count).await
    }

    async fn copy_state(&self) -> Result<CopyState>;
}

/// A database that is moved from.
#[async_trait]
pub(crate) trait TransferSource: Endpoint {
    /// A phrase that names a worker at work here; `None` if none is seen.
    async fn worker_at_work(&self) -> Result<Option<String>>;

    /// The number of leased deliveries.
    async fn leased(&self) -> Result<u64> {
        let leased = "-- postrider: move_leased
            SELECT (SELECT count(*) FROM postrider_deliveries WHERE lease_token IS NOT NULL)
                 + (SELECT coalesce(sum(open), 0) FROM postrider_leases)";
        self.number(leased.to_owned()).await
    }

    /// Recovers deliveries whose leases have expired; returns how many are still leased.
    async fn recover_expired(&self) -> Result<u64> {
        let now = self.now().await?;
        let schedule = RetrySchedule::default();
        for slot in self.slots().await? {
            self.recover(slot, now, RECOVERED_AT_ONCE, &schedule)
                .await?;
        }
        self.leased().await
    }

    /// The days of which history has partitions or rows.
    async fn days(&self) -> Result<Vec<NaiveDate>>;

    /// Rows in the order of the key, after the given one.
    async fn read(
        &self,
        table: &TransferTable,
        columns: &[(TransferColumn, ValueKind)],
        after: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<TransferRow>>;

    async fn lock_outbox(&self) -> Result<Box<dyn OutboxLock + '_>>;
}

/// A database that is moved to.
#[async_trait]
pub(crate) trait TransferTarget: Endpoint {
    /// Whether no row here could be confused with one that is moved here. Rows that an application
    /// has inserted into the outbox already stay.
    async fn is_empty(&self) -> Result<bool> {
        for table in self.tables().await? {
            let name = table.name.as_str();
            let any = format!(
                "-- postrider: move_any
                SELECT count(*) FROM (SELECT 1 FROM {name} LIMIT 1) AS first"
            );
            if name != OUTBOX && !STAYS.contains(&name) && self.number(any).await? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Marks the target as incomplete, so that it refuses work. Events inserted later come after
    /// those of `source`.
    async fn begin_move(&self, from: &str, source: &CopyState) -> Result<()>;

    /// Makes the partitions for the history of these days.
    async fn make_days_ready(&self, days: &[NaiveDate]) -> Result<()>;

    /// The progress of a table: the key of the last row moved, and the number of rows.
    async fn reached(&self, table: &str) -> Result<(Option<Vec<String>>, u64)>;

    /// Inserts rows and records the progress of the table, in one transaction.
    async fn write(
        &self,
        table: &TransferTable,
        columns: &[(TransferColumn, ValueKind)],
        rows: Vec<Vec<Option<String>>>,
        cursor: &[String],
        total: u64,
    ) -> Result<()>;

    /// Marks the target as complete: it accepts work from now on.
    async fn complete(&self) -> Result<()>;
}

/// A database that can be moved from and to.
pub(crate) trait TransferParty: TransferSource + TransferTarget {}

impl<T: TransferSource + TransferTarget> TransferParty for T {}
