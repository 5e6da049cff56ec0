//! The operations that a move needs of its source and its target.

use super::value::ValueKind;
use super::{OUTBOX, STAYS};
use crate::{Result, Store};
use async_trait::async_trait;
use chrono::NaiveDate;
use postrider_core::{KeyRing, RetrySchedule};

/// The number of expired leases recovered in one call.
const RECOVERED_AT_ONCE: u32 = 5_000;

/// A table, as its database describes it.
#[derive(Clone, Debug)]
pub(crate) struct TransferTable {
    pub(crate) name: String,
    pub(crate) columns: Vec<TransferColumn>,
    /// The columns of the primary key, in its order.
    pub(crate) key: Vec<TransferColumn>,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct TransferColumn {
    pub(crate) name: String,
    /// Its type in the words of its database.
    pub(crate) declared: String,
    /// Whether its type is one of PostgreSQL's, which say more about the values.
    pub(crate) postgres: bool,
    /// Whether the database generates its values.
    pub(crate) drawn: bool,
}

/// A column as the catalog of a database lists it.
pub(crate) struct CatalogRow {
    pub(crate) table: String,
    pub(crate) column: TransferColumn,
    /// Its place in the primary key; `None` outside of it.
    pub(crate) key_place: Option<i64>,
}

/// The tables of a catalog that is ordered by table.
pub(crate) fn tables_of(rows: impl IntoIterator<Item = CatalogRow>) -> Vec<TransferTable> {
    let mut tables: Vec<TransferTable> = Vec::new();
    let mut places = Vec::new();
    for row in rows {
        if tables.last().is_none_or(|last| last.name != row.table) {
            tables.push(TransferTable {
                name: row.table,
                columns: Vec::new(),
                key: Vec::new(),
            });
            places.clear();
        }
        if let Some(table) = tables.last_mut() {
            if let Some(place) = row.key_place {
                let at = places.partition_point(|other| *other < place);
                places.insert(at, place);
                table.key.insert(at, row.column.clone());
            }
            table.columns.push(row.column);
        }
    }
    tables
}

/// A row that is being moved.
#[derive(Clone, Debug)]
pub(crate) struct TransferRow {
    /// The values of its key, in the form described in `value`.
    pub(crate) key: Vec<String>,
    /// The values of the selected columns.
    pub(crate) cells: Vec<Option<String>>,
}

/// The facts about a source that its target needs.
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
pub(crate) trait OutboxHold: Send {
    /// Marks the source as moved for good: it refuses work and inserts from now on.
    async fn mark_moved(self: Box<Self>, to: &str) -> Result<()>;
}

/// A database that is moved from or to.
#[async_trait]
pub(crate) trait Endpoint: Store {
    fn is_sqlite(&self) -> bool;

    fn key_ring(&self) -> &KeyRing;

    /// All tables of Postrider; partitions are parts of their tables.
    async fn tables(&self) -> Result<Vec<TransferTable>>;

    async fn count(&self, table: &str) -> Result<u64>;

    // ---- as a source

    /// A phrase that names a worker at work here; `None` if none is seen.
    async fn worker_at_work(&self) -> Result<Option<String>>;

    /// The number of leased deliveries.
    async fn leased(&self) -> Result<u64>;

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

    async fn copy_state(&self) -> Result<CopyState>;

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

    async fn hold(&self) -> Result<Box<dyn OutboxHold + '_>>;

    // ---- as a target

    async fn has_rows(&self, table: &str) -> Result<bool>;

    /// Whether no row here could be confused with one that is moved here. Rows that an application
    /// has inserted into the outbox already stay.
    async fn is_empty(&self) -> Result<bool> {
        for table in self.tables().await? {
            let name = table.name.as_str();
            if name != OUTBOX && !STAYS.contains(&name) && self.has_rows(name).await? {
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
