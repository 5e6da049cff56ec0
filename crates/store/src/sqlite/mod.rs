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
mod hook_cache;
mod hook_history;
mod hook_statements;
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

use crate::hook_cache::LatestHookCache;
use crate::{
    AttemptReport, BulkPage, BulkPageResult, DeliveryFilter, DeliveryReport, Diagnostics, Discard,
    DueHook, EnqueuedOnce, Erased, EventFilter, EventReport, FanOutRequest, FanOutResult,
    GaugeSample, History, HookCache, Idempotency, LeaseRequest, Leased, Maintenance, Monitoring,
    Outbox, Peek, Pruned, Queue, RecoverResult, Recovery, Redelivery, RejectedReport, Result,
    Retention, SettleResult, Settlement, Upkeep,
};
use async_trait::async_trait;
pub(crate) use errors::explain;
use postrider_core::{
    DeliveryId, EventId, HookId, KeyRing, LeaseToken, NewEvent, Schedules, Timestamp,
};
use sqlx::SqlitePool;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
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
    /// Up to which key the turns of a hook were last looked over.
    looked_over: Mutex<HashMap<HookId, String>>,
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
            looked_over: Mutex::default(),
        })
    }
}

#[async_trait]
impl Outbox for SqliteStore {
    async fn enqueue(&self, events: &[NewEvent]) -> Result<Vec<EventId>> {
        self.insert_events(events).await
    }

    async fn enqueue_once(
        &self,
        call: &Idempotency,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<EnqueuedOnce> {
        self.enqueue_once(call, events, now).await
    }

    async fn peek(&self) -> Result<Peek> {
        self.look().await
    }

    async fn fan_out(&self, request: FanOutRequest) -> Result<FanOutResult> {
        self.take_batch(request).await
    }

    fn hook_cache(&self) -> Arc<HookCache> {
        self.cache.get()
    }
}

#[async_trait]
impl Queue for SqliteStore {
    async fn slots(&self) -> Result<Vec<i16>> {
        self.find_slots().await
    }

    async fn due_hooks(
        &self,
        slot: i16,
        after: Option<HookId>,
        limit: u32,
    ) -> Result<Vec<DueHook>> {
        self.find_due_hooks(slot, after, limit).await
    }

    async fn lease(&self, request: LeaseRequest) -> Result<Vec<Leased>> {
        self.take_leases(request).await
    }

    async fn settle(&self, now: Timestamp, settlements: &[Settlement]) -> Result<SettleResult> {
        self.settle_batch(now, settlements).await
    }

    async fn release(
        &self,
        slot: i16,
        token: LeaseToken,
        deliveries: &[DeliveryId],
        now: Timestamp,
    ) -> Result<u32> {
        self.give_back(slot, token, deliveries, now).await
    }

    async fn recover(
        &self,
        slot: i16,
        now: Timestamp,
        limit: u32,
        schedules: &dyn Schedules,
    ) -> Result<RecoverResult> {
        self.recover_lost(slot, now, limit, schedules).await
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
