//! What only SQLite has: a file, applications that write to it, rows that no other database
//! accepts, and plans that its planner makes.
//!
//! The contract of every store is tested by the conformance suite in `tests/`.

mod files;
mod odd_rows;
mod plans;
mod sharing;

use super::SqliteStore;
use crate::{
    Capacity, Database, FanOutRequest, FanOutResult, Hooks, LeaseRequest, Leased, Outbox,
    Settlement, Step,
};
use chrono::{DateTime, TimeDelta};
use postrider_core::{
    Attempt, AttemptId, HookId, KeyRing, LeaseToken, NewEvent, Outcome, Timestamp, WorkerId,
};
use postrider_tests::{new_hook, policy};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// A store in a file of its own, with tables.
struct TestFile {
    folder: TempDir,
    key: String,
    store: SqliteStore,
}

impl TestFile {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyRing::generate_key();
        let store = open(&folder, &key).await;
        store.migrate(None, now()).await.unwrap();
        Self { folder, key, store }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("postrider.db")
    }

    /// A second store on the same file.
    async fn again(&self) -> SqliteStore {
        open(&self.folder, &self.key).await
    }

    /// A connection as an application has it.
    async fn application(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.path())
            .connect()
            .await
            .unwrap()
    }

    /// Runs a statement as an application.
    async fn run(&self, statement: &'static str) {
        let mut connection = self.application().await;
        sqlx::raw_sql(statement)
            .execute(&mut connection)
            .await
            .unwrap();
    }

    async fn count(&self, statement: &'static str) -> i64 {
        let mut connection = self.application().await;
        sqlx::query_scalar(statement)
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    async fn hook(&self, pattern: &str) -> HookId {
        let hook = new_hook("default", &[pattern]);
        self.store
            .create_hook(hook, "test", now())
            .await
            .unwrap()
            .id
    }

    async fn enqueue(&self, count: usize) {
        let events: Vec<_> = (0..count)
            .map(|n| NewEvent::new("order.paid", &n).unwrap())
            .collect();
        self.store.enqueue(&events).await.unwrap();
    }

    async fn fan_out(&self, capacity: u32) -> FanOutResult {
        self.store.fan_out(fan_out(capacity)).await.unwrap()
    }
}

async fn open(folder: &TempDir, key: &str) -> SqliteStore {
    let url = format!("sqlite://{}", folder.path().join("postrider.db").display());
    let keys = KeyRing::new([key]).unwrap();
    SqliteStore::open(&url, keys).await.unwrap()
}

fn now() -> Timestamp {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn later() -> Timestamp {
    now() + TimeDelta::minutes(1)
}

fn fan_out(capacity: u32) -> FanOutRequest {
    FanOutRequest {
        slot: 0,
        now: now(),
        token: LeaseToken::draw(now()),
        until: later(),
        capacity: Capacity::new(capacity, capacity),
        max_events: 1_000,
        max_bytes: 64 * 1024 * 1024,
        max_deliveries: 10_000,
        deliver_before: now() + TimeDelta::days(30),
        batches: None,
    }
}

fn lease(hook: HookId, limit: u32, now: Timestamp) -> LeaseRequest {
    LeaseRequest {
        slot: 0,
        now,
        token: LeaseToken::draw(now),
        until: now + TimeDelta::minutes(1),
        worker: WorkerId::draw(now),
        wanted: vec![(hook, limit)],
        batches: None,
    }
}

fn accepted(leased: &Leased) -> Settlement {
    Settlement {
        attempt: Attempt {
            id: AttemptId::draw(now()),
            number: leased.attempts + 1,
            at: now(),
            duration: Duration::from_millis(20),
            outcome: Outcome::Accepted { status: 200 },
            response: Vec::new(),
        },
        leased: leased.clone(),
        step: Step::Delivered,
        policy: policy(),
        keeps_target: false,
    }
}
