//! The form of values during a move: the text that PostgreSQL writes, with times in UTC, bytes in
//! hexadecimal and lists as JSON.

use super::tables::TransferColumn;
use crate::{Error, Result};
use chrono::DateTime;
use postrider_core::{KeyRing, Timestamp};
use uuid::Uuid;

/// The prefix of a sealed value; other values, such as the hash of a password, are copied as they
/// are.
const SEAL: &str = "v1.";

/// The kind of the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    Uuid,
    Time,
    Day,
    Bool,
    Number,
    Bytes,
    /// A list of texts.
    Texts,
    Text,
}

impl ValueKind {
    /// The kind of the values copied between these columns. The types of PostgreSQL say most.
    pub(crate) fn of(from: &TransferColumn, to: &TransferColumn) -> Self {
        let telling = match from.postgres {
            true => from,
            false => to,
        };
        match telling.declared.as_str() {
            "uuid" => Self::Uuid,
            "timestamp with time zone" => Self::Time,
            "date" => Self::Day,
            "boolean" => Self::Bool,
            "smallint" | "integer" | "bigint" | "INTEGER" => Self::Number,
            "bytea" | "BLOB" => Self::Bytes,
            "text[]" => Self::Texts,
            _ => Self::Text,
        }
    }
}

/// The text of a time.
pub(crate) fn written_time(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}

/// The time of a text; the last second of the year 9999 for what is not a time of the calendar.
pub(crate) fn read_time(text: &str) -> Timestamp {
    DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").map_or_else(
        |_| DateTime::from_timestamp(253_402_300_799, 0).unwrap_or_default(),
        |at| at.to_utc(),
    )
}

/// A name as SQL quotes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// Text that both databases accept: valid UTF-8 without NUL.
pub(crate) fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    let (pairs, _) = digits.as_chunks::<2>();
    let byte = |[high, low]: &[u32; 2]| u8::try_from(high << 4 | low).unwrap_or_default();
    pairs.iter().map(byte).collect()
}

/// A secret of a row, opened with the keys of the source and sealed with those of the target.
pub(crate) fn sealed_anew(
    from: &KeyRing,
    to: &KeyRing,
    purpose: &str,
    row: &str,
    sealed: &str,
) -> Result<String> {
    if !sealed.starts_with(SEAL) {
        return Ok(sealed.to_owned());
    }
    let id = row.parse::<Uuid>().map_err(|_| {
        Error::Conflict(format!(
            "the id {row:?} of a row with a secret is none: the source is damaged"
        ))
    })?;
    let secret = from.open(purpose, id, sealed)?;
    Ok(to.seal(purpose, id, &secret)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_back_as_they_were() {
        for text in ["2026-03-02T10:00:00.000001Z", "1970-01-01T00:00:00Z"] {
            let at: Timestamp = text.parse().unwrap();
            assert_eq!(read_time(&written_time(at)), at);
        }
        let at: Timestamp = "2026-03-02T10:00:00Z".parse().unwrap();
        assert_eq!(read_time("2026-03-02 10:00:00+00"), at);
        assert_eq!(
            read_time("infinity").to_rfc3339(),
            "9999-12-31T23:59:59+00:00"
        );
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        let bytes = [0, 1, 15, 16, 254, 255];
        assert_eq!(from_hex(&to_hex(&bytes)), bytes);
    }

    #[test]
    fn text_loses_what_no_database_takes() {
        assert_eq!(plain(b"a\0b\xffc"), "a\u{fffd}b\u{fffd}c");
    }
}
