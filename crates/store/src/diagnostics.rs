//! The state of the database, for `postrider check`.

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

/// The state of the database.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    /// Partitions of today and the next days that are missing (PostgreSQL only).
    pub missing_partitions: Vec<String>,
    /// Partitions that Postrider neither made nor drops (PostgreSQL only).
    pub foreign_partitions: Vec<String>,
    /// The tables, largest first; partitions count as parts of their table. On SQLite only the
    /// file: the sizes of its tables would cost a scan.
    pub tables: Vec<TableSize>,
    /// The holder of the oldest snapshot, which holds back the cleaning of dead rows.
    pub oldest_snapshot: Option<OldSnapshot>,
    /// Whether the sessions of other users are visible (PostgreSQL only).
    pub sees_all_sessions: bool,
    /// Roles other than the owner that may insert into the outbox (PostgreSQL only).
    pub producers: Vec<Producer>,
    /// Free space in the file, and the size of the write-ahead log (SQLite only).
    pub unused: Option<Unused>,
}

/// The space that a table with its partitions takes, or the whole file (SQLite).
#[derive(Clone, Debug)]
pub struct TableSize {
    /// Such as `postrider_deliveries`; `the file` on SQLite.
    pub name: String,
    /// Its size with its indexes.
    pub bytes: u64,
    /// Dead rows that were not cleaned up yet, as the statistics say.
    pub dead_rows: u64,
}

/// The holder of an old snapshot of the database.
#[derive(Clone, Debug)]
pub struct OldSnapshot {
    /// A phrase for people: a session, a prepared transaction or a replication slot.
    pub what: String,
    /// When the snapshot was taken, if that is known.
    pub since: Option<Timestamp>,
    /// Its age; zero if that is not known.
    pub age: Duration,
    /// What a person can do about it.
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

/// The space that a SQLite file takes beside its data.
#[derive(Clone, Copy, Debug)]
pub struct Unused {
    /// Bytes of free pages.
    pub free: u64,
    /// Bytes of the write-ahead log.
    pub log: u64,
}
