//! Postrider's storage: one contract, kept by PostgreSQL and by SQLite.
//!
//! [`Store`] says in prose what every store does. `postgres/` and `sqlite/` mirror each other
//! file by file and statement by statement; the conformance suite in `tests/` runs every case
//! on both by name. Nothing outside this crate and the producer knows `sqlx`.

mod announce;
mod batch;
mod book;
mod bulk;
mod credential;
mod error;
mod examine;
mod fan_out;
mod gauges;
mod hook_entry;
mod migrations;
mod open;
mod order;
pub mod postgres;
mod report;
mod retention;
mod room;
mod scratch;
pub mod sqlite;
mod store;
mod target;
mod transfer;
mod work;

pub use bulk::{Discard, Mark, Page, PageDone, Redelivery};
pub use credential::CredentialQuery;
pub use error::{Error, Result};
pub use examine::{Examination, OUTBOX_COLUMNS, OldSnapshot, Producer, TableSize, Unused};
pub use gauges::{
    GAUGES_COUNTED, Gauges, HookCounts, PartitionGauge, PoolGauge, Sampled, SnapshotGauge,
    TableGauge, Waiting,
};
pub use migrations::{MIGRATIONS, Migrated, SCHEMA_LEVEL, SchemaState};
pub use open::{Backend, DatabaseSettings, open};
pub use report::{
    AttemptReport, DeliveryReport, DeliveryState, EventReport, EventState, HookChangeReport,
    HookReport, KeyReport, Registered, RegistrantReport, RejectedReport,
};
pub use retention::{Erased, Pruned, Retention};
pub use room::Room;
pub use scratch::{HeldSnapshot, PastDay, ScratchDatabase, describe_server};
pub use store::{
    DeliveryFilter, EnqueuedOnce, EventFilter, HistoryFilter, HookChange, HookFilter,
    IDEMPOTENCY_KEPT, Idempotency, KeyFilter, Latest, RegisteredFilter, Store, Upkeep,
};
pub use transfer::{TransferParts, TransferStep, Transferred, transfer};
pub use work::{
    Companion, Disabling, DueHook, FanOut, FannedOut, Fresh, GateAnswer, HookBook, Lease, Leased,
    OwnGates, Peek, Recovered, Settled, Settlement, Standing, Step, Warning, WorkerClaim,
};
