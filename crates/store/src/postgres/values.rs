//! How PostgreSQL's values are read.
//!
//! PostgreSQL keeps `infinity` and years that no other program knows, and decoding one of them
//! would end the program. A time that an application wrote is therefore selected only where it
//! is [`within_calendar!`].

use crate::stored_row::{StoredRow, WrittenRow};
use chrono::NaiveDate;
use postrider_core::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{Row, TypeInfo, ValueRef};
use uuid::Uuid;

/// The condition, in SQL, that a time lies in the years 1 to 9999.
macro_rules! within_calendar {
    () => {
        "BETWEEN '0001-01-01 00:00:00Z' AND '9999-12-31 23:59:59.999999Z'"
    };
}
pub(super) use within_calendar;

impl StoredRow for PgRow {
    fn text_or_null(&self, column: &str) -> sqlx::Result<Option<String>> {
        self.try_get(column)
    }

    fn uuid_or_null(&self, column: &str) -> sqlx::Result<Option<Uuid>> {
        self.try_get(column)
    }

    fn time_or_null(&self, column: &str) -> sqlx::Result<Option<Timestamp>> {
        self.try_get(column)
    }

    fn number_or_null(&self, column: &str) -> sqlx::Result<Option<i64>> {
        match self.try_get_raw(column)?.type_info().name() {
            "INT2" => Ok(self.try_get::<Option<i16>, _>(column)?.map(i64::from)),
            "INT4" => Ok(self.try_get::<Option<i32>, _>(column)?.map(i64::from)),
            _ => self.try_get(column),
        }
    }

    fn flag(&self, column: &str) -> sqlx::Result<bool> {
        self.try_get(column)
    }

    fn texts(&self, column: &str) -> sqlx::Result<Vec<String>> {
        self.try_get(column)
    }

    fn day(&self, column: &str) -> sqlx::Result<NaiveDate> {
        self.try_get(column)
    }
}

impl WrittenRow for PgRow {
    fn lossy_text_or_null(&self, column: &str) -> sqlx::Result<Option<String>> {
        match self.try_get_raw(column)?.type_info().name() {
            "BYTEA" => {
                let bytes: Option<&[u8]> = self.try_get(column)?;
                Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
            }
            _ => self.try_get(column),
        }
    }

    fn written_time_or_null(&self, column: &str) -> sqlx::Result<Option<Timestamp>> {
        self.try_get(column)
    }
}
