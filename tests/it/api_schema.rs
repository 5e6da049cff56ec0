//! The API against its own document, checked by third-party tools: the document is valid, and every
//! request is answered as the document says.
//!
//! `POSTRIDER_TEST_EXAMPLES=2000` tries so many requests of each operation instead of a few.

use postrider_store::Backend;
use postrider_tests::{
    Caller, Postrider, Receiver, TestDatabase, ended_within, eventually, on_both, python,
};
use serde_json::{Value, json};
use std::time::Duration;

on_both!(whatever_is_sent_is_answered_as_documented);

/// Requests of each operation, unless the environment says.
const EXAMPLES: &str = "15";

/// How long that may take with many, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(4 * 3_600);

async fn whatever_is_sent_is_answered_as_documented(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database)
        .with("POSTRIDER_API__RATE_LIMIT", "100000/s")
        .with("POSTRIDER_WORKER__REQUEST_TIMEOUT", "1s");
    let receiver = Receiver::accepting().await;
    let things = things(&postrider, &receiver).await;
    // Nothing is delivered from here on: who knows where to.
    let serving = postrider.serve_as("api").await;
    let caller = Caller::with_scope(&postrider, &serving, "admin", None).await;
    let url = format!("http://{}", serving.address_of("api").await);
    let examples = std::env::var("POSTRIDER_TEST_EXAMPLES").unwrap_or_else(|_| EXAMPLES.into());
    let mut command = python("schema.py");
    command.args([&url, caller.token(), &examples, &things.to_string()]);
    ended_within(LONG, &mut command).await.succeeded();
}

/// Something of each kind that paths name.
async fn things(postrider: &Postrider, receiver: &Receiver) -> Value {
    let mut serving = postrider.serve().await;
    let caller = Caller::with_scope(postrider, &serving, "admin", None).await;
    let hook = json!({"url": receiver.url(), "events": ["known"]});
    let known = caller.call_with("POST", "/v1/hooks", &hook).await.json();
    let spare = caller.call_with("POST", "/v1/hooks", &hook).await.json();
    let event = r#"{"event_type":"known","payload":{}}"#;
    let event = caller.publish(event).await.accepted();
    receiver.wait_for(2).await;
    let hook = known["id"].as_str().expect("an id");
    let listing = format!("/v1/deliveries?hook={hook}&event={event}&state=delivered");
    let mut delivery = Value::Null;
    eventually(async || {
        let page = caller.get(&listing).await;
        delivery = page.pointer("/data/0/id").cloned().unwrap_or_default();
        match delivery.is_string() {
            true => Ok(()),
            false => Err("nothing was delivered".into()),
        }
    })
    .await;
    serving.terminate().await;
    serving.ended().await;
    json!({"hooks": hook, "events": event, "deliveries": delivery, "spare": spare["id"]})
}
