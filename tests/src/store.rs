//! A store on its own database, with a clock that only the test moves, and the steps that most
//! cases begin with.
//!
//! Events are inserted by bare SQL, into one slot, under growing ids, so that everything else that
//! a case sees is the store's work.

use crate::fixtures::{RETENTION, event, keys, new_hook, policy, refusal, start};
use crate::{Connection, TestDatabase, slots};
use postrider_core::{
    Attempt, AttemptId, Clock, DeliveryId, EventId, HookId, KeyRing, LeaseToken, NewEvent, NewHook,
    Outcome, TestClock, Timestamp, WorkerId,
};
use postrider_store::postgres::{PostgresStore, PostgresTuning};
use postrider_store::{
    AttemptReport, Backend, Capacity, DatabaseSettings, DeliveryReport, FanOutRequest,
    FanOutResult, HookReport, HookRequest, LeaseRequest, OneOrMore, OwnershipAnswer,
    OwnershipRequest, SettleResult, Settlement, Step, Store, open,
};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// How long the leases of a test last.
const LEASE: Duration = Duration::from_secs(60);

/// How long the worker of a test owns a gated hook.
const OWNED: Duration = Duration::from_secs(10);

/// A store on its own database.
pub struct TestStore {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock of the steps below.
    pub clock: Arc<TestClock>,
    /// The slot that events are inserted into: the last one.
    pub slot: i16,
    /// The worker that takes the steps below.
    pub worker: WorkerId,
    drawn: AtomicI64,
    /// Last, so that it is dropped last.
    pub database: TestDatabase,
}

impl TestStore {
    /// A store on a migrated database.
    pub async fn on(backend: Backend) -> Self {
        Self {
            slot: i16::try_from(slots(backend) - 1).expect("a slot"),
            ..Self::in_database(TestDatabase::migrated(backend).await).await
        }
    }

    /// A store on this database, which may not be migrated. Events are inserted into the first slot.
    pub async fn in_database(database: TestDatabase) -> Self {
        Self {
            store: opened(database.url(), &keys()).await,
            clock: Arc::new(TestClock::at(start())),
            slot: 0,
            worker: WorkerId::draw(start()),
            drawn: AtomicI64::new(0),
            database,
        }
    }

    /// A store on this migrated PostgreSQL database, which it reaches at `url` with these bounds.
    pub async fn behind(database: TestDatabase, url: &str, tuning: PostgresTuning) -> Self {
        let store = PostgresStore::connect_tuned(url, keys(), tuning).await;
        Self {
            store: Arc::new(store.expect("open the database")),
            clock: Arc::new(TestClock::at(start())),
            slot: i16::try_from(slots(Backend::Postgres) - 1).expect("a slot"),
            worker: WorkerId::draw(start()),
            drawn: AtomicI64::new(0),
            database,
        }
    }

    /// The kind of its database.
    pub fn backend(&self) -> Backend {
        self.database.backend()
    }

    /// The same database opened again, as by another process.
    pub async fn another(&self) -> Arc<dyn Store> {
        opened(self.database.url(), &keys()).await
    }

    /// The same database opened with these keys.
    pub async fn with_keys(&self, keys: &KeyRing) -> Arc<dyn Store> {
        opened(self.database.url(), keys).await
    }

    /// A connection for raw SQL.
    pub async fn sql(&self) -> Connection {
        self.database.connect().await
    }

    /// How raw SQL writes an id in every table but the outbox, where it is always text.
    pub fn id(&self, id: Uuid) -> String {
        match self.backend() {
            Backend::Postgres => format!("'{id}'"),
            Backend::Sqlite => format!("x'{}'", id.simple()),
        }
    }

    /// How raw SQL writes bytes.
    pub fn bytes(&self, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self.backend() {
            Backend::Postgres => format!("'\\x{hex}'::bytea"),
            Backend::Sqlite => format!("x'{hex}'"),
        }
    }

    /// The time of the clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the clock.
    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Moves the clock just past the end of every lease taken so far.
    pub fn outlive_leases(&self) {
        self.clock.advance(LEASE + Duration::from_secs(1));
    }

    // ---- hooks

    /// A hook of the account `default` for events that match `pattern`.
    pub async fn hook(&self, pattern: &str) -> HookId {
        self.hook_of("default", pattern).await
    }

    /// A hook of this account.
    pub async fn hook_of(&self, account: &str, pattern: &str) -> HookId {
        self.register(new_hook(account, &[pattern])).await.id
    }

    /// Registers a hook.
    pub async fn register(&self, hook: NewHook) -> HookReport {
        let registered = self.store.create_hook(hook, "test", self.now()).await;
        registered.expect("register the hook")
    }

    /// The hook as it is.
    pub async fn shown(&self, hook: HookId) -> HookReport {
        self.store.hook(hook).await.expect("find the hook")
    }

    // ---- events

    /// Inserts events by bare SQL, in this order, and returns their ids.
    pub async fn insert(&self, events: &[NewEvent]) -> Vec<EventId> {
        let ids: Vec<_> = events.iter().map(|_| self.next_id()).collect();
        self.insert_as(&ids, events).await;
        ids
    }

    /// Inserts events under the given ids.
    pub async fn insert_as(&self, ids: &[EventId], events: &[NewEvent]) {
        let sql = self.insertion(ids, events);
        self.sql().await.run(sql).await;
    }

    /// The statement that inserts these events.
    pub fn insertion(&self, ids: &[EventId], events: &[NewEvent]) -> String {
        let mut sql = String::from(
            "INSERT INTO postrider_outbox (slot, id, account, event_type, payload, ordering_key, \
             dedup_key, deliver_after, occurred_at, headers) VALUES ",
        );
        for (number, (id, event)) in ids.iter().zip(events).enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            let time = |at: Option<Timestamp>| quoted(at.map(|at| at.to_rfc3339()).as_deref());
            write!(
                sql,
                "{separator}({}, '{id}', {}, {}, {}, {}, {}, {}, {}, {})",
                self.slot,
                quoted(Some(&event.account)),
                quoted(Some(&event.event_type)),
                quoted(Some(event.payload.get())),
                quoted(event.ordering_key.as_deref()),
                quoted(event.dedup_key.as_deref()),
                time(event.deliver_after),
                time(event.occurred_at),
                quoted(event.headers.as_deref()),
            )
            .expect("write to a string");
        }
        sql
    }

    /// Inserts `count` events of this type.
    pub async fn insert_many(&self, event_type: &str, count: usize) -> Vec<EventId> {
        self.insert(&vec![event(event_type); count]).await
    }

    /// An id later than all before it.
    pub fn next_id(&self) -> EventId {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        EventId::draw(start() + Duration::from_millis(number.unsigned_abs()))
    }

    // ---- the path of a delivery

    /// A request to fan out everything, with capacity for all of it.
    pub fn request(&self) -> FanOutRequest {
        let now = self.now();
        FanOutRequest {
            slot: self.slot,
            now,
            token: LeaseToken::draw(now),
            until: now + LEASE,
            capacity: Capacity::new(10_000, 10_000),
            max_events: 1_000,
            max_bytes: 64 * 1024 * 1024,
            max_deliveries: 10_000,
            deliver_before: now + RETENTION,
            batches: None,
        }
    }

    /// Fans out; what is due starts.
    pub async fn fan_out(&self) -> FanOutResult {
        let done = self.store.fan_out(self.request()).await;
        done.expect("fan out")
    }

    /// Fans out without capacity, so that nothing starts.
    pub async fn fan_out_without_room(&self) -> FanOutResult {
        let request = FanOutRequest {
            capacity: Capacity::new(0, 0),
            ..self.request()
        };
        self.store.fan_out(request).await.expect("fan out")
    }

    /// `count` deliveries to `hook`, leased since their fan-out. The hook must be the only
    /// one for `work`.
    pub async fn started(&self, hook: HookId, count: usize) -> Vec<HookRequest> {
        self.insert_many("work", count).await;
        let started = self.fan_out().await.started;
        assert_eq!(started.len(), count, "everything starts");
        assert!(started.iter().all(|leased| leased.hook.id == hook));
        started
    }

    /// `count` deliveries to `hook` that are waiting without a lease. The hook must be the only
    /// one for `work`.
    pub async fn waiting(&self, hook: HookId, count: usize) -> Vec<DeliveryId> {
        let events = self.insert_many("work", count).await;
        let done = self.fan_out_without_room().await;
        assert_eq!(done.deliveries as usize, count);
        events
            .into_iter()
            .map(|event| DeliveryId::of(event, hook))
            .collect()
    }

    /// A request to lease everything that is due for these hooks.
    pub fn lease_request(&self, hooks: &[HookId]) -> LeaseRequest {
        let now = self.now();
        LeaseRequest {
            slot: self.slot,
            now,
            token: LeaseToken::draw(now),
            until: now + LEASE,
            worker: self.worker,
            wanted: hooks.iter().map(|hook| (*hook, 1_000)).collect(),
            batches: None,
        }
    }

    /// Asks to own these hooks for ten seconds.
    pub async fn own(&self, worker: WorkerId, hooks: &[HookId]) -> Vec<OwnershipAnswer> {
        let request = OwnershipRequest {
            worker,
            now: self.now(),
            until: self.now() + OWNED,
            hooks: hooks.to_vec(),
        };
        self.store.own_gates(request).await.expect("own gates")
    }

    /// Leases from these hooks whatever is due, as their owner.
    pub async fn lease(&self, hooks: &[HookId]) -> Vec<HookRequest> {
        self.own(self.worker, hooks).await;
        let leased = self.store.lease(self.lease_request(hooks)).await;
        leased.expect("lease")
    }

    /// A settlement of a request sent now.
    pub fn settlement(&self, request: &HookRequest, outcome: Outcome, step: Step) -> Settlement {
        let attempt = || Attempt {
            id: AttemptId::draw(self.now()),
            number: request.attempts + 1,
            at: self.now(),
            duration: Duration::from_millis(20),
            outcome: outcome.clone(),
            response: b"the response".to_vec(),
        };
        Settlement {
            attempts: OneOrMore {
                first: attempt(),
                rest: request.deliveries.rest.iter().map(|_| attempt()).collect(),
            },
            request: request.clone(),
            step,
            policy: policy(),
            keeps_target: false,
        }
    }

    /// The receiver took it.
    pub fn accepted(&self, leased: &HookRequest) -> Settlement {
        let outcome = Outcome::Accepted { status: 200 };
        self.settlement(leased, outcome, Step::Delivered)
    }

    /// The receiver answered 500; the delivery waits for this long.
    pub fn refused(&self, leased: &HookRequest, seconds: u64) -> Settlement {
        let step = Step::Retry(self.now() + Duration::from_secs(seconds));
        self.settlement(leased, refusal(500), step)
    }

    /// Settles.
    pub async fn settle(&self, settlements: &[Settlement]) -> SettleResult {
        let settled = self.store.settle(self.now(), settlements).await;
        settled.expect("settle")
    }

    /// The delivery as it is.
    pub async fn delivery(&self, id: DeliveryId) -> DeliveryReport {
        self.store.delivery(id).await.expect("find the delivery")
    }

    /// The attempts of a delivery.
    pub async fn attempts(&self, id: DeliveryId) -> Vec<AttemptReport> {
        self.store.attempts(id).await.expect("find the attempts")
    }

    /// Makes the database refuse all changes of this table.
    pub async fn forbid_changes_of(&self, table: &str) {
        let mut sql = self.sql().await;
        match self.backend() {
            Backend::Postgres => {
                sql.run(format!(
                    "CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN RAISE EXCEPTION 'nothing was to change here'; END $$; \
                     CREATE TRIGGER forbid BEFORE INSERT OR UPDATE OR DELETE ON {table} \
                     FOR EACH ROW EXECUTE FUNCTION forbid()"
                ))
                .await;
            }
            Backend::Sqlite => {
                for change in ["INSERT", "UPDATE", "DELETE"] {
                    sql.run(format!(
                        "CREATE TRIGGER forbid_{change} BEFORE {change} ON {table} \
                         BEGIN SELECT RAISE(ABORT, 'nothing was to change here'); END"
                    ))
                    .await;
                }
            }
        }
    }

    /// Makes the database refuse rows of this table for which `condition` holds; `NEW.` precedes each
    /// column in it.
    pub async fn refuse(&self, table: &str, condition: &str) {
        self.database.refuse(table, condition).await;
    }
}

async fn opened(url: &str, keys: &KeyRing) -> Arc<dyn Store> {
    let settings = DatabaseSettings { url: url.into() };
    open(&settings, keys.clone())
        .await
        .expect("open the database")
}

fn quoted(text: Option<&str>) -> String {
    text.map_or("NULL".into(), |text| {
        format!("'{}'", text.replace('\'', "''"))
    })
}
