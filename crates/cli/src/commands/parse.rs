//! Reading arguments that are more than a word.

use crate::failure::{Misuse, Result};
use anyhow::Context;
use postrider_core::{Span, Timestamp};
use std::io::Read;

/// An argument's text: itself, the content of a file (`@FILE`) or of standard input (`@-`).
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

/// A moment: RFC 3339, or a duration from `now` on.
pub fn moment_argument(option: &str, text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    text.parse::<Span>()
        .ok()
        .and_then(|span| now.checked_add_signed(chrono::TimeDelta::from_std(span.get()).ok()?))
        .ok_or_else(|| {
            Misuse::new(format!(
                "{option} {text:?} is not a moment: write it as 2030-01-31T18:00:00Z, or as a \
                 duration from now such as 10m"
            ))
        })
}

/// `NAME=VALUE`. The value may be a secret, so it is not repeated in an error.
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
    use chrono::{TimeDelta, TimeZone, Utc};

    #[test]
    fn a_moment_is_absolute_or_from_now() {
        let now = Utc.timestamp_opt(1_700_000_000, 0).unwrap();
        let parse = |text| moment_argument("--deliver-after", text, now);
        assert_eq!(parse("10m").unwrap(), now + TimeDelta::minutes(10));
        assert_eq!(
            parse("2030-01-31T19:00:00+01:00").unwrap(),
            Utc.with_ymd_and_hms(2030, 1, 31, 18, 0, 0).unwrap()
        );
        let problem = parse("tomorrow").unwrap_err().to_string();
        assert!(
            problem.starts_with("--deliver-after \"tomorrow\""),
            "{problem}"
        );
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
