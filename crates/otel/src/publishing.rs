//! The span of a publishing call: the server side of one HTTP request.

use crate::context::{context_of, parent_of};
use http::HeaderMap;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use postrider_api::{PublishSpan, PublishTraces};
use postrider_core::{EventId, TraceContext};
use std::sync::Arc;

/// The first status that is a failure of the server.
const SERVER_ERROR: u16 = 500;

/// Makes spans for publishing calls.
pub(crate) struct Publishing(pub(crate) SdkTracer);

impl PublishTraces for Publishing {
    fn begin(&self, route: &'static str, headers: &HeaderMap) -> Option<Arc<dyn PublishSpan>> {
        let parent = parent_of(headers);
        let builder = self.0.span_builder(match route {
            "/v1/events" => "POST /v1/events",
            _ => "POST /v1/events/batch",
        });
        let before = parent.clone().unwrap_or_default();
        let kind = builder.with_kind(SpanKind::Server);
        let span = Context::new().with_span(kind.start_with_context(&self.0, &before));
        if span.span().is_recording() {
            span.span().set_attributes([
                KeyValue::new("http.request.method", "POST"),
                KeyValue::new("http.route", route),
                KeyValue::new("url.path", route),
                KeyValue::new("url.scheme", "http"),
            ]);
            let context = context_of(span.span().span_context());
            return Some(Arc::new(Recorded { span, context }));
        }
        // A span that is not recorded is left out: the caller remains the parent of the events.
        let context = context_of(parent?.span().span_context());
        Some(Arc::new(Unrecorded(context)))
    }
}

/// A call in a recorded trace.
struct Recorded {
    span: Context,
    context: TraceContext,
}

impl PublishSpan for Recorded {
    fn context(&self) -> &TraceContext {
        &self.context
    }

    fn published(&self, ids: &[EventId]) {
        let span = self.span.span();
        span.set_attribute(KeyValue::new("messaging.system", "postrider"));
        match ids {
            [id] => span.set_attribute(KeyValue::new("messaging.message.id", id.to_string())),
            _ => {
                let count = i64::try_from(ids.len()).unwrap_or(i64::MAX);
                span.set_attribute(KeyValue::new("messaging.batch.message_count", count));
            }
        }
    }

    fn answered(&self, status: u16) {
        let span = self.span.span();
        let name = "http.response.status_code";
        span.set_attribute(KeyValue::new(name, i64::from(status)));
        if status >= SERVER_ERROR {
            span.set_attribute(KeyValue::new("error.type", status.to_string()));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// A call in a trace that is not recorded.
struct Unrecorded(TraceContext);

impl PublishSpan for Unrecorded {
    fn context(&self) -> &TraceContext {
        &self.0
    }

    fn published(&self, _: &[EventId]) {}

    fn answered(&self, _: u16) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Traces;
    use http::HeaderValue;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SimpleSpanProcessor, SpanData};
    use postrider_core::{TRACEPARENT, TRACESTATE};

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const CALLER: &str = "00f067aa0ba902b7";

    /// The exported spans of a call with this `traceparent`, and the parent of its events.
    fn call(
        parent: Option<&str>,
        ids: usize,
        status: u16,
    ) -> (Vec<SpanData>, Option<TraceContext>) {
        let exporter = InMemorySpanExporter::default();
        let traces = Traces::processed_by(SimpleSpanProcessor::new(exporter.clone()));
        let mut headers = HeaderMap::new();
        if let Some(parent) = parent {
            headers.insert(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
            headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
        }
        let route = if ids == 1 {
            "/v1/events"
        } else {
            "/v1/events/batch"
        };
        let span = traces.publishing().begin(route, &headers);
        let context = span.as_ref().map(|span| span.context().clone());
        if let Some(span) = span {
            let id: EventId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
            span.published(&vec![id; ids]);
            span.answered(status);
        }
        (exporter.get_finished_spans().unwrap(), context)
    }

    fn is(span: &SpanData, name: &str) -> Option<String> {
        let mut attributes = span.attributes.iter();
        let found = attributes.find(|attribute| attribute.key.as_str() == name);
        found.map(|attribute| attribute.value.as_str().into_owned())
    }

    #[test]
    fn a_call_goes_on_with_the_trace_of_its_caller() {
        let parent = format!("00-{TRACE}-{CALLER}-01");
        let (spans, context) = call(Some(&parent), 1, 202);
        let [span] = spans.as_slice() else {
            panic!("{spans:?}");
        };
        assert_eq!(span.name, "POST /v1/events");
        assert_eq!(span.span_kind, SpanKind::Server);
        assert_eq!(span.span_context.trace_id().to_string(), TRACE);
        assert_eq!(span.parent_span_id.to_string(), CALLER);
        assert!(span.parent_span_is_remote);
        assert_eq!(is(span, "http.route").unwrap(), "/v1/events");
        assert_eq!(is(span, "http.response.status_code").unwrap(), "202");
        assert_eq!(is(span, "error.type"), None);
        let id = is(span, "messaging.message.id").unwrap();
        assert_eq!(id, "01890a5d-ac96-774b-bcce-b302099a8057");
        let own = span.span_context.span_id();
        let expected = TraceContext {
            parent: format!("00-{TRACE}-{own}-01"),
            state: Some("a=1".into()),
        };
        assert_eq!(context, Some(expected));
    }

    #[test]
    fn a_call_without_a_trace_begins_one() {
        let (spans, context) = call(None, 3, 503);
        let [span] = spans.as_slice() else {
            panic!("{spans:?}");
        };
        assert_eq!(span.name, "POST /v1/events/batch");
        assert_eq!(is(span, "messaging.batch.message_count").unwrap(), "3");
        assert_eq!(is(span, "error.type").unwrap(), "503");
        assert!(matches!(span.status, Status::Error { .. }));
        let context = context.unwrap();
        let trace = span.span_context.trace_id();
        let own = span.span_context.span_id();
        assert_eq!(context.parent, format!("00-{trace}-{own}-01"));
        assert_eq!(context.state, None);
    }

    #[test]
    fn a_caller_whose_trace_is_not_recorded_stays_the_one_before() {
        let parent = format!("00-{TRACE}-{CALLER}-00");
        let (spans, context) = call(Some(&parent), 1, 202);
        assert!(spans.is_empty(), "{spans:?}");
        let state = Some("a=1".into());
        assert_eq!(context, Some(TraceContext { parent, state }));
    }
}
