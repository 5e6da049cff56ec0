//! The store in one SQLite file: everything in one process and one file, nothing to install.
//!
//! One connection writes, in short transactions that take the right to write before they look
//! (`writer.rs`); a few read beside it. The hard rule: a commit is on the disk when it returns.

mod aliases;
mod attempt_rows;
mod batches;
mod bulk;
mod credentials;
mod deliveries;
mod diagnostics;
mod discard;
mod discard_held;
mod erase;
mod errors;
mod file;
mod gates;
mod gauges;
mod health;
mod history;
mod hook_history;
mod hook_rows;
mod hooks;
mod idempotency;
mod keys;
mod lease_group;
mod leases;
mod lock;
mod operational_events;
mod order;
mod order_upkeep;
mod outbox;
mod outbox_rows;
mod prune;
mod recover;
mod redeliver;
mod redeliver_many;
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

use crate::{
    AttemptReport, BulkPage, BulkPageResult, CredentialQuery, Credentials, Database,
    DeliveryFilter, DeliveryReport, Diagnostics, Discard, Erased, EventFilter, EventReport, Gates,
    GaugeSample, History, HistoryFilter, HookCache, HookChange, HookChangeReport, HookFilter,
    HookReport, Hooks, KeyFilter, KeyReport, Keys, LatestAnswer, Maintenance, Migrated, Monitoring,
    OwnershipAnswer, OwnershipRequest, PoolGauge, Pruned, Recovery, Redelivery, RegisteredFilter,
    RegisteredHook, RejectedReport, Result, Retention, SchemaState, Upkeep, WorkerClaim,
};
use async_trait::async_trait;
pub(crate) use errors::explain;
use postrider_core::{
    AccessChange, Credential, DeliveryId, EventId, Hook, HookId, Key, KeyId, KeyRing,
    NewCredential, NewHook, NewKey, Timestamp, TokenHash, WorkerId,
};
use sqlx::SqlitePool;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use writer::Writer;

/// The store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// Without links, so that all processes mean the same file.
    path: PathBuf,
    writer: Writer,
    readers: SqlitePool,
    keys: KeyRing,
    cache: RwLock<Arc<HookCache>>,
    /// Up to which key the turns of a hook were last looked over.
    looked_over: Mutex<HashMap<HookId, String>>,
}

impl SqliteStore {
    /// Opens the file that `url` names (`sqlite://relative.db`, `sqlite:///absolute/path.db`),
    /// and makes it if it is missing. Its folder must be there.
    ///
    /// # Errors
    /// When the URL names no file, or the file cannot be used; the error says what to do.
    pub async fn open(url: &str, keys: KeyRing) -> Result<Self> {
        let (path, connection) = file::open(&file::path_of(url)?).await?;
        Ok(Self {
            writer: Writer::new(connection, file::writer_options(&path)),
            readers: file::readers(&path),
            path,
            keys,
            cache: RwLock::default(),
            looked_over: Mutex::default(),
        })
    }
}

#[async_trait]
impl Database for SqliteStore {
    async fn now(&self) -> Result<Timestamp> {
        let micros: i64 = sqlx::query_scalar(
            "-- postrider: now
            SELECT CAST(round(unixepoch('now', 'subsec') * 1000) AS INTEGER) * 1000",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(values::moment(micros))
    }

    async fn schema(&self) -> Result<SchemaState> {
        self.read_schema().await
    }

    async fn migrate(&self, slots: Option<u16>, now: Timestamp) -> Result<Migrated> {
        self.make_schema(slots, now).await
    }

    fn describe(&self) -> String {
        format!("the SQLite file {}", self.path.display())
    }

    fn pools(&self) -> Vec<PoolGauge> {
        self.reader_pool()
    }

    async fn claim_worker(&self) -> Result<WorkerClaim> {
        self.lock_worker()
    }

    async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

#[async_trait]
impl Gates for SqliteStore {
    async fn own_gates(&self, request: OwnershipRequest) -> Result<Vec<OwnershipAnswer>> {
        self.answer_gates(request).await
    }

    async fn disown_gates(&self, _: WorkerId, _: &[HookId]) -> Result<()> {
        Ok(())
    }

    async fn end_ramps(&self, hooks: &[HookId]) -> Result<()> {
        self.ramps_ended(hooks).await
    }
}

#[async_trait]
impl Hooks for SqliteStore {
    async fn create_hook(&self, hook: NewHook, by: &str, now: Timestamp) -> Result<HookReport> {
        self.insert_hook(hook, by, now).await
    }

    async fn change_hook(
        &self,
        id: HookId,
        change: HookChange,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport> {
        self.update_hook(id, change, by, now).await
    }

    async fn remove_hook(&self, id: HookId, by: &str, now: Timestamp) -> Result<HookReport> {
        self.delete_hook(id, by, now).await
    }

    async fn hook(&self, id: HookId) -> Result<HookReport> {
        self.find_hook(id).await
    }

    async fn hook_with_credentials(&self, id: HookId) -> Result<Hook> {
        self.open_hook(id).await
    }

    async fn hooks(&self, filter: HookFilter) -> Result<Vec<HookReport>> {
        self.list_hooks(filter).await
    }

    async fn hook_history(
        &self,
        id: HookId,
        filter: HistoryFilter,
    ) -> Result<Vec<HookChangeReport>> {
        self.list_changes(id, filter).await
    }

    async fn registered(&self, filter: RegisteredFilter) -> Result<Vec<RegisteredHook>> {
        self.list_registered(&filter).await
    }

    async fn note_latest(&self, latest: &[LatestAnswer]) -> Result<()> {
        self.record_latest(latest).await
    }
}

#[async_trait]
impl Keys for SqliteStore {
    async fn create_key(&self, key: NewKey, hash: TokenHash, now: Timestamp) -> Result<KeyReport> {
        self.insert_key(&key, hash, now).await
    }

    async fn keys(&self, filter: KeyFilter) -> Result<Vec<KeyReport>> {
        self.list_keys(filter).await
    }

    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<KeyReport> {
        self.end_key(id, now).await
    }

    async fn find_key(&self, hash: TokenHash) -> Result<Option<Key>> {
        self.key_of(hash).await
    }

    async fn keys_used(&self, used: &[(KeyId, Timestamp)]) -> Result<()> {
        self.note_uses(used).await
    }
}

#[async_trait]
impl Credentials for SqliteStore {
    async fn create_credential(&self, new: NewCredential, now: Timestamp) -> Result<KeyReport> {
        self.insert_credential(&new, now).await
    }

    async fn change_credential(&self, id: KeyId, change: AccessChange) -> Result<KeyReport> {
        self.update_credential(id, change).await
    }

    async fn find_credential(&self, query: CredentialQuery) -> Result<Option<Credential>> {
        self.credential_of(&query).await
    }

    async fn take_signature(
        &self,
        key: KeyId,
        signature: &[u8],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool> {
        self.note_signature(key, signature, now, until).await
    }
}

#[async_trait]
impl History for SqliteStore {
    async fn event(&self, id: EventId) -> Result<EventReport> {
        self.find_event(id).await
    }

    async fn events(&self, filter: EventFilter) -> Result<Vec<EventReport>> {
        self.list_events(filter).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<DeliveryReport> {
        self.find_delivery(id).await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryReport>> {
        self.list_deliveries(filter).await
    }

    async fn attempts(&self, id: DeliveryId) -> Result<Vec<AttemptReport>> {
        self.list_attempts(id).await
    }

    async fn rejected(&self, limit: u32) -> Result<Vec<RejectedReport>> {
        self.list_rejected(limit).await
    }
}

#[async_trait]
impl Recovery for SqliteStore {
    async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        self.send_again(id, now).await
    }

    async fn redeliver_many(
        &self,
        which: &Redelivery,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult> {
        self.send_many_again(which, page, now).await
    }

    async fn discard(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        self.give_up(id, now).await
    }

    async fn discard_held(
        &self,
        which: &Discard,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult> {
        self.discard_page(which, page, now).await
    }
}

#[async_trait]
impl Maintenance for SqliteStore {
    async fn upkeep(&self, now: Timestamp, limit: u32) -> Result<Upkeep> {
        self.keep_up(now, limit).await
    }

    async fn prune(&self, keep: &Retention, now: Timestamp, batch: u32) -> Result<Pruned> {
        self.prune_history(keep, now, batch).await
    }

    async fn erase(&self, events: &[EventId], now: Timestamp) -> Result<Erased> {
        self.erase_events(events, now).await
    }

    async fn erase_rejected(&self, account: &str, limit: u32) -> Result<u32> {
        self.erase_rejected_of(account, limit).await
    }
}

#[async_trait]
impl Monitoring for SqliteStore {
    async fn diagnostics(&self, _: Timestamp) -> Result<Diagnostics> {
        self.examine_file().await
    }

    async fn gauges(&self, now: Timestamp) -> Result<Option<GaugeSample>> {
        self.current_gauges(now).await
    }
}
