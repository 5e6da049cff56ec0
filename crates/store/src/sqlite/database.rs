//! The file: its clock, its tables, the connections to it, and the one worker process.

use super::values::moment;
use super::{SqliteStore, lock, schema};
use crate::{ClockReading, Database, Migrated, PoolGauge, Result, SchemaState, WorkerClaim};
use async_trait::async_trait;
use postrider_core::{Timestamp, monotonic_now};

#[async_trait]
impl Database for SqliteStore {
    async fn read_clock(&self) -> Result<ClockReading> {
        let mut connection = self.readers.acquire().await?;
        let asked = monotonic_now();
        let micros = sqlx::query_scalar(
            "-- postrider: now
            SELECT CAST(round(unixepoch('now', 'subsec') * 1000) AS INTEGER) * 1000",
        )
        .fetch_one(&mut *connection)
        .await?;
        Ok(ClockReading {
            time: moment(micros),
            asked,
            took: monotonic_now() - asked,
        })
    }

    async fn schema(&self) -> Result<SchemaState> {
        let mut tx = self.readers.begin().await?;
        schema::state(&mut tx).await
    }

    async fn migrate(&self, slots: Option<u16>, now: Timestamp) -> Result<Migrated> {
        schema::migrate(self, slots, now).await
    }

    fn describe(&self) -> String {
        format!("the SQLite file {}", self.path.display())
    }

    fn pools(&self) -> Vec<PoolGauge> {
        vec![PoolGauge::of("readers", &self.readers)]
    }

    async fn claim_worker(&self) -> Result<WorkerClaim> {
        lock::claim_worker(&self.path)
    }

    async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}
