//! What the database tells about itself, for `postrider check`.

use postrider_core::Timestamp;
use std::time::Duration;

/// The columns of the outbox that an application may set.
pub const OUTBOX_COLUMNS: [&str; 9] = [
    "slot",
    "account",
    "event_type",
    "payload",
    "ordering_key",
    "dedup_key",
    "deliver_after",
    "occurred_at",
    "headers",
];

/// What the database tells about itself.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    /// Partitions of today and the next days that are missing (PostgreSQL only).
    pub missing_partitions: Vec<String>,
    /// Partitions that Postrider did not make and does not take away (PostgreSQL only).
    pub foreign_partitions: Vec<String>,
    /// The tables, largest first; partitions count as part of their table. For SQLite the file
    /// alone: only reading all of it would tell more.
    pub tables: Vec<TableSize>,
    /// What has been holding back the cleaning of dead rows for longest.
    pub oldest_snapshot: Option<OldSnapshot>,
    /// Whether other users' sessions could be looked at for that (PostgreSQL only).
    pub sees_all_sessions: bool,
    /// Roles other than the owner that may insert into the outbox (PostgreSQL only).
    pub producers: Vec<Producer>,
    /// Bytes in the file that nothing uses, and bytes of the write-ahead log (SQLite only).
    pub unused: Option<Unused>,
}

/// How large a table is.
#[derive(Clone, Debug)]
pub struct TableSize {
    /// Its name.
    pub name: String,
    /// With its indexes.
    pub bytes: u64,
    /// Dead rows that were not cleaned up yet, as far as the database has noticed.
    pub dead_rows: u64,
}

/// Something that needs an old state of the database.
#[derive(Clone, Debug)]
pub struct OldSnapshot {
    /// What it is, for people: a session, a prepared transaction, a replication slot.
    pub what: String,
    /// Since when, if that is known.
    pub since: Option<Timestamp>,
    /// How long ago that was.
    pub age: Duration,
    /// What to do about it.
    pub remedy: String,
}

/// A role that inserts events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its name; `PUBLIC` for all roles.
    pub role: String,
    /// Documented columns that it cannot set.
    pub missing: Vec<String>,
    /// Columns that it can set and should not.
    pub excess: Vec<String>,
    /// Whether it may use the schema.
    pub uses_schema: bool,
}

/// What a SQLite file holds beside data.
#[derive(Clone, Copy, Debug)]
pub struct Unused {
    /// Bytes of free pages.
    pub free: u64,
    /// Bytes of the write-ahead log.
    pub log: u64,
}
