//! Postrider's storage: one contract, kept by PostgreSQL and by SQLite.
//!
//! [`Store`] says in prose what every store does. `postgres/` and `sqlite/` mirror each other
//! file by file and statement by statement; the conformance suite in `tests/` runs every case
//! on both by name. Nothing outside this crate and the producer knows `sqlx`.

mod audit_entry;
mod batch;
mod bulk;
mod capacity;
mod count;
mod credential;
mod delivery_change;
mod diagnostics;
mod erase;
mod error;
mod fan_out;
mod gauges;
mod history_rows;
mod hook_cache;
mod hook_change;
mod hook_health;
mod hook_row;
mod idempotency;
mod key_cursors;
mod key_row;
mod lease;
mod lost_lease;
mod migrations;
mod open;
mod operational_events;
mod order;
pub mod postgres;
mod report;
mod request;
mod retention;
mod row_state;
mod schema_state;
mod settlement;
pub mod sqlite;
mod sqlx_error;
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
pub use request::{Delivery, GroupMember, HookRequest, Lease, LeaseKind, OneOrMore};
pub use retention::{Erased, Pruned, Retention};
pub use schema_state::SchemaState;
pub use settlement::{Disabling, HookPhase, SettleResult, Settlement, Step, Warning};
pub use store::{
    ClockReading, Credentials, Database, DeliveryChanges, DeliveryFilter, EnqueuedOnce,
    EventFilter, Gates, History, HistoryFilter, HookChange, HookFilter, Hooks, IDEMPOTENCY_KEPT,
    Idempotency, KeyFilter, Keys, LatestAnswer, Maintenance, Monitoring, Outbox, Queue,
    RegisteredFilter, Store, Upkeep,
};
pub use transfer::{TransferParts, TransferStep, Transferred, transfer};
pub use work::{
    DueHook, FanOutRequest, FanOutResult, HookCache, LeaseRequest, OwnershipAnswer,
    OwnershipRequest, Peek, RecoverResult, WorkerClaim,
};
