//! A store and a worker in this process, with a clock that stands still until it is moved.

use crate::{Connection, Receiver, TestDatabase, eventually, start};
use postrider_core::{
    Clock, DeliveryId, EventId, HookCredentials, HookId, HookSettings, KeyRing, NewEvent, NewHook,
    SigningSecret, SystemMonotonicClock, TestClock, Timestamp,
};
use postrider_store::{
    AttemptReport, Backend, DatabaseSettings, DeliveryFilter, DeliveryReport, DeliveryState,
    HookReport, Store, open,
};
use postrider_worker::{AttemptTraces, HookDefaults, Metrics, Worker, WorkerParts, WorkerSettings};
use std::sync::Arc;
use std::time::Duration;

/// The key that seals the secrets of a test, in this process and in those it starts.
pub const KEY: &str = "cG9zdHJpZGVyIHRlc3RzOiAzMiBieXRlcyBvZiBrZXk=";

/// How long the events of a test are kept.
const KEEP_EVENTS: Duration = Duration::from_secs(30 * 24 * 3600);

const LEFT: &str = "SELECT (SELECT count(*) FROM postrider_outbox) \
                    + (SELECT count(*) FROM postrider_deliveries)
                    + (SELECT coalesce(sum(open), 0) FROM postrider_leases)";

/// How many deliveries are leased.
pub const LEASED: &str = "SELECT (SELECT count(*) FROM postrider_deliveries WHERE lease_token IS NOT NULL) \
                          + (SELECT coalesce(sum(open), 0) FROM postrider_leases)";

/// A store, a worker and a clock of their own.
pub struct TestApp {
    /// The worker.
    pub worker: Worker,
    /// The store.
    pub store: Arc<dyn Store>,
    /// What the worker goes by.
    pub clock: Arc<TestClock>,
    /// What the worker counts.
    pub metrics: Arc<Metrics>,
    /// Last, so that it goes last.
    pub database: TestDatabase,
}

impl TestApp {
    /// With the default configuration, and leave to call this machine.
    pub async fn on(backend: Backend) -> Self {
        Self::with_hooks(backend, HookDefaults::default()).await
    }

    /// The same with these defaults for hooks.
    pub async fn with_hooks(backend: Backend, hooks: HookDefaults) -> Self {
        Self::with(backend, hooks, local()).await
    }

    /// The same with these settings of the worker.
    pub async fn with(backend: Backend, hooks: HookDefaults, settings: WorkerSettings) -> Self {
        Self::made(backend, hooks, settings, None).await
    }

    /// With the default configuration, leave to call this machine, and traces.
    pub async fn traced(backend: Backend, traces: Arc<dyn AttemptTraces>) -> Self {
        Self::made(backend, HookDefaults::default(), local(), Some(traces)).await
    }

    async fn made(
        backend: Backend,
        hooks: HookDefaults,
        settings: WorkerSettings,
        traces: Option<Arc<dyn AttemptTraces>>,
    ) -> Self {
        let database = TestDatabase::migrated(backend).await;
        let url = database.url().to_owned();
        let keys = KeyRing::new([KEY]).expect("a key");
        let store = open(&DatabaseSettings { url }, keys).await.expect("open");
        let clock = Arc::new(TestClock::at(start()));
        let metrics = Arc::new(Metrics::new());
        settings.check().expect("settings that can be used");
        hooks.check().expect("settings that can be used");
        let worker = Worker::new(WorkerParts {
            store: store.clone(),
            clock: clock.clone(),
            monotonic: Arc::new(SystemMonotonicClock),
            settings,
            hooks,
            keep_events: KEEP_EVENTS,
            metrics: metrics.clone(),
            traces,
        });
        Self {
            worker: worker.expect("make a worker"),
            store,
            clock,
            metrics,
            database,
        }
    }

    /// A hook of the account `default` for every event.
    pub async fn hook(&self, receiver: &Receiver) -> HookId {
        self.register(hook_to(&receiver.url())).await.id
    }

    /// Registers a hook.
    pub async fn register(&self, hook: NewHook) -> HookReport {
        let registered = self.store.create_hook(hook, "test", self.now()).await;
        registered.expect("register the hook")
    }

    /// Inserts an event of this type.
    pub async fn enqueue(&self, event_type: &str) -> EventId {
        self.enqueue_all(&[crate::event(event_type)]).await[0]
    }

    /// Inserts events.
    pub async fn enqueue_all(&self, events: &[NewEvent]) -> Vec<EventId> {
        self.store.enqueue(events).await.expect("insert events")
    }

    /// Does everything there is to do now; what is not due waits.
    pub async fn tick(&self) {
        // What did not fit beside the rest is left to the next.
        while self.worker.tick().await.expect("do what there is to do") > 0 {}
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the clock.
    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The hook as it is.
    pub async fn shown(&self, hook: HookId) -> HookReport {
        self.store.hook(hook).await.expect("find the hook")
    }

    /// The delivery of an event to a hook.
    pub async fn delivery(&self, event: EventId, hook: HookId) -> DeliveryReport {
        let id = DeliveryId::of(event, hook);
        self.store.delivery(id).await.expect("find the delivery")
    }

    /// The attempts to deliver an event to a hook.
    pub async fn attempts(&self, event: EventId, hook: HookId) -> Vec<AttemptReport> {
        let id = DeliveryId::of(event, hook);
        self.store.attempts(id).await.expect("find the attempts")
    }

    /// How many deliveries to a hook are in this state, up to 1,000.
    pub async fn count(&self, hook: HookId, state: DeliveryState) -> usize {
        let filter = DeliveryFilter {
            hook: Some(hook),
            state: Some(state),
            limit: 1_000,
            ..DeliveryFilter::default()
        };
        let found = self.store.deliveries(filter).await;
        found.expect("list deliveries").len()
    }

    /// How many events wait in the outbox and deliveries have not ended.
    pub async fn left(&self) -> i64 {
        self.sql().await.number(LEFT).await
    }

    /// Waits until none is left.
    pub async fn wait_until_nothing_is_left(&self) {
        let mut sql = self.sql().await;
        eventually(async || match sql.number(LEFT).await {
            0 => Ok(()),
            left => Err(format!("{left} events and deliveries are left")),
        })
        .await;
    }

    /// The value of a metric, by its name with labels.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn metric(&self, name: &str) -> f64 {
        value_of(&self.metrics.encode(), name)
    }

    /// A connection for raw SQL.
    pub async fn sql(&self) -> Connection {
        self.database.connect().await
    }
}

/// The default settings, with leave to call this machine.
fn local() -> WorkerSettings {
    let allow_addresses = ["127.0.0.0/8", "::1/128"].map(|range| range.parse());
    WorkerSettings {
        allow_addresses: allow_addresses.map(|range| range.expect("a range")).into(),
        ..WorkerSettings::default()
    }
}

/// A hook of the account `default` for every event.
pub fn hook_to(url: &str) -> NewHook {
    NewHook {
        alias: None,
        account: "default".into(),
        url: url.into(),
        events: vec!["*".parse().expect("a pattern")],
        profile: "standard".into(),
        settings: HookSettings::default(),
        credentials: HookCredentials::signed_with(SigningSecret::generate()),
        at_most: None,
    }
}

/// The value of a metric in the text that Prometheus reads.
///
/// # Panics
/// When there is none of that name.
pub fn value_of(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no metric {name} in\n{metrics}"))
}
