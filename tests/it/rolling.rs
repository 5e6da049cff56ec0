//! Workers are replaced one by one under load: nothing is cut, and nothing comes twice.

use postrider_store::Backend;
use postrider_tests::{Answer, Postrider, Receiver, TestApp, event};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[tokio::test]
async fn on_postgres_four_workers_are_replaced_one_by_one_under_load() {
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
    let load = tokio::spawn({
        let (app, stop, receiver) = (app.clone(), stop.clone(), receiver.clone());
        async move {
            let mut sent = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                let ids = app.enqueue_all(&vec![event("invoice.paid"); 50]).await;
                sent.extend(ids.iter().map(ToString::to_string));
                // Always some ahead of the receiver, never a backlog that only grows.
                receiver.wait_for(sent.len().saturating_sub(200)).await;
            }
            sent
        }
    });
    for worker in &mut workers {
        receiver.wait_for(receiver.count() + 100).await;
        worker.terminate().await;
        let status = worker.ended().await;
        assert!(status.success(), "a worker was cut: {status}");
        *worker = postrider.serve().await;
    }
    receiver.wait_for(receiver.count() + 100).await;
    stop.store(true, Ordering::Relaxed);
    let sent = load.await.expect("the load");

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
}
