//! How values are written in the tables, and how a batch of rows is passed as one parameter.
//!
//! One parameter costs one trip to the connection's thread for the whole batch. On the path of
//! every delivery it is a blob of fields of fixed width, which the statement splits with
//! `substr`: ids as bytes, numbers in decimal. Everywhere else it is a JSON array for
//! `json_each`. Its ids are hexadecimal, for `unhex`. `MATERIALIZED` makes SQLite expand each
//! element once, and not once for every value taken from it.

use crate::stored_row::{StoredRow, WrittenRow};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, SubsecRound};
use postrider_core::Timestamp;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::types::Json;
use sqlx::{Row, TypeInfo, ValueRef};
use uuid::Uuid;

impl StoredRow for SqliteRow {
    fn text_or_null(&self, column: &str) -> sqlx::Result<Option<String>> {
        self.try_get(column)
    }

    fn uuid_or_null(&self, column: &str) -> sqlx::Result<Option<Uuid>> {
        self.try_get(column)
    }

    fn time_or_null(&self, column: &str) -> sqlx::Result<Option<Timestamp>> {
        Ok(self.try_get::<Option<i64>, _>(column)?.map(moment))
    }

    fn number_or_null(&self, column: &str) -> sqlx::Result<Option<i64>> {
        self.try_get(column)
    }

    fn flag(&self, column: &str) -> sqlx::Result<bool> {
        self.try_get(column)
    }

    fn texts(&self, column: &str) -> sqlx::Result<Vec<String>> {
        let text: String = self.try_get(column)?;
        Ok(serde_json::from_str(&text).unwrap_or_else(|_| vec![text]))
    }

    fn day(&self, column: &str) -> sqlx::Result<NaiveDate> {
        Ok(day_of(self.try_get(column)?))
    }
}

impl WrittenRow for SqliteRow {
    fn lossy_text_or_null(&self, column: &str) -> sqlx::Result<Option<String>> {
        let bytes: Option<&[u8]> = self.try_get_unchecked(column)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    }

    fn written_time_or_null(&self, column: &str) -> sqlx::Result<Option<Timestamp>> {
        match self.try_get_raw(column)?.type_info().name() {
            "INTEGER" => self.time_or_null(column),
            _ => Ok(self
                .lossy_text_or_null(column)?
                .as_deref()
                .and_then(parse_time)),
        }
    }
}

/// A batch of rows, as one parameter.
pub(super) fn rows<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Json<Vec<T>> {
    Json(rows.into_iter().collect())
}

/// A moment as it is stored.
pub(super) fn micros(at: Timestamp) -> i64 {
    at.timestamp_micros()
}

/// A stored moment.
pub(super) fn moment(micros: i64) -> Timestamp {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// A day as it is stored.
pub(super) fn day_number(day: NaiveDate) -> i32 {
    day.to_epoch_days()
}

/// A stored day.
pub(super) fn day_of(number: i32) -> NaiveDate {
    NaiveDate::from_epoch_days(number).unwrap_or_default()
}

/// Bytes for `unhex`.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Adds a number to a packed row: decimal, right-aligned in `WIDTH` bytes.
pub(super) fn push_number<const WIDTH: usize>(blob: &mut Vec<u8>, number: impl ToString) {
    let digits = number.to_string();
    blob.resize(blob.len() + WIDTH.saturating_sub(digits.len()), b' ');
    blob.extend_from_slice(digits.as_bytes());
}

/// Adds a text to a packed row: left-aligned in `WIDTH` bytes.
pub(super) fn push_padded<const WIDTH: usize>(blob: &mut Vec<u8>, text: &str) {
    blob.extend_from_slice(text.as_bytes());
    blob.resize(blob.len() + WIDTH.saturating_sub(text.len()), b' ');
}

/// A time that an application wrote: RFC 3339, or a date with or without a time of day, in UTC
/// unless an offset follows. `None` if it is no time, or its year is not 1 to 9999.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    parse_any_time(text).filter(|at| (1..=9999).contains(&at.year()))
}

fn parse_any_time(text: &str) -> Option<Timestamp> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.to_utc().trunc_subsecs(6));
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(day.and_time(Default::default()).and_utc());
    }
    let text = text.replacen('T', " ", 1);
    let text = text.trim_end_matches(['Z', 'z']).trim_end();
    let zoned = ["%Y-%m-%d %H:%M:%S%.f %#z", "%Y-%m-%d %H:%M %#z"];
    let plain = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let zoned = zoned
        .iter()
        .filter_map(|form| DateTime::parse_from_str(text, form).ok())
        .map(|at| at.to_utc());
    let plain = plain
        .iter()
        .filter_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .map(|at| at.and_utc());
    zoned.chain(plain).next().map(|at| at.trunc_subsecs(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_sqlite_reads_them() {
        let noon = "2026-01-31T12:00:00Z".parse::<Timestamp>().unwrap();
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00+00:00",
            "2026-01-31T14:00:00.0000009+02:00",
            "2026-01-31 12:00:00",
            "2026-01-31 12:00",
            "2026-01-31T12:00",
            "2026-01-31 12:00:00.000",
            "2026-01-31 12:00:00 Z",
            "2026-01-31 12:00z",
            "2026-01-31 07:00:00-05:00",
            "2026-01-31 07:00 -05:00",
        ] {
            assert_eq!(parse_time(text), Some(noon), "{text}");
        }
        let midnight = "2026-01-31T00:00:00Z".parse().unwrap();
        assert_eq!(parse_time("2026-01-31"), Some(midnight));
        for text in [
            "",
            "now",
            "2026-02-31",
            "2026-01-31T25:00:00Z",
            "2026-01-31T24:00",
            "12:00",
            "2460000.5",
            "9999-99-99",
            "0000-12-31",
            "9999-12-31T23:00:00-02:00",
            "-4713-11-24",
            "+10000-01-01",
            "+262142-12-31T23:59:59-23:59",
            "2026-01-31T12:00:00+99:99",
            "2026-01-31 12:00 \u{665}",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_are_written_in_hexadecimal() {
        assert_eq!(hex(&[0x00, 0x0f, 0xff]), "000fff");
    }

    #[test]
    fn packed_fields_have_their_width() {
        let mut blob = Vec::new();
        push_number::<5>(&mut blob, 42);
        push_number::<20>(&mut blob, i64::MIN);
        push_padded::<4>(&mut blob, "ab");
        assert_eq!(blob, b"   42-9223372036854775808ab  ");
    }
}
