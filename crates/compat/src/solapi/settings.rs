//! The configuration section `[solapi]`.

use super::events::EventEntry;
use postrider_core::Span;
use serde::{Deserialize, Serialize};

/// The longest batch window.
const BATCH_WINDOW_MAX: Span = Span::secs(3600);

/// The section `[solapi]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SolapiSettings {
    /// The events that registrants can choose.
    pub events: Vec<SolapiEvent>,
    /// How long a report is held back for its batch to fill, at most 1h; with 0s reports are not
    /// batched.
    pub batch_window: Span,
}

/// An entry of `solapi.events`: an event type, or one with an id and a name of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SolapiEvent {
    /// An event type that is its own id and name.
    Type(String),
    /// An event type with an id and a name of its own.
    Named {
        /// The id that clients register.
        id: String,
        /// The name that clients see.
        name: String,
        /// The event type of the outbox.
        event_type: String,
    },
}

impl Default for SolapiSettings {
    /// The current events of SOLAPI, and the one id that it documents.
    fn default() -> Self {
        let types = ["SINGLE-REPORT", "GROUP-REPORT", "FAX-RECEIVE"];
        let mut events = types.map(|name| SolapiEvent::Type(name.into())).to_vec();
        events.push(SolapiEvent::Named {
            id: "WH01ET191031070016949wNmNpJhbTBo".into(),
            name: "MessageReport".into(),
            event_type: "SINGLE-REPORT".into(),
        });
        Self {
            events,
            batch_window: Span::secs(0),
        }
    }
}

impl SolapiSettings {
    /// The events as the API lists them.
    pub(super) fn entries(&self) -> Vec<EventEntry> {
        let entry = |event: &SolapiEvent| match event {
            SolapiEvent::Type(name) => EventEntry {
                id: name.clone(),
                name: name.clone(),
                event_type: name.clone(),
            },
            SolapiEvent::Named {
                id,
                name,
                event_type,
            } => EventEntry {
                id: id.clone(),
                name: name.clone(),
                event_type: event_type.clone(),
            },
        };
        self.events.iter().map(entry).collect()
    }

    /// Checks the values.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.batch_window > BATCH_WINDOW_MAX {
            true => Err(format!(
                "solapi.batch_window ({}) must be at most {BATCH_WINDOW_MAX}: it may delay every \
                 report by that much",
                self.batch_window
            )),
            false => Ok(()),
        }
    }
}
