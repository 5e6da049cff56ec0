//! Workers and applications share one database: nothing waits forever, nothing is lost, and without
//! a crash nothing arrives twice.

use postrider_core::EventId;
use postrider_store::Backend;
use postrider_tests::{Postrider, Receiver, TestApp, event};
use std::collections::BTreeMap;

#[tokio::test]
async fn on_postgres_workers_share_the_work_and_nothing_comes_twice() {
    let app = TestApp::on(Backend::Postgres).await;
    let receivers = [
        Receiver::accepting().await,
        Receiver::answering([503, 200, 503, 503, 200]).await,
        Receiver::accepting().await,
    ];
    for receiver in &receivers {
        app.hook(receiver).await;
    }
    let postrider = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__PER_HOOK", "4")
        .with("POSTRIDER_HOOKS__RETRY_SCHEDULE", "10ms,10ms,10ms,10ms");
    let workers = [postrider.serve().await, postrider.serve().await];
    let mut events = Vec::new();
    for _ in 0..20 {
        events.extend(app.enqueue_all(&vec![event("invoice.paid"); 50]).await);
    }
    app.wait_until_nothing_is_left().await;
    assert_eq!(receivers[0].arrivals(), once(&events));
    assert_eq!(receivers[2].arrivals(), once(&events));
    assert_eq!(receivers[1].arrivals().len(), events.len());
    assert_eq!(receivers[1].count(), events.len() + 3, "what failed, again");
    for mut worker in workers {
        worker.terminate().await;
        assert!(worker.ended().await.success());
        let log = worker.stderr().join("\n");
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{worker}");
    }
}

#[tokio::test]
async fn on_sqlite_an_application_that_keeps_the_file_to_itself_delays_and_loses_nothing() {
    let app = TestApp::on(Backend::Sqlite).await;
    let receiver = Receiver::accepting().await;
    receiver.hold();
    app.hook(&receiver).await;
    let postrider = Postrider::on(&app.database);
    let _worker = postrider.serve().await;
    let mut events = app.enqueue_all(&vec![event("invoice.paid"); 10]).await;
    receiver.wait_for(10).await;

    // The worker has ten attempts to record, and cannot before the application is done.
    let mut application = app.sql().await;
    application.run("BEGIN IMMEDIATE").await;
    receiver.release();
    receiver.wait_for_answers(10).await;
    let insert = "INSERT INTO postrider_outbox (event_type, payload) \
                  VALUES ('invoice.paid', '{}') RETURNING id";
    let id = application.text(insert).await;
    assert_eq!(app.left().await, 10, "nothing is settled");
    application.run("COMMIT").await;

    events.push(id.parse().expect("an id"));
    app.wait_until_nothing_is_left().await;
    assert_eq!(receiver.arrivals(), once(&events));
}

fn once(events: &[EventId]) -> BTreeMap<String, usize> {
    events.iter().map(|event| (event.to_string(), 1)).collect()
}
