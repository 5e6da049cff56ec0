//! Passing on an event's trace when Postrider records no traces itself.

use postrider_store::Backend;
use postrider_tests::{Caller, Postrider, Receiver, TestApp, TestDatabase, on_both};

on_both!(
    every_attempt_tells_the_receiver_what_the_application_said,
    a_call_hands_on_what_the_event_says_and_not_what_its_own_headers_say,
);

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn every_attempt_tells_the_receiver_what_the_application_said(backend: Backend) {
    let app = TestApp::on(backend).await;
    let receiver = Receiver::answering([503, 200]).await;
    app.hook(&receiver).await;
    app.sql()
        .await
        .run(format!(
            "INSERT INTO postrider_outbox (event_type, payload, headers) VALUES ('invoice.paid', \
             '{{}}', '{{\"traceparent\":\"{PARENT}\",\"tracestate\":\"a=1,b=2\"}}')"
        ))
        .await;
    app.tick().await;
    app.advance(60);
    app.tick().await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.header("traceparent"), PARENT);
        assert_eq!(request.header("tracestate"), "a=1,b=2");
    }
}

async fn a_call_hands_on_what_the_event_says_and_not_what_its_own_headers_say(backend: Backend) {
    let database = TestDatabase::migrated(backend).await;
    let postrider = Postrider::on(&database);
    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    postrider
        .json(&["hook", "add", "--url", &url, "--event", "*"])
        .await;
    let serving = postrider.serve().await;
    let caller = Caller::publishing(&postrider, &serving).await;
    let said =
        format!(r#"{{"event_type":"said","payload":1,"headers":{{"traceparent":"{PARENT}"}}}}"#);
    for body in [said.as_str(), r#"{"event_type":"unsaid","payload":1}"#] {
        let headers = [("traceparent", OTHER)];
        let reply = caller.exchange("POST", "/v1/events", &headers, Some(body));
        reply.await.accepted();
    }
    receiver.wait_for(2).await;
    for request in receiver.requests() {
        let told = request.headers.get("traceparent").cloned();
        match request.json()["type"].as_str() {
            Some("said") => assert_eq!(told.expect("the header"), PARENT),
            _ => assert_eq!(told, None),
        }
    }
}
