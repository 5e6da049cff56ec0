//! What `serve` logs: a line for each change of a hook's state, and none for a delivery.

use postrider_store::Backend;
use postrider_tests::{Caller, Postrider, Receiver, TestDatabase, on_both};
use serde_json::{Value, json};

on_both!(each_change_of_a_hook_is_a_line_and_no_delivery_is);

const EVENTS: usize = 100;

async fn each_change_of_a_hook_is_a_line_and_no_delivery_is(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let schedule = ["10ms"; 50].join(",");
    let postrider = Postrider::on(&database)
        .with("POSTRIDER_WORKER__PER_HOOK", "4")
        .with("POSTRIDER_HOOKS__RETRY_SCHEDULE", schedule)
        .with("POSTRIDER_HOOKS__BACK_OFF_AFTER", "2")
        .with("POSTRIDER_HOOKS__BACK_OFF_MAX", "10ms")
        .with("POSTRIDER_HOOKS__DISABLE_AFTER_FAILURES", "4")
        .with("POSTRIDER_HOOKS__DISABLE_AFTER", "1ms");
    let receiver = Receiver::answering([500]).await;
    let url = format!("{}?token=s3cret", receiver.url());
    let hook = postrider
        .json(&["hook", "add", "--url", &url, "--event", "*"])
        .await;
    let id = hook["id"].as_str().expect("an id");
    let mut serving = postrider.start(&["serve", "--json", "--log-format", "json"]);
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let event = json!({"event_type": "a", "payload": {"secret": "s3cret"}});
    let batch = json!({"events": vec![event; EVENTS]});
    let reply = caller.call_with("POST", "/v1/events/batch", &batch).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    serving.wait_for_log("Disabled hook").await;

    receiver.answer([200]);
    let path = format!("/v1/hooks/{id}");
    let refused = receiver.count();
    for (method, path, log) in [
        (
            "POST",
            format!("{path}/enable"),
            "is at its normal concurrency again",
        ),
        ("POST", format!("{path}/pause"), "is now paused"),
        ("POST", format!("{path}/disable"), "is now disabled"),
        ("DELETE", path, "Deleted hook"),
    ] {
        let reply = caller.call(method, &path).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        serving.wait_for_log(log).await;
        receiver.wait_for(refused + EVENTS).await;
    }
    serving.terminate().await;
    assert!(serving.ended().await.success(), "{serving}");

    let lines = serving.stderr();
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let (of_the_hook, others): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["hook.id"] == id);
    let told: Vec<_> = of_the_hook
        .iter()
        .map(|line| line["message"].as_str().expect("a sentence"))
        .collect();
    let expected = [
        "Backed off hook",
        "half of the way",
        "Disabled hook",
        "is now active",
        "takes deliveries again",
        "is at its normal concurrency again",
        "is now paused",
        "is now disabled",
        "Deleted hook",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.contains(expected), "{expected:?} in {told:?}");
    }
    assert!(others.len() < EVENTS / 5, "{others:#?}");
    for line in &lines {
        assert!(
            line["timestamp"].is_string() && line["level"].is_string(),
            "{line}"
        );
        assert!(!line.to_string().contains("s3cret"), "{line}");
    }
}
