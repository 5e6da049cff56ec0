//! Traces: what `serve` exports, and that it says so where it cannot.

use crate::folder::{Folder, post};
use crate::sink::Sink;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Publishes an event as a caller in a trace, and ends `serve` when the event has come: its
/// `traceparent`, and what `serve` said on standard error.
fn publish_and_stop(folder: &Folder) -> (Option<String>, String) {
    let receiver = Sink::open();
    folder.object(&["hook", "add", "--url", &receiver.url(), "--event", "*"]);
    let key = folder.object(&["key", "create", "--scope", "publish"]);
    let mut serve = folder.start_telling(&["serve", "--json"]);
    let api = serve.object()["api"].as_str().unwrap().to_owned();
    let headers = [
        (
            "authorization",
            format!("Bearer {}", key["token"].as_str().unwrap()),
        ),
        ("traceparent", format!("00-{TRACE}-{CALLER}-01")),
    ];
    let answer = post(
        &api,
        "/v1/events",
        &headers,
        r#"{"event_type":"a.b","payload":1}"#,
    );
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let came = receiver.next();
    let (code, said) = serve.terminate_telling();
    assert_eq!(code, 0, "{said}");
    (came.header("traceparent").map(str::to_owned), said)
}

fn serving() -> Folder {
    Folder::new()
        .env("POSTRIDER_API__LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_METRICS__LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_WORKER__ALLOW_ADDRESSES", "127.0.0.0/8")
}

#[test]
fn without_a_collector_nothing_is_told_to_receivers() {
    let (told, said) = publish_and_stop(&serving());
    assert_eq!(told, None);
    assert!(!said.contains("traces"), "{said}");
}

#[cfg(not(feature = "otel"))]
#[test]
fn a_collector_that_has_no_effect_is_told() {
    let collector = Sink::open();
    let folder = serving().env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url());
    let (told, said) = publish_and_stop(&folder);
    assert_eq!(told, None);
    assert!(
        said.contains("OTEL_EXPORTER_OTLP_ENDPOINT has no effect"),
        "{said}"
    );
    assert!(collector.rest().is_empty());
}

#[cfg(feature = "otel")]
mod otel {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use prost::Message;

    fn hex(id: &[u8]) -> String {
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What was exported, and as text.
    fn exported(collector: &Sink) -> (Vec<Span>, String) {
        let exports: Vec<_> = collector
            .rest()
            .into_iter()
            .map(|post| {
                assert_eq!(post.head[0], "post /v1/traces http/1.1");
                assert_eq!(post.header("x-tenant"), Some("shop 1"));
                ExportTraceServiceRequest::decode(&*post.body).unwrap()
            })
            .collect();
        let text = format!("{exports:?}");
        let of_resources = exports.into_iter().flat_map(|export| export.resource_spans);
        let of_scopes = of_resources.flat_map(|resource| resource.scope_spans);
        (of_scopes.flat_map(|scope| scope.spans).collect(), text)
    }

    #[test]
    fn a_trace_goes_from_the_caller_to_the_receiver_and_is_exported_at_the_end() {
        let collector = Sink::open();
        let folder = serving()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
            .env("OTEL_SERVICE_NAME", "shop-webhooks")
            .env(
                "OTEL_RESOURCE_ATTRIBUTES",
                "deployment.environment.name=test",
            )
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop%201")
            // Nothing is exported before the end.
            .env("OTEL_BSP_SCHEDULE_DELAY", "3600000");
        let (told, said) = publish_and_stop(&folder);
        assert!(
            said.contains("Exporting traces to http://127.0.0.1"),
            "{said}"
        );
        let (spans, text) = exported(&collector);
        let of = |kind| spans.iter().find(|span| span.kind() == kind).unwrap();
        let (publish, attempt) = (of(SpanKind::Server), of(SpanKind::Client));
        assert_eq!(spans.len(), 2, "{spans:?}");
        assert_eq!(publish.name, "POST /v1/events");
        assert_eq!(hex(&publish.trace_id), TRACE);
        assert_eq!(hex(&publish.parent_span_id), CALLER);
        assert_eq!(attempt.trace_id, publish.trace_id);
        assert_eq!(attempt.parent_span_id, publish.span_id);
        let expected = format!("00-{TRACE}-{}-01", hex(&attempt.span_id));
        assert_eq!(told, Some(expected));
        for expected in ["shop-webhooks", "deployment.environment.name"] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn a_sampler_that_keeps_nothing_keeps_nothing() {
        let collector = Sink::open();
        let folder = serving()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
            .env("OTEL_TRACES_SAMPLER", "always_off");
        let (told, _) = publish_and_stop(&folder);
        assert_eq!(told, Some(format!("00-{TRACE}-{CALLER}-01")));
        assert!(exported(&collector).0.is_empty());
    }

    #[test]
    fn exports_are_compressed_where_that_is_asked_for() {
        let collector = Sink::open();
        let folder = serving()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        publish_and_stop(&folder);
        let post = collector.next();
        assert_eq!(post.header("content-encoding"), Some("gzip"));
        assert_eq!(post.body[..2], [0x1f, 0x8b]);
    }

    #[test]
    fn a_collector_that_is_not_there_is_told_once_and_holds_up_nothing() {
        let folder = serving().env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1/s3cret");
        let (told, said) = publish_and_stop(&folder);
        assert!(told.unwrap().starts_with(&format!("00-{TRACE}-")));
        let trouble = "Cannot export traces to http://127.0.0.1:1; spans are lost until";
        assert_eq!(said.matches(trouble).count(), 1, "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }

    #[test]
    fn what_cannot_be_used_stops_the_program() {
        let folder = serving()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let ran = folder.run(&["serve"]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("http/protobuf"), "{}", ran.stderr);
    }
}
