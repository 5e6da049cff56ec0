//! The types that the value of a JSON member can have.

use chrono::{DateTime, Datelike, SubsecRound};
use postrider_core::{BasicAuth, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A type that a member's value can have.
pub(crate) trait Field<'a>: Deserialize<'a> {
    /// Completes the error text "must be …".
    const EXPECTED: &'static str;

    /// Parses the value; `None` when it does not have this type.
    fn read(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }
}

impl<'a> Field<'a> for &'a RawValue {
    const EXPECTED: &'static str = "JSON of any kind";
}

impl Field<'_> for String {
    const EXPECTED: &'static str = "a string";
}

impl Field<'_> for Vec<String> {
    const EXPECTED: &'static str = "an array of strings";
}

impl<'a> Field<'a> for Vec<&'a RawValue> {
    const EXPECTED: &'static str = "an array";
}

impl Field<'_> for u32 {
    const EXPECTED: &'static str = "a whole number from 0 to 4294967295";
}

/// Headers, sorted by name; of a repeated name the last value counts.
impl Field<'_> for BTreeMap<String, String> {
    const EXPECTED: &'static str = "an object whose values are strings";
}

impl Field<'_> for BasicAuth {
    const EXPECTED: &'static str = "an object with the strings user and password";
}

impl<'a> Field<'a> for Timestamp {
    const EXPECTED: &'static str =
        "a time such as \"2026-01-31T12:00:00Z\" (RFC 3339), in the years 1 to 9999";

    fn read(value: &'a RawValue) -> Option<Self> {
        let text: String = serde_json::from_str(value.get()).ok()?;
        time_of(&text)
    }
}

/// Parses a time (RFC 3339); a leap second becomes the second after it. `None` when the text is
/// not a time, or outside the years 1 to 9999.
pub(crate) fn time_of(text: &str) -> Option<Timestamp> {
    let at = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    // chrono represents a leap second as more than 999 milliseconds.
    let at = match at.timestamp_subsec_nanos().checked_sub(1_000_000_000) {
        Some(nanos) => DateTime::from_timestamp(at.timestamp() + 1, nanos)?,
        None => at,
    };
    // The databases cannot store other years.
    (1..=9999).contains(&at.year()).then(|| at.trunc_subsecs(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_second_is_the_one_after_it() {
        for (text, expected) in [
            ("2016-12-31T23:59:60Z", Some("2017-01-01T00:00:00Z")),
            (
                "2017-01-01T08:59:60.5+09:00",
                Some("2017-01-01T00:00:00.5Z"),
            ),
            ("2016-12-31T23:59:59.9Z", Some("2016-12-31T23:59:59.9Z")),
            ("9999-12-31T23:59:60Z", None),
        ] {
            let expected = expected.map(|at| at.parse::<Timestamp>().unwrap());
            assert_eq!(time_of(text), expected, "{text}");
        }
    }
}
