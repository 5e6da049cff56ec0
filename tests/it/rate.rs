//! The limits of a hook apply to all workers together.

use postrider_core::HookSettings;
use postrider_store::Backend;
use postrider_tests::{Answer, Postrider, Process, Receiver, TestApp, event, hook_to, on_both};
use serde_json::json;
use std::time::Duration;

on_both!(
    limits_are_set_by_the_command_line_and_shown,
    a_hook_with_a_rate_keeps_no_other_waiting,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_three_workers_keep_a_rate_together() {
    const WINDOW: usize = 30;
    const RATE: usize = 20;
    let app = TestApp::on(Backend::Postgres).await;
    let receiver = Receiver::accepting().await;
    limited(&app, &receiver, |settings| {
        settings.rate = "20/s".parse().ok()
    })
    .await;
    app.enqueue_all(&vec![event("invoice.paid"); 700]).await;
    let _workers = three_workers(&app).await;
    receiver.wait_for(RATE * WINDOW + 1).await;
    let requests = receiver.requests();
    let took = (requests[RATE * WINDOW].at - requests[0].at).as_secs_f64();
    let rate = (RATE * WINDOW) as f64 / took;
    assert!((18.0..=22.0).contains(&rate), "{rate:.1} requests a second");
    // Nor is any single second far from it, but for the burst that a pause allows.
    for request in &requests {
        let second = request.at..request.at + Duration::from_secs(1);
        let count = requests.iter().filter(|r| second.contains(&r.at)).count();
        assert!(count <= 2 * RATE + 2, "{count} requests in a second");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_three_workers_keep_a_cap_together() {
    let app = TestApp::on(Backend::Postgres).await;
    let receiver = Receiver::answering([Answer::from(200).after(Duration::from_millis(5))]).await;
    limited(&app, &receiver, |settings| settings.in_flight = Some(8)).await;
    let _workers = three_workers(&app).await;
    for _ in 0..10 {
        app.enqueue_all(&vec![event("invoice.paid"); 200]).await;
    }
    app.wait_until_nothing_is_left().await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2_000, "each once");
    let most = requests.iter().map(|request| request.at_once).max();
    assert_eq!(most, Some(8));
}

async fn limits_are_set_by_the_command_line_and_shown(backend: Backend) {
    let app = TestApp::on(backend).await;
    let postrider = Postrider::on(&app.database);
    let url = "https://receiver.example/hook";
    let add = ["hook", "add", "--url", url, "--event", "*"];
    let limits = [
        "--in-flight",
        "8",
        "--rate",
        "20/s",
        "--back-off-after",
        "3",
    ];
    let disable = ["--disable-after-failures", "9", "--disable-after", "1h"];
    let added = postrider
        .json(&[&add[..], &limits, &disable].concat())
        .await;
    let id = added["id"].as_str().unwrap();
    let shown = postrider.json(&["hook", "show", id]).await;
    assert_eq!(
        (&shown["in_flight"], &shown["rate"]),
        (&json!(8), &json!("20/s"))
    );
    assert_eq!(
        (&shown["phase"], &shown["not_before"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(shown["settings"]["back_off_after"], 3);
    assert_eq!(shown["settings"]["disable_after_failures"], 9);
    assert_eq!(shown["settings"]["disable_after"], "1h");

    let change = ["hook", "change", id, "--rate", "none", "--in-flight", "4"];
    let filter = ["--filter", "amount >= 100"];
    let changed = postrider.json(&[&change[..], &filter].concat()).await;
    assert_eq!(changed["filter"], "amount >= 100", "both in one change");
    assert_eq!(
        (&changed["in_flight"], &changed["rate"]),
        (&json!(4), &json!(null))
    );
    assert_eq!(changed["settings"]["back_off_after"], 3, "it was not named");
    let shown = postrider.run(&["hook", "show", id]).await.succeeded();
    assert_eq!(shown.field("in_flight"), "4");

    for (wrong, problem) in [
        (&["--rate", "fast"][..], "20/s"),
        (&["--rate", "0/s"], "20/s"),
        (&["--in-flight", "0"], "must be at least 1"),
        (&[], "nothing to change"),
    ] {
        let arguments = [&["hook", "change", id][..], wrong].concat();
        let said = postrider.run(&arguments).await.refused();
        assert!(said.contains(problem), "{said}");
    }
}

async fn a_hook_with_a_rate_keeps_no_other_waiting(backend: Backend) {
    let app = TestApp::on(backend).await;
    let (slow, quick) = (Receiver::accepting().await, Receiver::accepting().await);
    limited(&app, &slow, |settings| settings.rate = "2/s".parse().ok()).await;
    app.hook(&quick).await;
    app.enqueue_all(&vec![event("invoice.paid"); 300]).await;
    app.tick().await;
    assert_eq!((slow.count(), quick.count()), (1, 300));
    app.clock.advance(Duration::from_millis(500));
    app.tick().await;
    assert_eq!(slow.count(), 2);
    app.clock.advance(Duration::from_secs(60));
    app.tick().await;
    assert_eq!(
        slow.count(),
        4,
        "no more than a second's worth after a pause"
    );
}

async fn limited(app: &TestApp, receiver: &Receiver, set: impl FnOnce(&mut HookSettings)) {
    let mut hook = hook_to(&receiver.url());
    set(&mut hook.settings);
    app.register(hook).await;
}

async fn three_workers(app: &TestApp) -> [Process; 3] {
    let postrider = Postrider::on(&app.database);
    [
        postrider.serve().await,
        postrider.serve().await,
        postrider.serve().await,
    ]
}
