//! A worker whose connections to PostgreSQL fall silent, or lead to a server that has become
//! read-only: its work goes on by itself, nothing is lost and nothing is sent without end.

use postrider_core::{DeliveryId, EventId, HookId};
use postrider_store::Backend;
use postrider_store::postgres::PostgresTuning;
use postrider_tests::{
    Connection, Loses, Receiver, Relay, TestApp, TestStore, event, eventually, hook_to,
};
use postrider_worker::Shutdown;
use std::sync::Arc;
use std::time::Duration;

/// What a worker may be doing when its connections fall silent: a statement of each phase.
const PHASES: [&str; 9] = [
    "peek",
    "fan_out",
    "lease",
    "lease_events",
    "settle_fresh",
    "settle_rows",
    "recover_find",
    "due_hooks",
    "gauges",
];

/// Bounds that a test can wait for.
fn quick() -> PostgresTuning {
    PostgresTuning {
        hot_statement: Duration::from_millis(800),
        calm_statement: Duration::from_millis(800),
        margin: Duration::from_millis(100),
        test: Duration::from_millis(200),
        ..PostgresTuning::default()
    }
}

/// A worker behind a relay, and a receiver with a hook.
struct Story {
    app: Arc<TestApp>,
    relay: Relay,
    receiver: Receiver,
    hook: HookId,
    /// A connection that does not go through the relay.
    sql: Connection,
    events: Vec<EventId>,
}

impl Story {
    async fn begin() -> Self {
        let t = TestStore::on(Backend::Postgres).await;
        let receiver = Receiver::accepting().await;
        let hook = t.register(hook_to(&receiver.url())).await.id;
        let relay = Relay::to(t.database.url()).await;
        let t = TestStore::behind(t.database, &relay.url(), quick()).await;
        let sql = t.sql().await;
        Self {
            app: Arc::new(TestApp::on_store(t)),
            relay,
            receiver,
            hook,
            sql,
            events: Vec::new(),
        }
    }

    /// Inserts an event, not through the relay.
    async fn insert(&mut self) {
        self.events.extend(self.app.insert(&[event("work")]).await);
    }

    /// Waits until everything is delivered and recorded. The clock runs fast, so that leases that
    /// were lost expire.
    async fn everything_is_delivered(&mut self) {
        let (app, sql, count) = (&self.app, &mut self.sql, self.events.len());
        let undelivered = format!(
            "SELECT {count} - count(DISTINCT event_id) FROM postrider_attempts \
             WHERE outcome = 'accepted'"
        );
        eventually(async || {
            app.clock.advance(Duration::from_millis(500));
            match sql.number(&undelivered).await {
                0 => Ok(()),
                count => Err(format!("{count} are not delivered")),
            }
        })
        .await;
    }

    /// Each event arrived, and none more often than connections were lost.
    async fn nothing_is_lost_or_endless(&mut self, silences: usize) {
        let came = self.receiver.arrivals();
        for event in &self.events {
            let times = came.get(&event.to_string()).copied().unwrap_or(0);
            assert!(times >= 1, "{event} never came");
            assert!(times <= 1 + silences, "{event} came {times} times");
        }
        let delivery = DeliveryId::of(self.events[0], self.hook);
        assert!(!self.app.store.attempts(delivery).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_after_a_silence_in_any_phase() {
    let mut story = Story::begin().await;
    let shutdown = Shutdown::default();
    let app = story.app.clone();
    let working = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { app.worker.run(shutdown).await }
    });
    for phase in PHASES {
        for loses in [Loses::Request, Loses::Answer] {
            let statement = format!("-- postrider: {phase}\n");
            story.relay.freeze_at(&statement, loses);
            // A delivery that waits is leased; one that starts at once is not.
            story.receiver.answer([503, 200]);
            story.insert().await;
            story.everything_is_delivered().await;
            story.relay.thaw();
        }
    }
    shutdown.drain.cancel();
    working.await.unwrap();
    story.nothing_is_lost_or_endless(2).await;
}
