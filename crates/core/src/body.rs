//! The body of a `standard` delivery.

use crate::Event;
use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The form of a `standard` request body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyForm {
    /// `{"type", "timestamp", "data"}`, as Standard Webhooks recommends.
    #[default]
    Envelope,
    /// The payload alone.
    Payload,
}

impl fmt::Display for BodyForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Envelope => "envelope",
            Self::Payload => "payload",
        })
    }
}

/// The request body. Both forms hold the payload's bytes verbatim.
pub fn standard_body(event: &Event, form: BodyForm) -> String {
    let payload = event.payload.as_str();
    match form {
        BodyForm::Payload => payload.to_owned(),
        BodyForm::Envelope => {
            let event_type =
                serde_json::to_string(&event.event_type).unwrap_or_else(|_| "\"\"".to_owned());
            let timestamp = event
                .occurred_at
                .to_rfc3339_opts(SecondsFormat::AutoSi, true);
            format!(r#"{{"type":{event_type},"timestamp":"{timestamp}","data":{payload}}}"#)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventId, Payload};
    use chrono::{TimeZone, Utc};

    #[test]
    fn the_payload_stands_verbatim_in_both_forms() {
        let at = Utc.timestamp_millis_opt(1_700_000_000_123).unwrap();
        let event = Event {
            id: EventId::draw(at),
            account: "default".into(),
            event_type: "a\"b".into(),
            payload: Payload::from_checked("{\"n\": 1.0,\"n\":2}"),
            ordering_key: None,
            headers: None,
            occurred_at: at,
        };
        assert_eq!(
            standard_body(&event, BodyForm::Payload),
            "{\"n\": 1.0,\"n\":2}"
        );
        assert_eq!(
            standard_body(&event, BodyForm::Envelope),
            r#"{"type":"a\"b","timestamp":"2023-11-14T22:13:20.123Z","data":{"n": 1.0,"n":2}}"#
        );
    }
}
