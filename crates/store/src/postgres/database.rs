//! The server: its clock, its tables, the pools of connections to it.

use super::pool::Pool;
use super::{PostgresStore, schema};
use crate::{ClockReading, Database, Migrated, PoolGauge, Result, SchemaState};
use async_trait::async_trait;
use postrider_core::{Timestamp, monotonic_now};

#[async_trait]
impl Database for PostgresStore {
    async fn read_clock(&self) -> Result<ClockReading> {
        let mut connection = self.calm.acquire().await?;
        let asked = monotonic_now();
        let time = sqlx::query_scalar(
            "-- postrider: now
            SELECT clock_timestamp()",
        )
        .fetch_one(&mut *connection)
        .await?;
        Ok(ClockReading {
            time,
            asked,
            took: monotonic_now() - asked,
        })
    }

    async fn schema(&self) -> Result<SchemaState> {
        let mut connection = self.calm.acquire().await?;
        schema::state(&mut connection).await
    }

    async fn migrate(&self, slots: Option<u16>, now: Timestamp) -> Result<Migrated> {
        schema::migrate(self, slots, now).await
    }

    fn describe(&self) -> String {
        self.servers.place()
    }

    fn pools(&self) -> Vec<PoolGauge> {
        [&self.hot, &self.intake, &self.calm]
            .map(Pool::gauge)
            .into()
    }

    async fn close(&self) {
        tokio::join!(self.hot.close(), self.intake.close(), self.calm.close());
    }
}
