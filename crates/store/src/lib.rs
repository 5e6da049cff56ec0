//! Postrider's storage: one contract, kept by PostgreSQL and by SQLite.
//!
//! [`Store`] says in prose what every store does. `postgres/` and `sqlite/` mirror each other
//! file by file and statement by statement; the conformance suite in `tests/` runs every case
//! on both by name. Nothing outside this crate and the producer knows `sqlx`.

mod audit_entry;
mod batch;
mod bulk;
mod capacity;
mod credential;
mod diagnostics;
mod error;
mod fan_out;
mod gauges;
mod hook_cache;
mod hook_change;
mod hook_row;
mod idempotency;
mod key_row;
mod migrations;
mod open;
mod operational_events;
mod order;
pub mod postgres;
mod report;
mod retention;
mod schema_state;
pub mod sqlite;
mod store;
mod stored_row;
mod target;
mod transfer;
mod work;

pub use bulk::{BulkCursor, BulkPage, BulkPageResult, Discard, Redelivery};
pub use capacity::Capacity;
pub use credential::CredentialQuery;
pub use diagnostics::{Diagnostics, OUTBOX_COLUMNS, OldSnapshot, Producer, TableSize, Unused};
pub use error::{Error, Result};
pub use gauges::{
    GAUGES_COUNTED, GaugeSample, Gauges, HookCounts, PartitionGauge, PoolGauge, SnapshotGauge,
    TableGauge, Waiting,
};
pub use migrations::{MIGRATIONS, Migrated, SCHEMA_LEVEL};
pub use open::{Backend, DatabaseSettings, open};
pub use report::{
    AttemptReport, DeliveryReport, DeliveryState, EventReport, EventState, HookChangeReport,
    HookReport, KeyReport, RegisteredHook, RegistrantReport, RejectedReport,
};
pub use retention::{Erased, Pruned, Retention};
pub use schema_state::SchemaState;
pub use store::{
    Credentials, Database, DeliveryFilter, EnqueuedOnce, EventFilter, Gates, History,
    HistoryFilter, HookChange, HookFilter, Hooks, IDEMPOTENCY_KEPT, Idempotency, KeyFilter, Keys,
    LatestAnswer, Maintenance, Monitoring, Outbox, Queue, Recovery, RegisteredFilter, Store,
    Upkeep,
};
pub use transfer::{TransferParts, TransferStep, Transferred, transfer};
pub use work::{
    Companion, Disabling, DueHook, FanOutRequest, FanOutResult, GroupMember, HookCache, HookPhase,
    LeaseRequest, Leased, OwnershipAnswer, OwnershipRequest, Peek, RecoverResult, SettleResult,
    Settlement, Step, Warning, WorkerClaim,
};
