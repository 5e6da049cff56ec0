//! Trace context: the two headers of W3C Trace Context.
//!
//! Their values are not interpreted here. An event carries them among its headers from the publisher
//! to the receiver.

use crate::NewEvent;
use crate::header_rules::check_event_headers;
use std::collections::BTreeMap;

/// The header with the ids of a trace and of the parent span.
pub const TRACEPARENT: &str = "traceparent";

/// The header with data of individual tracing systems.
pub const TRACESTATE: &str = "tracestate";

/// The parent span of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The value of `traceparent`.
    pub parent: String,
    /// The value of `tracestate`, if there is one.
    pub state: Option<String>,
}

impl TraceContext {
    /// Adds the two headers to `event`.
    ///
    /// An event stays as it is when it has one of them already, or when it would exceed the limits
    /// of headers with them.
    pub fn join(&self, event: &mut NewEvent) {
        let mut headers: BTreeMap<String, String> = match &event.headers {
            None => BTreeMap::new(),
            Some(text) => match serde_json::from_str(text) {
                Ok(headers) => headers,
                Err(_) => return,
            },
        };
        let is_ours = |name: &String| {
            [TRACEPARENT, TRACESTATE]
                .iter()
                .any(|ours| name.eq_ignore_ascii_case(ours))
        };
        if headers.keys().any(is_ours) {
            return;
        }
        headers.insert(TRACEPARENT.into(), self.parent.clone());
        headers.extend(self.state.clone().map(|state| (TRACESTATE.into(), state)));
        if let Ok(text) = serde_json::to_string(&headers)
            && check_event_headers(Some(&text)).is_ok()
        {
            event.headers = Some(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn joined(headers: Option<Value>) -> Option<Value> {
        let mut event = NewEvent::new("a", &1).unwrap();
        event.headers = headers.map(|headers| headers.to_string());
        let context = TraceContext {
            parent: PARENT.into(),
            state: Some("a=1".into()),
        };
        context.join(&mut event);
        event
            .headers
            .map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn it_is_added_to_the_headers_of_the_event() {
        let alone = json!({TRACEPARENT: PARENT, TRACESTATE: "a=1"});
        assert_eq!(joined(None), Some(alone.clone()));
        assert_eq!(joined(Some(json!({}))), Some(alone));
        let beside = json!({TRACEPARENT: PARENT, TRACESTATE: "a=1", "x": "y"});
        assert_eq!(joined(Some(json!({"x": "y"}))), Some(beside));
    }

    #[test]
    fn headers_of_the_application_stay() {
        for own in ["traceparent", "TraceParent", "tracestate"] {
            let headers = json!({own: "its own"});
            assert_eq!(joined(Some(headers.clone())), Some(headers), "{own}");
        }
        let unreadable = json!(["no object"]);
        assert_eq!(joined(Some(unreadable.clone())), Some(unreadable));
    }

    #[test]
    fn an_event_is_not_refused_because_of_it() {
        let names = (0..99).map(|number| (format!("h{number}"), json!("x")));
        let many = Value::Object(names.collect());
        assert_eq!(joined(Some(many.clone())), Some(many));
        let long = json!({"long": "x".repeat(16 * 1024 - 10)});
        assert_eq!(joined(Some(long.clone())), Some(long));
    }
}
