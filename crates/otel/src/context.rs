//! Reading and writing the two headers of W3C Trace Context.

use http::{HeaderMap, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use postrider_core::{TRACEPARENT, TRACESTATE, TraceContext};

/// The parent span that these headers name; `None` without valid headers.
pub(crate) fn parent_of(headers: &HeaderMap) -> Option<Context> {
    headers.get(TRACEPARENT)?;
    let none = Context::new();
    let found =
        TraceContextPropagator::new().extract_with_context(&none, &HeaderExtractor(headers));
    let is_valid = found.span().span_context().is_valid();
    is_valid.then_some(found)
}

/// The headers that name this span as the parent.
pub(crate) fn context_of(span: &SpanContext) -> TraceContext {
    let state = span.trace_state().header();
    TraceContext {
        parent: format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            u8::from(span.is_sampled())
        ),
        state: Some(state).filter(|state| !state.is_empty()),
    }
}

/// Sets the headers so that they name this span as the parent.
pub(crate) fn set_parent(span: &SpanContext, headers: &mut HeaderMap) {
    let TraceContext { parent, state } = context_of(span);
    for (name, value) in [(TRACEPARENT, Some(parent)), (TRACESTATE, state)] {
        match value.and_then(|value| HeaderValue::try_from(value).ok()) {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let name = name.parse().unwrap();
            (
                http::HeaderName::clone(&name),
                HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn what_was_read_is_written_again() {
        for pairs in [
            &[(TRACEPARENT, PARENT)][..],
            &[(TRACEPARENT, PARENT), (TRACESTATE, "a=1,b=2")],
        ] {
            let parent = parent_of(&headers(pairs)).unwrap();
            let span = parent.span().span_context().clone();
            assert!(span.is_sampled());
            // Earlier values are replaced or removed.
            let mut written = headers(&[(TRACEPARENT, "00-x"), (TRACESTATE, "old=1")]);
            set_parent(&span, &mut written);
            assert_eq!(written, headers(pairs));
        }
    }

    #[test]
    fn malformed_headers_name_no_parent() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(
                parent_of(&headers(&[(TRACEPARENT, bad)])).is_none(),
                "{bad}"
            );
        }
        assert!(parent_of(&headers(&[(TRACESTATE, "a=1")])).is_none());
        let unreadable = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "no state")]);
        let parent = parent_of(&unreadable).unwrap();
        assert_eq!(context_of(parent.span().span_context()).state, None);
    }
}
