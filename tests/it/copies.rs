//! A copy of a production database (R22).

use postrider_core::DeliveryId;
use postrider_store::{Backend, DeliveryState};
use postrider_tests::{Postrider, Receiver, TestApp, event, eventually, hook_to, on_both, refusal};
use std::path::Path;

on_both!(a_copy_whose_hooks_were_paused_as_documented_sends_nothing);

async fn a_copy_whose_hooks_were_paused_as_documented_sends_nothing(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::accepting().await;
    let hook = app.register(hook_to(&receiver.url())).await.id;
    // In the outbox, waiting for another attempt, and in flight when the copy was made.
    let waits = app.insert_many("work", 1).await;
    let started = app.fan_out().await.started;
    let step = postrider_store::Step::Retry(app.now());
    app.settle(&[app.settlement(&started[0], refusal(500), step)])
        .await;
    let flies = app.insert_many("work", 1).await;
    app.fan_out().await;
    let queued = app.store.enqueue(&[event("work")]).await.expect("insert");

    app.sql().await.run(documented()).await;
    let postrider = Postrider::on(&app.database);
    let worker = postrider.serve().await;
    for event in [waits, flies, queued].concat() {
        let delivery = DeliveryId::of(event, hook);
        eventually(async || match app.store.delivery(delivery).await {
            Ok(delivery) if delivery.state == DeliveryState::Held => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    assert_eq!(receiver.count(), 0);
    postrider.json(&["hook", "enable", &hook.to_string()]).await;
    receiver.wait_for(3).await;
    drop(worker);
}

/// The statement of docs/operations.md.
fn documented() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let text = std::fs::read_to_string(root.join("docs/operations.md")).expect("the document");
    let section = text
        .split("## A copy of production")
        .nth(1)
        .expect("its section");
    let statement = section
        .split("```sql")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    statement.expect("a statement").to_owned()
}
