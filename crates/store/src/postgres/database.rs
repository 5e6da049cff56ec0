//! The server: its clock, its tables, the pools of connections to it.

use super::{PostgresStore, schema};
use crate::{Database, Migrated, PoolGauge, Result, SchemaState};
use async_trait::async_trait;
use postrider_core::Timestamp;

#[async_trait]
impl Database for PostgresStore {
    async fn now(&self) -> Result<Timestamp> {
        let now = sqlx::query_scalar(
            "-- postrider: now
            SELECT clock_timestamp()",
        )
        .fetch_one(&self.calm)
        .await?;
        Ok(now)
    }

    async fn schema(&self) -> Result<SchemaState> {
        let mut connection = self.calm.acquire().await?;
        schema::state(&mut connection).await
    }

    async fn migrate(&self, slots: Option<u16>, now: Timestamp) -> Result<Migrated> {
        schema::migrate(self, slots, now).await
    }

    fn describe(&self) -> String {
        self.place.clone()
    }

    fn pools(&self) -> Vec<PoolGauge> {
        vec![
            PoolGauge::of("hot", &self.hot),
            PoolGauge::of("intake", &self.intake),
            PoolGauge::of("calm", &self.calm),
        ]
    }

    async fn close(&self) {
        self.hot.close().await;
        self.intake.close().await;
        self.calm.close().await;
    }
}
