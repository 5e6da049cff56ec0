//! Durations in configuration, settings and flags: `5s`, `25ms`, `30m`, `24h`, `30d`.

use crate::SPAN_MAX;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration that is written as text, such as `5s` or `1h 30m`, in configuration files, stored
/// settings, the API and flags. At most [`SPAN_MAX`] when read from text.
///
/// ```
/// use postrider_core::Span;
/// assert_eq!("5m".parse::<Span>()?.get().as_secs(), 300);
/// assert_eq!("1h 30m".parse::<Span>()?.to_string(), "1h 30m");
/// # Ok::<(), postrider_core::SpanError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

/// The text is not an accepted duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// The text is not a duration.
    #[error(
        "{0:?} is not a duration: write a number with a unit, such as \"25ms\", \"5s\", \"30m\", \"24h\" or \"30d\""
    )]
    Malformed(String),
    /// The duration is longer than [`SPAN_MAX`].
    #[error("{0:?} is longer than 100 years: give a shorter duration")]
    TooLong(String),
}

impl Span {
    /// A duration of `seconds` seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A duration of `milliseconds` milliseconds.
    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The duration for the standard library.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        match humantime::parse_duration(text.trim()) {
            Ok(duration) if duration <= SPAN_MAX => Ok(Self(duration)),
            Ok(_) => Err(SpanError::TooLong(text.into())),
            Err(_) => Err(SpanError::Malformed(text.into())),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_a_duration_and_back() {
        for (text, seconds) in [
            ("5s", 5.0),
            ("25ms", 0.025),
            ("24h", 86_400.0),
            ("30d", 2_592_000.0),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.get().as_secs_f64(), seconds, "{text}");
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
    }

    #[test]
    fn what_no_calendar_holds_is_refused() {
        assert!("36500d".parse::<Span>().is_ok());
        for text in ["18446744073709551615s", "300000000y", "36501d"] {
            let error = text.parse::<Span>().unwrap_err();
            assert_eq!(error, SpanError::TooLong(text.into()));
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in ["", "5", "soon", "-5s", "5 parsecs", "99999999999999999999d"] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains("\"30m\""), "{error}");
        }
    }
}
