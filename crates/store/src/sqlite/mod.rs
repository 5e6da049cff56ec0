//! stub
use crate::*;
use async_trait::async_trait;
use postrider_core::*;
use std::sync::Arc;

/// stub
pub struct SqliteStore;
impl SqliteStore {
    /// stub
    pub async fn open(_url: &str, _keys: KeyRing) -> Result<Self> {
        todo!()
    }
}
#[async_trait]
impl Store for SqliteStore {
    async fn now(&self) -> Result<Timestamp> {
        todo!()
    }
    async fn schema(&self) -> Result<SchemaState> {
        todo!()
    }
    async fn migrate(&self, slots: Option<u16>, now: Timestamp) -> Result<Migrated> {
        todo!()
    }
    fn describe(&self) -> String {
        todo!()
    }
    async fn close(&self) {
        todo!()
    }
    async fn enqueue(&self, events: &[NewEvent]) -> Result<Vec<EventId>> {
        todo!()
    }
    async fn peek(&self) -> Result<Peek> {
        todo!()
    }
    async fn fan_out(&self, request: FanOut) -> Result<FannedOut> {
        todo!()
    }
    async fn due_hooks(
        &self,
        slot: i16,
        after: Option<HookId>,
        limit: u32,
    ) -> Result<Vec<DueHook>> {
        todo!()
    }
    async fn slots(&self) -> Result<Vec<i16>> {
        todo!()
    }
    async fn lease(&self, request: Lease) -> Result<Vec<Leased>> {
        todo!()
    }
    async fn settle(&self, now: Timestamp, settlements: &[Settlement]) -> Result<Settled> {
        todo!()
    }
    async fn release(
        &self,
        slot: i16,
        token: LeaseToken,
        deliveries: &[DeliveryId],
        now: Timestamp,
    ) -> Result<u32> {
        todo!()
    }
    async fn recover(
        &self,
        slot: i16,
        now: Timestamp,
        limit: u32,
        schedule: &RetrySchedule,
    ) -> Result<Recovered> {
        todo!()
    }
    fn hooks_book(&self) -> Arc<HookBook> {
        todo!()
    }
    async fn upkeep(&self, now: Timestamp, limit: u32) -> Result<Upkeep> {
        todo!()
    }
    async fn create_hook(&self, hook: NewHook, now: Timestamp) -> Result<HookReport> {
        todo!()
    }
    async fn change_hook(
        &self,
        id: HookId,
        change: HookChange,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport> {
        todo!()
    }
    async fn remove_hook(&self, id: HookId, now: Timestamp) -> Result<HookReport> {
        todo!()
    }
    async fn hook(&self, id: HookId) -> Result<HookReport> {
        todo!()
    }
    async fn hook_with_credentials(&self, id: HookId) -> Result<Hook> {
        todo!()
    }
    async fn hooks(&self, filter: HookFilter) -> Result<Vec<HookReport>> {
        todo!()
    }
    async fn event(&self, id: EventId) -> Result<EventReport> {
        todo!()
    }
    async fn events(&self, filter: EventFilter) -> Result<Vec<EventReport>> {
        todo!()
    }
    async fn delivery(&self, id: DeliveryId) -> Result<DeliveryReport> {
        todo!()
    }
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryReport>> {
        todo!()
    }
    async fn attempts(&self, id: DeliveryId) -> Result<Vec<AttemptReport>> {
        todo!()
    }
    async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport> {
        todo!()
    }
    async fn rejected(&self, limit: u32) -> Result<Vec<RejectedReport>> {
        todo!()
    }
}
