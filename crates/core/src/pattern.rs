//! Patterns of event types.
//!
//! `*` matches every type except the operational `postrider.*`; `prefix.*` matches every type
//! below the prefix, any number of segments deep; any other pattern matches one type.

use crate::{EventError, EventType};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One entry in the list of event types of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EventPattern {
    /// `*`: every event type except `postrider.*`.
    Any,
    /// `prefix.*`: every event type that begins with the prefix and a full stop.
    Below(String),
    /// One event type.
    Exactly(String),
}

/// The text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `*` is neither alone nor at the end after a full stop.
    #[error(
        "{0:?} is not an event pattern: write an exact type (\"invoice.paid\"), a prefix (\"invoice.*\") or \"*\""
    )]
    Misplaced(String),
    /// The pattern without `.*` is not an event type.
    #[error(transparent)]
    EventType(#[from] EventError),
}

impl EventPattern {
    /// Whether the pattern matches operational events.
    pub fn is_operational(&self) -> bool {
        match self {
            Self::Any => false,
            Self::Below(name) => name == "postrider" || EventType::is_operational(name),
            Self::Exactly(name) => EventType::is_operational(name),
        }
    }

    /// Whether the pattern matches this event type.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Any => !EventType::is_operational(event_type),
            Self::Below(prefix) => event_type
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.starts_with('.')),
            Self::Exactly(name) => name == event_type,
        }
    }
}

impl FromStr for EventPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (name, below) = match text.strip_suffix(".*") {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if name.contains('*') {
            return Err(PatternError::Misplaced(text.into()));
        }
        EventType::check(name)?;
        Ok(match below {
            true => Self::Below(name.into()),
            false => Self::Exactly(name.into()),
        })
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(prefix) => write!(f, "{prefix}.*"),
            Self::Exactly(name) => f.write_str(name),
        }
    }
}

impl TryFrom<String> for EventPattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<EventPattern> for String {
    fn from(pattern: EventPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        let table = [
            ("*", "invoice.paid", true),
            ("*", "postrider.hook.disabled", false),
            ("*", "postriderless.thing", true),
            ("postrider.*", "postrider.hook.disabled", true),
            ("postrider.hook.disabled", "postrider.hook.disabled", true),
            ("invoice.*", "invoice.paid", true),
            ("invoice.*", "invoice.line.added", true),
            ("invoice.*", "invoice", false),
            ("invoice.*", "invoices.paid", false),
            ("invoice.paid", "invoice.paid", true),
            ("invoice.paid", "invoice.paid.late", false),
            ("invoice.paid", "Invoice.paid", false),
        ];
        for (pattern, event_type, expected) in table {
            let parsed: EventPattern = pattern.parse().unwrap();
            assert_eq!(
                parsed.matches(event_type),
                expected,
                "{pattern} against {event_type}"
            );
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn misplaced_stars_are_refused() {
        for text in ["inv*", "*.paid", "a.*.b", "**", ".*", ""] {
            assert!(text.parse::<EventPattern>().is_err(), "{text}");
        }
    }
}
