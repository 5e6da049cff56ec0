//! Attempts: a span for each whose event is in a trace that is recorded, and none else.

use crate::collector::{Collector, attribute, hex};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use postrider_core::{DeliveryId, EventId, NewEvent};
use postrider_store::Backend;
use postrider_tests::{Receiver, TestApp, event, hook_to, on_both};
use serde_json::json;

on_both!(every_attempt_is_a_span_between_the_event_and_the_receiver);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PUBLISHED: &str = "00f067aa0ba902b7";

fn parent(sampled: bool) -> String {
    format!("00-{TRACE}-{PUBLISHED}-0{}", u8::from(sampled))
}

fn carrying(headers: serde_json::Value) -> NewEvent {
    let mut event = event("invoice.paid");
    event.headers = Some(headers.to_string());
    event
}

async fn enqueue(app: &TestApp, event: NewEvent) -> EventId {
    app.enqueue_all(&[event]).await[0]
}

async fn every_attempt_is_a_span_between_the_event_and_the_receiver(backend: Backend) {
    let collector = Collector::accepting().await;
    let traces = collector.traces();
    let app = TestApp::traced(backend, traces.attempts()).await;
    let receiver = Receiver::answering([503, 200]).await;
    let mut hook = hook_to(&format!("{}/s3cret-path?token=s3cret", receiver.url()));
    hook.credentials.headers = vec![("x-key".into(), "s3cret-header".into())];
    let hook = app.register(hook).await.id;
    let headers = json!({"TraceParent": parent(true), "tracestate": "a=1", "x-own": "kept"});
    let id = enqueue(&app, carrying(headers)).await;
    app.tick().await;
    app.advance(60);
    app.tick().await;
    traces.finish().await;

    let (requests, spans) = (receiver.requests(), collector.spans());
    assert_eq!((requests.len(), spans.len()), (2, 2), "{spans:?}");
    for (number, (request, span)) in requests.iter().zip(&spans).enumerate() {
        assert_eq!(span.name, "POST");
        assert_eq!(span.kind(), SpanKind::Client);
        assert_eq!(hex(&span.trace_id), TRACE);
        assert_eq!(hex(&span.parent_span_id), PUBLISHED);
        assert_eq!(span.trace_state, "a=1");
        assert!(span.end_time_unix_nano > span.start_time_unix_nano);
        let told = format!("00-{TRACE}-{}-01", hex(&span.span_id));
        assert_eq!(request.header("traceparent"), told);
        assert_eq!(request.header("tracestate"), "a=1");
        assert_eq!(request.header("x-own"), "kept");
        let is = |name: &str| attribute(&span.attributes, name);
        assert_eq!(is("http.request.method"), "POST");
        assert_eq!(is("url.scheme"), "http");
        assert_eq!(is("server.address"), "127.0.0.1");
        assert_eq!(is("server.port"), receiver.address().port().to_string());
        assert_eq!(is("messaging.system"), "postrider");
        assert_eq!(is("messaging.message.id"), id.to_string());
        assert_eq!(is("postrider.event.type"), "invoice.paid");
        assert_eq!(is("postrider.hook.id"), hook.to_string());
        let delivery = DeliveryId::of(id, hook).to_string();
        assert_eq!(is("postrider.delivery.id"), delivery);
        assert_eq!(is("postrider.attempt"), (number + 1).to_string());
    }
    let is = |number: usize, name: &str| attribute(&spans[number].attributes, name);
    assert_eq!(is(0, "http.response.status_code"), "503");
    assert_eq!(is(0, "error.type"), "503");
    assert_eq!(is(0, "postrider.outcome"), "refused");
    assert_eq!(is(0, "http.request.resend_count"), "");
    assert_eq!(is(1, "http.response.status_code"), "200");
    assert_eq!(is(1, "error.type"), "");
    assert_eq!(is(1, "postrider.outcome"), "accepted");
    assert_eq!(is(1, "http.request.resend_count"), "1");
    let failed = |number: usize| {
        let status = spans[number].status.as_ref();
        status.is_some_and(|status| status.code() == StatusCode::Error)
    };
    assert_eq!((failed(0), failed(1)), (true, false));
    let said = format!("{:?}", collector.exports());
    assert!(!said.contains("s3cret"), "{said}");
    let resource = collector.resource();
    let is = |name: &str| attribute(&resource.attributes, name);
    assert_eq!(is("service.name"), "postrider");
    assert_eq!(is("service.version"), env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn what_is_in_no_recorded_trace_is_sent_as_it_was() {
    let collector = Collector::accepting().await;
    let traces = collector.traces();
    let app = TestApp::traced(Backend::Sqlite, traces.attempts()).await;
    let receiver = Receiver::accepting().await;
    app.hook(&receiver).await;
    let unreadable = "00-4bf92f3577b34da6a3ce929d0e0e4736-01";
    let cases = [
        (event("a"), None),
        (carrying(json!({"x-own": "1"})), None),
        (
            carrying(json!({"traceparent": parent(false)})),
            Some(parent(false)),
        ),
        (
            carrying(json!({"traceparent": unreadable})),
            Some(unreadable.into()),
        ),
    ];
    for (number, (event, told)) in cases.into_iter().enumerate() {
        enqueue(&app, event).await;
        app.tick().await;
        let request = receiver.requests().remove(number);
        let came = request.headers.get("traceparent");
        let came = came.map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(came, told);
        assert_eq!(request.headers.get("tracestate"), None);
    }
    traces.finish().await;
    assert_eq!(collector.0.count(), 0);
}

#[tokio::test]
async fn a_hook_does_not_decide_what_is_recorded() {
    let collector = Collector::accepting().await;
    let traces = collector.traces();
    let app = TestApp::traced(Backend::Sqlite, traces.attempts()).await;
    let receiver = Receiver::accepting().await;
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut hook = hook_to(&receiver.url());
    hook.credentials.headers = vec![("traceparent".into(), own.into())];
    app.register(hook).await;
    let events = [
        event("a"),
        carrying(json!({"x": "1"})),
        carrying(json!({"traceparent": parent(true)})),
    ];
    app.enqueue_all(&events).await;
    app.tick().await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(request.header("traceparent"), own);
    }
    traces.finish().await;
    assert_eq!(collector.0.count(), 0);
}

#[tokio::test]
async fn who_does_not_answer_is_told_by_kind() {
    let nobody = {
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        gone.local_addr().unwrap()
    };
    for (url, kind, words) in [
        (format!("http://{nobody}/"), "unreachable", "refused"),
        ("http://10.0.0.1/".into(), "blocked", ""),
    ] {
        let collector = Collector::accepting().await;
        let traces = collector.traces();
        let app = TestApp::traced(Backend::Sqlite, traces.attempts()).await;
        app.register(hook_to(&url)).await;
        enqueue(&app, carrying(json!({"traceparent": parent(true)}))).await;
        app.tick().await;
        traces.finish().await;
        let span = collector.spans().remove(0);
        let is = |name: &str| attribute(&span.attributes, name);
        assert_eq!(is("error.type"), kind);
        assert_eq!(is("postrider.outcome"), kind);
        assert_eq!(is("http.response.status_code"), "");
        let status = span.status.clone().expect("a status");
        assert_eq!(status.code(), StatusCode::Error);
        assert!(status.message.contains(words), "{status:?}");
    }
}
