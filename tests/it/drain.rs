//! A worker that is stopped finishes what it has started and leaves the rest to others.

use postrider_store::Backend;
use postrider_tests::{LEASED, Postrider, Receiver, TestApp, event, eventually, on_both};

on_both!(
    a_worker_told_to_end_cuts_nothing_off_and_leaves_the_rest_at_once,
    a_worker_told_to_end_twice_ends_at_once_and_loses_nothing,
    a_worker_whose_log_nobody_reads_delivers_and_ends,
);

async fn a_worker_told_to_end_cuts_nothing_off_and_leaves_the_rest_at_once(backend: Backend) {
    let app = TestApp::on(backend).await;
    let mut sql = app.sql().await;
    let receiver = Receiver::accepting().await;
    receiver.hold();
    app.hook(&receiver).await;
    let postrider = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__CONCURRENCY", "256")
        .with("POSTRIDER_WORKER__PER_HOOK", "200")
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "100s")
        .with("POSTRIDER_WORKER__LEASE", "300s");
    let mut worker = postrider.serve().await;
    app.enqueue_all(&vec![event("invoice.paid"); 500]).await;
    receiver.wait_for(200).await;
    eventually(async || match sql.number(LEASED).await {
        leased if leased > 200 => Ok(()),
        leased => Err(format!("{leased} leases: nothing waits for its turn")),
    })
    .await;

    worker.terminate().await;
    // What was not begun is anybody's again while the rest is still under way.
    eventually(async || match sql.number(LEASED).await {
        200 => Ok(()),
        leased => Err(format!("{leased} leases instead of 200")),
    })
    .await;
    assert!(worker.is_running());
    assert_eq!((receiver.count(), receiver.cut()), (200, Vec::new()));

    receiver.release();
    let status = worker.ended().await;
    assert!(status.success(), "{status} of {worker}");
    assert_eq!((receiver.count(), receiver.cut()), (200, Vec::new()));
    assert_eq!(sql.number(LEASED).await, 0);
    assert_eq!(app.left().await, 300);

    let _next = postrider.serve().await;
    receiver.wait_for_answers(500).await;
    app.wait_until_nothing_is_left().await;
    let arrivals = receiver.arrivals();
    assert_eq!((arrivals.len(), receiver.count()), (500, 500));
}

async fn a_worker_told_to_end_twice_ends_at_once_and_loses_nothing(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    receiver.hold();
    app.hook(&receiver).await;
    let postrider = Postrider::on(&app.database)
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "100s")
        .with("POSTRIDER_WORKER__LEASE", "300s");
    let mut worker = postrider.serve().await;
    app.enqueue_all(&vec![event("invoice.paid"); 10]).await;
    receiver.wait_for(10).await;
    worker.terminate().await;
    // The second signal must find the first one taken.
    worker.wait_for_log("Draining").await;
    worker.terminate().await;
    let status = worker.ended().await;
    assert_eq!(status.code(), Some(1), "work was cut: {worker}");
    assert_eq!(app.left().await, 10);
}

async fn a_worker_whose_log_nobody_reads_delivers_and_ends(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    app.hook(&receiver).await;
    let postrider = Postrider::on(&app.database).with("RUST_LOG", "debug");
    let mut worker = postrider.serve().await;
    worker.read_no_more().await;
    app.enqueue_all(&[event("invoice.paid")]).await;
    receiver.wait_for_answers(1).await;
    worker.terminate().await;
    let status = worker.ended().await;
    assert!(status.success(), "{status}");
}
