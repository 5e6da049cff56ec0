//! What a database must do to be moved from or to.

use super::value::Kind;
use crate::{Result, Store};
use async_trait::async_trait;
use chrono::NaiveDate;
use postrider_core::KeyRing;

/// A table, as its database describes it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// The columns of the primary key, in its order.
    pub(crate) key: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its type in the words of its database.
    pub(crate) declared: String,
    /// Whether only PostgreSQL's types tell what is in it.
    pub(crate) postgres: bool,
    /// Whether the database numbers the rows in it.
    pub(crate) drawn: bool,
}

/// A row on its way.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The values of its key, in the form of `cell`.
    pub(crate) key: Vec<String>,
    /// The values of the columns that were asked for.
    pub(crate) cells: Vec<Option<String>>,
}

/// What a target must know of its source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyState {
    pub(crate) slots: u16,
    /// The latest version of the hooks.
    pub(crate) hooks_version: i64,
    /// No event has a later place in the order of the outbox.
    pub(crate) last_seq: i64,
}

/// Keeps applications from inserting into the source.
#[async_trait]
pub(crate) trait Hold: Send {
    /// Marks the source as moved, and refuses inserts into its outbox from now on.
    async fn mark_moved(self: Box<Self>, to: &str) -> Result<()>;
}

/// A database that is moved from or to.
#[async_trait]
pub(crate) trait Side: Store {
    fn is_sqlite(&self) -> bool;

    fn key_ring(&self) -> &KeyRing;

    /// All our tables, partitions apart.
    async fn tables(&self) -> Result<Vec<Table>>;

    async fn count(&self, table: &str) -> Result<u64>;

    // ---- as a source

    /// A worker that looks for work here, in words, if one can be told.
    async fn worker_at_work(&self) -> Result<Option<String>>;

    /// Brings back what leases hold that have run out; returns how many deliveries are leased.
    async fn bring_back(&self) -> Result<u64>;

    async fn standing(&self) -> Result<CopyState>;

    /// The days that history has.
    async fn days(&self) -> Result<Vec<NaiveDate>>;

    /// Rows in the order of the key, after the given one.
    async fn read(
        &self,
        table: &Table,
        columns: &[(Column, Kind)],
        after: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<Row>>;

    async fn hold(&self) -> Result<Box<dyn Hold + '_>>;

    // ---- as a target

    /// Whether there is nothing that could be mixed up with what moves here.
    async fn is_empty(&self) -> Result<bool>;

    /// From now on the target refuses work. What is inserted later comes after `source`.
    async fn begin_move(&self, from: &str, source: &CopyState) -> Result<()>;

    /// Makes capacity for the history of these days.
    async fn make_room(&self, days: &[NaiveDate]) -> Result<()>;

    /// How far a table has come: the key of the last row, and the number of rows.
    async fn reached(&self, table: &str) -> Result<(Option<Vec<String>>, u64)>;

    /// Inserts rows, and keeps how far the table has come, in one transaction.
    async fn write(
        &self,
        table: &Table,
        columns: &[(Column, Kind)],
        rows: Vec<Vec<Option<String>>>,
        cursor: &[String],
        total: u64,
    ) -> Result<()>;

    /// Everything is here: the target takes work from now on.
    async fn complete(&self) -> Result<()>;
}
