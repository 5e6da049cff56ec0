//! A worker whose connections to PostgreSQL fall silent, or lead to a server that has become
//! read-only: its work goes on by itself, nothing is lost and nothing is sent without end
//! (R01, R02).

use postrider_core::{DeliveryId, EventId, HookId};
use postrider_store::Backend;
use postrider_store::postgres::PostgresTuning;
use postrider_tests::{
    Connection, Loses, Postrider, PrivateServer, Receiver, Relay, TestApp, TestDatabase, TestStore,
    event, eventually, hook_to, value_of,
};
use postrider_worker::{Drained, Shutdown};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

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
    /// A story on this database, which is migrated.
    async fn on(database: TestDatabase) -> Self {
        let receiver = Receiver::accepting().await;
        let relay = Relay::to(database.url()).await;
        let t = TestStore::behind(database, &relay.url(), quick()).await;
        let hook = t.register(hook_to(&receiver.url())).await.id;
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

    /// The worker's calls of the store that failed.
    fn failed_calls(&self) -> f64 {
        let operations = ["peek", "fan_out", "settle", "recover", "upkeep"];
        let failed = operations.map(|operation| {
            let name = format!("postrider_store_errors_total{{operation=\"{operation}\"}}");
            self.app.metric(&name)
        });
        failed.iter().sum()
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

/// Runs the worker of a story beside the rest of it.
fn working(story: &Story) -> (Shutdown, JoinHandle<Drained>) {
    let shutdown = Shutdown::default();
    let (app, until) = (story.app.clone(), shutdown.clone());
    let working = tokio::spawn(async move { app.worker.run(until).await });
    (shutdown, working)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_after_a_silence_in_any_phase() {
    let mut story = Story::on(TestDatabase::migrated(Backend::Postgres).await).await;
    let (shutdown, working) = working(&story);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_after_silences_at_any_moment() {
    let mut story = Story::on(TestDatabase::migrated(Backend::Postgres).await).await;
    let (shutdown, working) = working(&story);
    let rounds = 12;
    for round in 0..rounds {
        let loses = match round % 2 {
            0 => Loses::Request,
            _ => Loses::Answer,
        };
        // Moments that are spread over what a worker does, the same in each run.
        story.relay.freeze_after(round * 37 % 101, loses);
        for _ in 0..20 {
            story.insert().await;
        }
        story.everything_is_delivered().await;
        story.relay.thaw();
    }
    shutdown.drain.cancel();
    working.await.unwrap();
    story.nothing_is_lost_or_endless(rounds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silence_that_passes_is_waited_for() {
    let mut story = Story::on(TestDatabase::migrated(Backend::Postgres).await).await;
    let (shutdown, working) = working(&story);
    story.insert().await;
    story.everything_is_delivered().await;
    let made = story.relay.made();
    story.relay.freeze();
    story.insert().await;
    story.relay.thaw();
    story.everything_is_delivered().await;
    shutdown.drain.cancel();
    working.await.unwrap();
    story.nothing_is_lost_or_endless(0).await;
    assert!(
        story.relay.made() <= made + 20,
        "and no connection is made over and over"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_at_the_new_server_after_a_failover() {
    let server = PrivateServer::start().await;
    let mut story = Story::on(server.database().await).await;
    let (shutdown, working) = working(&story);
    for _ in 0..20 {
        story.insert().await;
    }
    story.everything_is_delivered().await;
    let made = story.relay.made();
    server.demote_open_sessions().await;
    // Until the worker has met the read-only server.
    while story.failed_calls() == 0.0 {
        story.insert().await;
        story.everything_is_delivered().await;
    }
    for _ in 0..20 {
        story.insert().await;
    }
    story.everything_is_delivered().await;
    assert!(story.relay.made() > made, "new connections are made");
    shutdown.drain.cancel();
    working.await.unwrap();
    story.nothing_is_lost_or_endless(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_says_what_it_waits_for_and_is_alive() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let relay = Relay::to(database.url()).await;
    let seen = TestDatabase::elsewhere(&relay.url());
    let worker = Postrider::on(&seen).serve_as("worker").await;
    relay.freeze_at("-- postrider: peek", Loses::Answer);
    eventually(async || match worker.get("/readyz").await {
        (503, why) if why.contains("has been waiting for the database for") => {
            match why.contains("(peek)") {
                true => Ok(()),
                false => Err(why),
            }
        }
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(worker.get("/livez").await.0, 200, "nobody is to restart it");
    let metrics = worker.get("/metrics").await.1;
    for waits in [
        "postrider_store_call_age_seconds{operation=\"peek\"}",
        "postrider_db_call_age_seconds{pool=\"hot\"}",
    ] {
        assert!(value_of(&metrics, waits) > 5.0, "{waits}");
    }
    relay.thaw();
    eventually(async || match worker.get("/readyz").await {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
