//! The span of an attempt: the client side of one HTTP request.
//!
//! It has the receiver and the outcome. Of the hook's URL it has scheme, host and port only: path and
//! query may hold secrets.

use crate::context::{parent_of, set_parent};
use http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use postrider_core::{DeliveryId, Outcome, parse_hook_url};
use postrider_worker::{AttemptSpan, AttemptTraces, LocalFault, Sending};

/// Makes spans for attempts whose events belong to a recorded trace.
pub(crate) struct Attempts(pub(crate) SdkTracer);

impl AttemptTraces for Attempts {
    fn begin(
        &self,
        sending: &Sending<'_>,
        headers: &mut HeaderMap,
    ) -> Option<Box<dyn AttemptSpan>> {
        let parent = parent_of(headers)?;
        let builder = self.0.span_builder("POST").with_kind(SpanKind::Client);
        let mut span = builder.start_with_context(&self.0, &parent);
        if !span.is_recording() {
            return None;
        }
        span.set_attributes(attributes_of(sending));
        set_parent(span.span_context(), headers);
        Some(Box::new(OpenAttempt {
            span,
            has_ended: false,
        }))
    }
}

/// The span of an attempt in flight.
struct OpenAttempt {
    span: Span,
    has_ended: bool,
}

impl AttemptSpan for OpenAttempt {
    fn end(mut self: Box<Self>, result: Result<&Outcome, LocalFault>) {
        self.has_ended = true;
        match result {
            Ok(outcome) => self.set_outcome(outcome),
            Err(fault) => self.fail(fault.name().into(), format!("not tried: {fault}")),
        }
        self.span.end();
    }
}

impl OpenAttempt {
    fn set_outcome(&mut self, outcome: &Outcome) {
        let span = &mut self.span;
        span.set_attribute(KeyValue::new("postrider.outcome", outcome.name()));
        let status = outcome.status();
        if let Some(status) = status {
            let name = "http.response.status_code";
            span.set_attribute(KeyValue::new(name, i64::from(status)));
        }
        let why = match outcome {
            Outcome::Accepted { .. } => return,
            Outcome::Unreachable { reason } => reason.clone(),
            _ => String::new(),
        };
        let kind = status.map_or_else(|| outcome.name().into(), |status| status.to_string());
        self.fail(kind, why);
    }

    fn fail(&mut self, kind: String, why: String) {
        self.span.set_attribute(KeyValue::new("error.type", kind));
        self.span.set_status(Status::error(why));
    }
}

impl Drop for OpenAttempt {
    fn drop(&mut self) {
        if !self.has_ended {
            self.fail(
                "cut".into(),
                "the worker ended before an answer arrived".into(),
            );
        }
    }
}

fn attributes_of(sending: &Sending<'_>) -> Vec<KeyValue> {
    let (hook, event) = (sending.hook, sending.event);
    let mut attributes = vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("messaging.system", "postrider"),
        KeyValue::new("messaging.message.id", event.id.to_string()),
        KeyValue::new("postrider.event.type", event.event_type.clone()),
        KeyValue::new("postrider.hook.id", hook.id.to_string()),
        KeyValue::new(
            "postrider.delivery.id",
            DeliveryId::of(event.id, hook.id).to_string(),
        ),
        KeyValue::new("postrider.attempt", i64::from(sending.number)),
    ];
    if sending.number > 1 {
        let again = i64::from(sending.number) - 1;
        attributes.push(KeyValue::new("http.request.resend_count", again));
    }
    if let Ok(url) = parse_hook_url(&hook.url) {
        attributes.push(KeyValue::new("url.scheme", url.scheme().to_owned()));
        let host = url.host_str().map(str::to_owned);
        attributes.extend(host.map(|host| KeyValue::new("server.address", host)));
        let port = url.port_or_known_default().map(i64::from);
        attributes.extend(port.map(|port| KeyValue::new("server.port", port)));
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Traces;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SimpleSpanProcessor, SpanData};

    /// The exported span of an attempt that `end` ends.
    fn ended(end: impl FnOnce(Box<OpenAttempt>)) -> SpanData {
        let exporter = InMemorySpanExporter::default();
        let traces = Traces::processed_by(SimpleSpanProcessor::new(exporter.clone()));
        let span = traces.tracer.start("POST");
        end(Box::new(OpenAttempt {
            span,
            has_ended: false,
        }));
        exporter.get_finished_spans().unwrap().remove(0)
    }

    fn kind(span: &SpanData) -> Option<String> {
        let mut attributes = span.attributes.iter();
        let found = attributes.find(|attribute| attribute.key.as_str() == "error.type");
        found.map(|attribute| attribute.value.as_str().into_owned())
    }

    #[test]
    fn every_end_sets_the_kind_of_error() {
        let refused = Outcome::refused(410, None);
        for (outcome, expected) in [
            (Outcome::Accepted { status: 204 }, None),
            (refused, Some("410")),
            (Outcome::TimedOut, Some("timed_out")),
        ] {
            let span = ended(|attempt| attempt.end(Ok(&outcome)));
            assert_eq!(kind(&span).as_deref(), expected, "{outcome:?}");
            let failed = matches!(span.status, Status::Error { .. });
            assert_eq!(failed, expected.is_some(), "{outcome:?}");
        }
        let span = ended(|attempt| attempt.end(Err(LocalFault::Descriptors)));
        assert_eq!(kind(&span).as_deref(), Some("descriptors"));
        let span = ended(drop);
        assert_eq!(kind(&span).as_deref(), Some("cut"));
    }
}
