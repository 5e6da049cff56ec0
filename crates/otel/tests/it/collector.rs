//! A collector: it takes spans by OTLP over HTTP on a socket of its own, and keeps them.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use postrider_otel::{TraceSettings, Traces};
use postrider_tests::{Answer, Receiver};
use prost::Message;

/// A collector.
pub struct Collector(pub Receiver);

impl Collector {
    /// One that takes everything.
    pub async fn accepting() -> Self {
        Self(Receiver::accepting().await)
    }

    /// One that answers in this order; the last answer repeats.
    pub async fn answering<A: Into<Answer>>(answers: impl IntoIterator<Item = A>) -> Self {
        Self(Receiver::answering(answers).await)
    }

    /// Traces that are exported to it.
    pub fn traces(&self) -> Traces {
        let endpoint = format!("http://{}", self.0.address());
        let settings = TraceSettings::of(|name| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
            "OTEL_EXPORTER_OTLP_TIMEOUT" => Some("60000".into()),
            _ => None,
        });
        let settings = settings.expect("settings").expect("an endpoint");
        Traces::start(&settings).expect("start traces")
    }

    /// What has come, request by request.
    pub fn exports(&self) -> Vec<ExportTraceServiceRequest> {
        let decode = |request: postrider_tests::Received| {
            assert_eq!(request.path, "/v1/traces");
            assert_eq!(request.header("content-type"), "application/x-protobuf");
            ExportTraceServiceRequest::decode(request.body).expect("spans")
        };
        self.0.requests().into_iter().map(decode).collect()
    }

    /// The spans that have come, by their beginning.
    pub fn spans(&self) -> Vec<Span> {
        let exports = self.exports().into_iter();
        let of_resources = exports.flat_map(|export| export.resource_spans);
        let of_scopes = of_resources.flat_map(|resource| resource.scope_spans);
        let mut spans: Vec<_> = of_scopes.flat_map(|scope| scope.spans).collect();
        spans.sort_by_key(|span| span.start_time_unix_nano);
        spans
    }

    /// Who the spans are from.
    pub fn resource(&self) -> Resource {
        let export = self.exports().remove(0);
        let of = export.resource_spans.into_iter().next();
        of.and_then(|spans| spans.resource).expect("a resource")
    }
}

/// An attribute as text; nothing if it is missing.
pub fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    let value = found.and_then(|attribute| attribute.value.clone());
    match value.and_then(|value| value.value) {
        None => String::new(),
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => panic!("{name} is {other:?}"),
    }
}

/// An id as it is written in headers.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
