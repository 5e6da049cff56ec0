//! What is SQLite's own: files, foreign processes, rows that no other database would take.
//! The contract itself is tested for every store in `tests/`.

mod files;
mod history;
mod plans;

mod poison;
mod sharing;
mod work;

use super::SqliteStore;
use crate::{
    Capacity, Database, FanOutRequest, FanOutResult, HookRequest, Hooks, LeaseRequest, OneOrMore,
    Outbox, Settlement, Step,
};
use chrono::{DateTime, TimeDelta};
use postrider_core::{
    Attempt, AttemptId, HealthPolicy, HookCredentials, HookId, KeyRing, LeaseToken, NewEvent,
    NewHook, Outcome, SigningSecret, Timestamp, WorkerId,
};
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
        let hook = new_hook(pattern);
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

fn new_hook(pattern: &str) -> NewHook {
    NewHook {
        alias: None,
        account: "default".into(),
        url: "https://example.com/hook".into(),
        events: vec![pattern.parse().unwrap()],
        profile: "standard".into(),
        settings: Default::default(),
        credentials: HookCredentials::signed_with(SigningSecret::generate()),
        at_most: None,
    }
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

fn settlement(leased: &HookRequest, outcome: Outcome, step: Step) -> Settlement {
    Settlement {
        attempts: OneOrMore::one(Attempt {
            id: AttemptId::draw(now()),
            number: leased.attempts + 1,
            at: now(),
            duration: Duration::from_millis(20),
            outcome,
            response: b"ok \xff".to_vec(),
        }),
        request: leased.clone(),
        step,
        policy: POLICY,
        keeps_target: false,
    }
}

fn accepted(leased: &HookRequest) -> Settlement {
    settlement(leased, Outcome::Accepted { status: 200 }, Step::Delivered)
}

fn refused(leased: &HookRequest, status: u16, step: Step) -> Settlement {
    let outcome = Outcome::refused(status, None);
    settlement(leased, outcome, step)
}

const POLICY: HealthPolicy = HealthPolicy {
    back_off_after: 5,
    back_off_max: Duration::from_secs(900),
    disable_after_failures: 3,
    disable_after: Duration::ZERO,
    disable_when_exhausted: false,
};
