//! Local faults, which keep this process from making requests, do not count against hooks.

use postrider_store::{Backend, DeliveryState};
use postrider_tests::{Postrider, Receiver, TestApp, eventually, hook_to, on_both, value_of};

on_both!(
    a_process_without_file_descriptors_blames_no_hook,
    the_limit_of_open_files_is_raised_and_told_when_it_is_too_low,
);

async fn a_process_without_file_descriptors_blames_no_hook(backend: Backend) {
    let app = TestApp::on(backend).await;
    let (first, receiver) = (Receiver::accepting().await, Receiver::accepting().await);
    let register = async |url: String, pattern: &str| {
        let mut hook = hook_to(&url);
        hook.events = vec![pattern.parse().expect("a pattern")];
        app.register(hook).await.id
    };
    register(first.url(), "worker.started").await;
    let by_address = register(receiver.url(), "invoice.paid").await;
    let port = receiver.address().port();
    let by_name = register(format!("http://localhost:{port}/"), "invoice.paid").await;
    let worker = Postrider::on(&app.database).serve().await;
    // A whole delivery opens every connection to the database that is needed.
    app.enqueue("worker.started").await;
    first.wait_for(1).await;
    app.wait_until_nothing_is_left().await;

    // What is open stays open.
    worker.limit_open_files(4).await;
    let event = app.enqueue("invoice.paid").await;
    worker.wait_for_log("no file descriptor is left").await;
    for hook in [by_address, by_name] {
        assert_eq!(app.attempts(event, hook).await.len(), 0);
        assert_eq!(app.shown(hook).await.fail_count, 0);
    }
    assert_eq!(receiver.connections(), 0);

    worker.limit_open_files(1024).await;
    receiver.wait_for(2).await;
    for hook in [by_address, by_name] {
        eventually(async || match app.delivery(event, hook).await.state {
            DeliveryState::Delivered => Ok(()),
            state => Err(format!("the delivery is {state:?}")),
        })
        .await;
        let attempts = app.attempts(event, hook).await;
        let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, [1], "{attempts:?}");
        assert_eq!(app.shown(hook).await.fail_count, 0);
    }
    let (_, metrics) = worker.get("/metrics").await;
    let counted = value_of(&metrics, "postrider_own_faults_total{kind=\"descriptors\"}");
    assert!(counted >= 1.0, "{counted}");
    let told = worker.stderr();
    let told = told
        .iter()
        .filter(|line| line.contains("no file descriptor"));
    assert_eq!(told.count(), 1, "once a minute");
}

async fn the_limit_of_open_files_is_raised_and_told_when_it_is_too_low(backend: Backend) {
    let app = TestApp::on(backend).await;
    let limited = |hard| Postrider::on(&app.database).limited_to_files(100, hard);
    for (hard, is_told) in [(300, true), (2_000, false)] {
        let worker = limited(hard).serve().await;
        let (_, metrics) = worker.get("/metrics").await;
        assert_eq!(value_of(&metrics, "process_max_fds"), f64::from(hard));
        worker.terminate().await;
        let mut worker = worker;
        worker.ended().await;
        let told = worker.stderr();
        let told = told
            .iter()
            .any(|line| line.contains("The limit of open files is 300"));
        assert_eq!(told, is_told, "{worker}");
    }
}
