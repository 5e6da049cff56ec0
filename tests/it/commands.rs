//! The program as an operator uses it.

use postrider_core::monotonic_now;
use postrider_store::Backend;
use postrider_tests::{Postrider, Receiver, TestDatabase, event, eventually, on_both, value_of};

on_both!(
    the_command_line_tells_the_whole_story_of_a_delivery,
    listen_verifies_what_serve_sends,
    a_hook_that_another_process_registers_pauses_and_enables_is_obeyed,
    a_test_of_a_hook_shows_its_answer_and_records_nothing,
    serve_answers_with_its_metrics_and_its_health,
    migrating_at_the_same_time_and_again_is_safe,
    check_says_that_all_is_well_and_shows_rejected_rows,
);

#[tokio::test]
async fn the_demo_succeeds_within_a_minute_and_leaves_nothing_behind() {
    let postrider = Postrider::bare();
    let folder = postrider.folder().to_owned();
    let postrider = postrider.with("TMPDIR", folder.display().to_string());
    let begun = monotonic_now();
    let told = postrider.run(&["demo"]).await.succeeded().stdout;
    let took = monotonic_now() - begun;
    assert!(took.as_secs() < 60, "{took:?}");
    for word in ["disabled", "enable", "postrider"] {
        assert!(told.contains(word), "{told}");
    }
    let left = std::fs::read_dir(&folder).expect("read the folder").count();
    assert_eq!(left, 0, "files are left in {}", folder.display());
}

async fn the_command_line_tells_the_whole_story_of_a_delivery(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::answering([503, 503, 200]).await;
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "invoice.*"];
    let hook = postrider
        .json(&[&add[..], &["--retry-schedule", "10ms,10ms"]].concat())
        .await;
    assert!(
        hook["secret"]
            .as_str()
            .is_some_and(|s| s.starts_with("whsec_"))
    );
    let hook = hook["id"].as_str().expect("an id");
    let send = [
        "event",
        "send",
        "--type",
        "invoice.paid",
        "--payload",
        r#"{"id": 1}"#,
    ];
    let sent = postrider.json(&send).await;
    let event = sent["id"].as_str().expect("an id");
    let _worker = postrider.serve().await;
    receiver.wait_for_answers(3).await;

    let listed = async || {
        let list = ["delivery", "list", "--event", event];
        postrider.listing(&list).await.remove(0)
    };
    eventually(async || match listed().await {
        delivery if delivery["state"] == "delivered" => Ok(()),
        delivery => Err(delivery.to_string()),
    })
    .await;
    let delivery = listed().await;
    assert_eq!(delivery["event_type"], "invoice.paid");
    assert_eq!(
        (&delivery["attempts"], delivery["hook_id"].as_str()),
        (&3.into(), Some(hook))
    );

    let id = delivery["id"].as_str().expect("an id");
    let shown = postrider.json(&["delivery", "show", id]).await;
    let statuses: Vec<_> = shown["history"]
        .as_array()
        .expect("attempts")
        .iter()
        .map(|attempt| attempt["status"].as_u64())
        .collect();
    assert_eq!(statuses, [Some(503), Some(503), Some(200)]);
    let shown = postrider.json(&["event", "show", event]).await;
    assert_eq!(shown["payload"].to_string(), r#"{"id":1}"#);
    let shown = postrider.json(&["hook", "show", hook]).await;
    assert_eq!(
        (&shown["status"], &shown["fail_count"]),
        (&"active".into(), &0.into())
    );
    assert!(
        shown.get("secret").is_none(),
        "a secret is shown once: {shown}"
    );

    postrider.json(&["delivery", "redeliver", id]).await;
    receiver.wait_for(4).await;
    assert_eq!(receiver.arrivals()[event], 4);
}

async fn listen_verifies_what_serve_sends(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let secret = postrider_core::SigningSecret::generate().reveal();
    let listen = [
        "listen",
        "--listen",
        "127.0.0.1:0",
        "--json",
        "--count",
        "3",
    ];
    let options = ["--secret", &secret, "--fail-first", "2", "--status", "503"];
    let mut listener = postrider.start(&[&listen[..], &options].concat());
    listener.wait_for_log("Listening on http://").await;
    let said = listener.stderr().join("\n");
    let place = said
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let url = format!("http://{}/", place.expect("where it listens"));

    let add = [
        "hook", "add", "--url", &url, "--event", "*", "--secret", &secret,
    ];
    postrider
        .json(&[&add[..], &["--retry-schedule", "10ms,10ms,10ms"]].concat())
        .await;
    let _worker = postrider.serve().await;
    for _ in 0..3 {
        let send = ["event", "send", "--type", "invoice.paid", "--payload", "{}"];
        postrider.json(&send).await;
    }
    let status = listener.ended().await;
    assert!(status.success(), "{listener}");
    let arrivals = listener.wait_for_lines(5).await;
    let arrivals = arrivals
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let arrivals: Vec<serde_json::Value> = arrivals.collect();
    assert!(arrivals.iter().all(|arrival| arrival["verified"] == true));
    let refused = arrivals.iter().filter(|a| a["status_answered"] == 503);
    assert_eq!((refused.count(), arrivals.len()), (2, 5));
}

async fn a_hook_that_another_process_registers_pauses_and_enables_is_obeyed(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    let _worker = postrider.serve().await;
    let add = ["hook", "add", "--url", &url, "--event", "*"];
    let hook = postrider.json(&add).await["id"].clone();
    let hook = hook.as_str().expect("an id");
    let send = ["event", "send", "--type", "invoice.paid", "--payload", "{}"];
    postrider.json(&send).await;
    receiver.wait_for(1).await;

    let paused = postrider.json(&["hook", "pause", hook]).await;
    assert_eq!(paused["status"], "paused");
    postrider.json(&send).await;
    eventually(async || {
        let shown = postrider.json(&["hook", "show", hook]).await;
        match &shown["held"] {
            held if *held == 1 => Ok(()),
            _ => Err(shown.to_string()),
        }
    })
    .await;
    assert_eq!(receiver.count(), 1);
    let enabled = postrider.json(&["hook", "enable", hook]).await;
    assert_eq!(enabled["status"], "active");
    receiver.wait_for(2).await;

    postrider.json(&["hook", "remove", hook]).await;
    assert_eq!(postrider.listing(&["hook", "list"]).await.len(), 0);
}

async fn a_test_of_a_hook_shows_its_answer_and_records_nothing(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::answering([200, 503, 200]).await;
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "*"];
    let hook = postrider.json(&add).await["id"].clone();
    let hook = hook.as_str().expect("an id");
    let tested = postrider.json(&["hook", "test", hook]).await;
    assert_eq!(tested["status"], 200);
    assert_eq!(receiver.requests()[0].json()["type"], "postrider.test");
    let refused = postrider.run(&["hook", "test", hook, "--json"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.contains("\"status\":503"), "{refused}");
    postrider.json(&["hook", "disable", hook]).await;
    let accepted = postrider.run(&["hook", "test", hook]).await.succeeded();
    let enable = format!("postrider hook enable {hook}");
    assert!(accepted.stderr.contains(&enable), "{accepted}");
    assert_eq!(
        postrider.json(&["hook", "show", hook]).await["fail_count"],
        0
    );
    assert_eq!(postrider.listing(&["event", "list"]).await.len(), 0);
}

async fn serve_answers_with_its_metrics_and_its_health(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "*"];
    postrider.json(&add).await;
    let mut worker = postrider.serve().await;
    assert_eq!(worker.get("/livez").await.0, 200);
    eventually(async || match worker.get("/readyz").await {
        (200, _) => Ok(()),
        not_ready => Err(format!("{not_ready:?}")),
    })
    .await;
    let (status, metrics) = worker.get("/metrics").await;
    assert_eq!(status, 200);
    let catalogue = postrider_worker::Metrics::new().encode();
    for name in catalogue.lines().filter(|line| line.starts_with("# TYPE ")) {
        assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
    }

    receiver.hold();
    let send = ["event", "send", "--type", "invoice.paid", "--payload", "{}"];
    postrider.json(&send).await;
    receiver.wait_for(1).await;
    eventually(async || {
        let (_, metrics) = worker.get("/metrics").await;
        match value_of(&metrics, "postrider_inflight_requests") {
            1.0 => Ok(()),
            other => Err(format!("{other} requests in flight")),
        }
    })
    .await;
    // A load balancer must learn of the end before the end.
    worker.terminate().await;
    eventually(async || match worker.get("/readyz").await {
        (503, body) if body.contains("draining") => Ok(()),
        still => Err(format!("{still:?}")),
    })
    .await;
    assert_eq!(worker.get("/livez").await.0, 200);
    receiver.release();
    assert!(worker.ended().await.success());
}

async fn migrating_at_the_same_time_and_again_is_safe(backend: Backend) {
    let database = TestDatabase::empty(backend).await;
    let postrider = Postrider::on(&database);
    let migrate = || postrider.json(&["migrate"]);
    let (a, b, c, d) = tokio::join!(migrate(), migrate(), migrate(), migrate());
    let applied = |migrated: &serde_json::Value| migrated["applied"].as_array().map_or(0, Vec::len);
    let once = applied(&a)
        .max(applied(&b))
        .max(applied(&c))
        .max(applied(&d));
    let all: usize = [&a, &b, &c, &d].into_iter().map(applied).sum();
    assert_eq!((once, all), (postrider_store::MIGRATIONS.len(), once));
    let again = postrider.json(&["migrate"]).await;
    assert_eq!(applied(&again), 0);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "*"];
    postrider.json(&add).await;
    let send = ["event", "send", "--type", "invoice.paid", "--payload", "{}"];
    postrider.json(&send).await;
    let _worker = postrider.serve().await;
    receiver.wait_for(1).await;
}

async fn check_says_that_all_is_well_and_shows_rejected_rows(backend: Backend) {
    let app = postrider_tests::TestApp::on(backend).await;
    let postrider = Postrider::on(&app.database);
    app.enqueue_all(&[event("invoice.paid")]).await;
    let well = postrider.run(&["check"]).await.succeeded();
    assert!(!well.stdout.contains("problem"), "{well}");

    let poison = "INSERT INTO postrider_outbox (event_type, payload) VALUES ('postrider.x', '{}')";
    app.sql().await.run(poison).await;
    app.tick().await;
    let shown = postrider.run(&["check"]).await;
    assert!(shown.stdout.contains("postrider.x"), "{shown}");
}
