//! Workers are replaced one by one under load: no request is cut off, and nothing arrives twice.

use postrider_store::Backend;
use postrider_tests::{Answer, Postrider, Process, Receiver, TestApp, event};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Events a second: with this a fixed rate is kept for 10 s around each restart, and how long
/// deliveries took is judged. Without it events are inserted as fast as they arrive, and it is not.
const RATE: &str = "POSTRIDER_TEST_ROLLING_RATE";

/// The longest that 99 of 100 deliveries may take.
const P99: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_four_workers_are_replaced_one_by_one_under_load() {
    let rate = std::env::var(RATE)
        .ok()
        .map(|text| text.parse().expect("a number"));
    let app = Arc::new(TestApp::on(Backend::Postgres).await);
    // Slow enough that something is always in flight.
    let answer = Answer::from(200).after(Duration::from_millis(30));
    let receiver = Arc::new(Receiver::answering([answer]).await);
    app.hook(&receiver).await;
    let postrider = Postrider::on(&app.database);
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(postrider.serve().await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(app.clone(), receiver.clone(), stop.clone(), rate));
    let between = rate.map_or(100, |rate| rate * 10);
    for worker in &mut workers {
        receiver.wait_for(receiver.count() + between).await;
        worker.terminate().await;
        let status = worker.ended().await;
        assert!(status.success(), "a worker was cut: {status}");
        assert_eq!(troubles(worker), Vec::<String>::new());
        *worker = postrider.serve().await;
    }
    receiver.wait_for(receiver.count() + between).await;
    stop.store(true, Ordering::Relaxed);
    let inserted = load.await.expect("the load");
    let sent: BTreeSet<_> = inserted.keys().cloned().collect();

    receiver.wait_for_events(&sent).await;
    app.wait_until_nothing_is_left().await;
    assert!(receiver.cut().is_empty(), "no attempt was cut");
    let arrivals = receiver.arrivals();
    let twice: Vec<_> = arrivals.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let mut sql = app.sql().await;
    let attempts = "SELECT count(*) FROM postrider_attempts WHERE NOT late AND number = 1";
    assert_eq!(sql.number(attempts).await, sent.len() as i64);
    let all = "SELECT count(*) FROM postrider_attempts";
    assert_eq!(sql.number(all).await, sent.len() as i64);
    if rate.is_some() {
        let waits = waits(&receiver, &inserted);
        let part = |percent: usize| waits[(waits.len() * percent).div_ceil(100) - 1];
        eprintln!(
            "{} deliveries: p50 {:?}, p99 {:?}, at most {:?}",
            waits.len(),
            part(50),
            part(99),
            part(100)
        );
        assert!(part(99) < P99, "p99 is {:?}", part(99));
    }
}

/// Inserts until it is told to stop, at a rate or always some ahead of the receiver. Returns
/// when each event was committed.
async fn load(
    app: Arc<TestApp>,
    receiver: Arc<Receiver>,
    stop: Arc<AtomicBool>,
    rate: Option<usize>,
) -> BTreeMap<String, Instant> {
    let (mut inserted, began) = (BTreeMap::new(), Instant::now());
    let rows = rate.map_or(50, |rate| (rate / 20).max(1));
    while !stop.load(Ordering::Relaxed) {
        if let Some(rate) = rate {
            // However late the one before was: a rate does not give way.
            let due = Duration::from_secs_f64(inserted.len() as f64 / rate as f64);
            tokio::time::sleep_until((began + due).into()).await;
        }
        let ids = app.enqueue_all(&vec![event("invoice.paid"); rows]).await;
        let at = Instant::now();
        inserted.extend(ids.iter().map(|id| (id.to_string(), at)));
        if rate.is_none() {
            // Never a backlog that only grows.
            receiver.wait_for(inserted.len().saturating_sub(200)).await;
        }
    }
    inserted
}

/// How long deliveries took from their commit to their arrival, sorted.
fn waits(receiver: &Receiver, inserted: &BTreeMap<String, Instant>) -> Vec<Duration> {
    let requests = receiver.requests();
    let waits = requests
        .iter()
        .map(|request| request.at.saturating_duration_since(inserted[request.id()]));
    let mut waits: Vec<_> = waits.collect();
    waits.sort();
    waits
}

/// What a worker complained about.
fn troubles(worker: &Process) -> Vec<String> {
    let mut lines = worker.stderr();
    lines.retain(|line| line.contains("ERROR") || line.contains("WARN"));
    lines
}
