//! A store and a worker in this process, with a clock that only the test moves.

use crate::fixtures::{RETENTION, event, hook_defaults, hook_to};
use crate::{Receiver, TestStore, eventually};
use postrider_core::{DeliveryId, EventId, HookId, NewEvent, SystemMonotonicClock};
use postrider_store::{AttemptReport, Backend, DeliveryFilter, DeliveryReport, DeliveryState};
use postrider_worker::{AttemptTraces, HookDefaults, Metrics, Worker, WorkerParts, WorkerSettings};
use std::ops::Deref;
use std::sync::Arc;

const LEFT: &str = "SELECT (SELECT count(*) FROM postrider_outbox) \
                    + (SELECT count(*) FROM postrider_deliveries)
                    + (SELECT coalesce(sum(open), 0) FROM postrider_leases)";

/// Counts the deliveries that are leased.
pub const LEASED: &str = "SELECT (SELECT count(*) FROM postrider_deliveries WHERE lease_token IS NOT NULL) \
                          + (SELECT coalesce(sum(open), 0) FROM postrider_leases)";

/// A worker on a [`TestStore`], whose clock and steps it shares.
pub struct TestApp {
    /// The worker.
    pub worker: Worker,
    /// The worker's metrics.
    pub metrics: Arc<Metrics>,
    /// Last, so that its database is dropped last.
    base: TestStore,
}

impl Deref for TestApp {
    type Target = TestStore;

    fn deref(&self) -> &TestStore {
        &self.base
    }
}

impl TestApp {
    /// With the default configuration, and permission to call this machine.
    pub async fn on(backend: Backend) -> Self {
        Self::with_hooks(backend, hook_defaults()).await
    }

    /// As [`TestApp::on`], with these defaults for hooks.
    pub async fn with_hooks(backend: Backend, hooks: HookDefaults) -> Self {
        Self::with(backend, hooks, local()).await
    }

    /// With these defaults for hooks and these settings of the worker.
    pub async fn with(backend: Backend, hooks: HookDefaults, settings: WorkerSettings) -> Self {
        Self::made(backend, hooks, settings, None).await
    }

    /// As [`TestApp::on`], with traces of attempts.
    pub async fn traced(backend: Backend, traces: Arc<dyn AttemptTraces>) -> Self {
        Self::made(backend, hook_defaults(), local(), Some(traces)).await
    }

    async fn made(
        backend: Backend,
        hooks: HookDefaults,
        settings: WorkerSettings,
        traces: Option<Arc<dyn AttemptTraces>>,
    ) -> Self {
        Self::made_on(TestStore::on(backend).await, hooks, settings, traces)
    }

    /// As [`TestApp::on`], on this store.
    pub fn on_store(base: TestStore) -> Self {
        Self::made_on(base, hook_defaults(), local(), None)
    }

    fn made_on(
        base: TestStore,
        hooks: HookDefaults,
        settings: WorkerSettings,
        traces: Option<Arc<dyn AttemptTraces>>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        settings.check().expect("settings that can be used");
        hooks.check().expect("settings that can be used");
        let worker = Worker::new(WorkerParts {
            store: base.store.clone(),
            clock: base.clock.clone(),
            monotonic: Arc::new(SystemMonotonicClock),
            settings,
            hooks,
            keep_events: RETENTION,
            metrics: metrics.clone(),
            traces,
        });
        Self {
            worker: worker.expect("make a worker"),
            metrics,
            base,
        }
    }

    /// A hook of the account `default` for every event.
    pub async fn hook(&self, receiver: &Receiver) -> HookId {
        self.register(hook_to(&receiver.url())).await.id
    }

    /// Inserts an event of this type.
    pub async fn enqueue(&self, event_type: &str) -> EventId {
        self.enqueue_all(&[event(event_type)]).await[0]
    }

    /// Inserts events.
    pub async fn enqueue_all(&self, events: &[NewEvent]) -> Vec<EventId> {
        self.store.enqueue(events).await.expect("insert events")
    }

    /// Runs the worker until nothing is due any more.
    pub async fn tick(&self) {
        // One tick does at most as much as fits its slots.
        while self.worker.tick().await.expect("do what there is to do") > 0 {}
    }

    /// The delivery of an event to a hook.
    pub async fn delivery(&self, event: EventId, hook: HookId) -> DeliveryReport {
        self.base.delivery(DeliveryId::of(event, hook)).await
    }

    /// The attempts to deliver an event to a hook.
    pub async fn attempts(&self, event: EventId, hook: HookId) -> Vec<AttemptReport> {
        self.base.attempts(DeliveryId::of(event, hook)).await
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

    /// The number of events in the outbox plus that of deliveries that have not ended.
    pub async fn left(&self) -> i64 {
        self.sql().await.number(LEFT).await
    }

    /// Waits until no event and no delivery is left.
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
}

/// The default settings, with permission to call this machine.
fn local() -> WorkerSettings {
    let allow_addresses = ["127.0.0.0/8", "::1/128"].map(|range| range.parse());
    WorkerSettings {
        allow_addresses: allow_addresses.map(|range| range.expect("a range")).into(),
        ..WorkerSettings::default()
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
