//! Parsers of argument values.

use crate::failure::{Misuse, Result};
use anyhow::Context;
use chrono::TimeDelta;
use postrider_core::{SecretError, SigningSecret, Span, SpanError, Timestamp};
use std::io::Read;
use std::str::FromStr;

/// Parses an id as listings print it.
pub fn id<T: FromStr>(text: &str) -> std::result::Result<T, String> {
    text.parse()
        .map_err(|_| "not an id: write it as a listing prints it, 0193a5c8-…".to_owned())
}

/// The text of an argument: itself, or the content of a file (`@FILE`) or of standard input (`@-`).
pub fn text_argument(argument: &str) -> Result<String> {
    match argument.strip_prefix('@') {
        None => Ok(argument.to_owned()),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
            Ok(text)
        }
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Misuse::new(format!("the file {path} cannot be read: {error}"))),
    }
}

/// A time in the future: absolute, or a duration from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// An absolute time, which may also be past.
    At(Timestamp),
    /// A duration from now.
    In(Span),
}

impl Moment {
    /// Parses RFC 3339 or a duration.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        if let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(at.to_utc()));
        }
        text.parse().map(Self::In).map_err(|error| match error {
            SpanError::TooLong(_) => error.to_string(),
            SpanError::Malformed(_) => {
                "write it as 2030-01-31T18:00:00Z, or as a duration from now such as 10m".to_owned()
            }
        })
    }

    /// The absolute time, given `now`; the latest possible one if it is out of range.
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::In(span) => TimeDelta::from_std(span.get())
                .ok()
                .and_then(|wait| now.checked_add_signed(wait))
                .unwrap_or(Timestamp::MAX_UTC),
        }
    }
}

/// A time in the past: absolute, or a duration before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// An absolute time.
    At(Timestamp),
    /// A duration before now.
    Ago(Span),
}

impl Past {
    /// Parses RFC 3339 or a duration.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        match Moment::parse(text) {
            Ok(Moment::At(at)) => Ok(Self::At(at)),
            Ok(Moment::In(span)) => Ok(Self::Ago(span)),
            Err(_) => Err(
                "write it as 2026-01-31T18:00:00Z, or as a duration before now such as 3d"
                    .to_owned(),
            ),
        }
    }

    /// The absolute time, given `now`; 1970 if it is out of range.
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => TimeDelta::from_std(span.get())
                .ok()
                .and_then(|ago| now.checked_sub_signed(ago))
                .unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

/// The signing secret of a `--secret` argument; a new one without it.
pub fn signing_secret(argument: Option<&str>) -> Result<SigningSecret> {
    match argument {
        None => Ok(SigningSecret::generate()),
        Some(argument) => text_argument(argument)?
            .parse()
            .map_err(|error: SecretError| Misuse::new(error.to_string())),
    }
}

/// Parses `NAME=VALUE`. Errors do not repeat the value, which may be a secret.
pub fn header_argument(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.to_owned())),
        None => Err(Misuse::new(
            "--header takes NAME=VALUE, such as --header X-Environment=production",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};

    #[test]
    fn a_time_is_absolute_or_from_now() {
        let now = Utc.timestamp_opt(1_700_000_000, 0).unwrap();
        let parse = |text| Moment::parse(text).map(|moment| moment.from(now));
        assert_eq!(parse("10m"), Ok(now + TimeDelta::minutes(10)));
        assert_eq!(
            parse("2030-01-31T19:00:00+01:00"),
            Ok(Utc.with_ymd_and_hms(2030, 1, 31, 18, 0, 0).unwrap())
        );
        assert!(parse("999999999999d").unwrap_err().contains("100 years"));
        assert!(parse("tomorrow").is_err());
    }

    #[test]
    fn a_time_in_the_past_is_absolute_or_before_now() {
        let now = Utc.timestamp_opt(1_700_000_000, 0).unwrap();
        let parse = |text| Past::parse(text).map(|moment| moment.from(now));
        assert_eq!(parse("10m"), Ok(now - TimeDelta::minutes(10)));
        assert_eq!(
            parse("2020-01-31T19:00:00+01:00"),
            Ok(Utc.with_ymd_and_hms(2020, 1, 31, 18, 0, 0).unwrap())
        );
        assert!(parse("yesterday").unwrap_err().contains("3d"));
    }

    #[test]
    fn a_malformed_header_is_not_repeated() {
        assert_eq!(
            header_argument("X-Token=a=b").unwrap(),
            ("X-Token".into(), "a=b".into())
        );
        let problem = header_argument("hunter2").unwrap_err().to_string();
        assert!(!problem.contains("hunter2"));
    }
}
