//! The store in one SQLite file, for one worker process.
//!
//! One connection writes, in short transactions that take the right to write before they read
//! (`writer.rs`). A few others read beside it. The hard rule: a commit is on the disk when it
//! returns.

mod attempt_rows;
mod batches;
mod bulk;
mod credentials;
mod database;
mod deliveries;
mod delivery_change;
mod delivery_search;
mod diagnostics;
mod end_waiting;
mod erase;
mod errors;
mod file;
mod gates;
mod gauges;
mod health;
mod history;
mod hook_cache;
mod hook_history;
mod hook_statements;
mod hooks;
mod idempotency;
mod keys;
mod lease_group;
mod leased_rows;
mod leases;
mod lock;
mod operational_events;
mod order;
mod order_upkeep;
mod outbox;
mod outbox_rows;
mod prune;
mod recover;
mod registered;
mod schema;
mod settle;
mod settle_rows;
mod targets;
#[cfg(test)]
mod tests;
mod transfer;
mod upkeep;
mod values;
mod writer;

use crate::Result;
use crate::hook_cache::LatestHookCache;
use crate::key_cursors::KeyCursors;
pub(crate) use errors::explain;
use postrider_core::KeyRing;
use sqlx::SqlitePool;
use std::path::PathBuf;
use writer::Writer;

/// The store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// Without links, so that all processes use the same path.
    path: PathBuf,
    writer: Writer,
    readers: SqlitePool,
    keys: KeyRing,
    cache: LatestHookCache,
    key_cursors: KeyCursors,
}

impl SqliteStore {
    /// Opens the file that `url` names (`sqlite://relative.db`, `sqlite:///absolute/path.db`),
    /// and creates it if it is missing. Its folder must exist.
    ///
    /// # Errors
    /// The URL names no file, or the file cannot be used; the error says what to do.
    pub async fn open(url: &str, keys: KeyRing) -> Result<Self> {
        let (path, connection) = file::open(&file::path_of(url)?).await?;
        Ok(Self {
            writer: Writer::new(connection, file::writer_options(&path)),
            readers: file::readers(&path),
            path,
            keys,
            cache: LatestHookCache::default(),
            key_cursors: KeyCursors::default(),
        })
    }
}
