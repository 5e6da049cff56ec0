//! Exporting: what a collector does is nothing that deliveries wait for.

use crate::collector::Collector;
use postrider_store::Backend;
use postrider_tests::{Receiver, TestApp, event};

const PARENT: &str = r#"{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#;

/// Delivers one event, with these traces.
async fn deliver(traces: &postrider_otel::Traces) {
    let app = TestApp::traced(Backend::Sqlite, traces.attempts()).await;
    let receiver = Receiver::accepting().await;
    app.hook(&receiver).await;
    let mut event = event("a");
    event.headers = Some(PARENT.into());
    app.enqueue_all(&[event]).await;
    app.tick().await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(app.left().await, 0);
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    let collector = Collector::accepting().await;
    collector.0.hold();
    let traces = collector.traces();
    deliver(&traces).await;
    // Returns, although the collector may take a minute and has not answered.
    traces.finish().await;
    assert_eq!(collector.0.count(), 1);
}

#[tokio::test]
async fn what_a_collector_refuses_for_now_is_exported_again() {
    let collector = Collector::answering([503, 200]).await;
    let traces = collector.traces();
    deliver(&traces).await;
    traces.finish().await;
    let exports = collector.exports();
    assert_eq!(exports.len(), 2);
    assert_eq!(exports[0], exports[1]);
}
