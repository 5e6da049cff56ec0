//! How the columns of a row are read, whichever database it is from.
//!
//! This is the only place where the types of the two databases differ. A row becomes a value of
//! the domain in one function for both, which takes `&impl StoredRow`.

use chrono::NaiveDate;
use postrider_core::Timestamp;
use sqlx::error::UnexpectedNullError;
use uuid::Uuid;

/// One row of a result. Columns are named, so that a newer migration may add some.
///
/// Every method fails if there is no such column or its type is another one; those that return
/// no `Option` fail on `NULL` too.
pub(crate) trait StoredRow {
    fn text_or_null(&self, column: &str) -> sqlx::Result<Option<String>>;
    fn uuid_or_null(&self, column: &str) -> sqlx::Result<Option<Uuid>>;
    fn time_or_null(&self, column: &str) -> sqlx::Result<Option<Timestamp>>;
    /// An integer of any width.
    fn number_or_null(&self, column: &str) -> sqlx::Result<Option<i64>>;
    fn flag(&self, column: &str) -> sqlx::Result<bool>;
    /// A list of texts. What is not a list of texts comes as one text, so that one damaged row
    /// does not hide the others.
    fn texts(&self, column: &str) -> sqlx::Result<Vec<String>>;

    /// A day of the calendar.
    fn day(&self, column: &str) -> sqlx::Result<NaiveDate>;

    fn text(&self, column: &str) -> sqlx::Result<String> {
        present(column, self.text_or_null(column)?)
    }

    fn uuid(&self, column: &str) -> sqlx::Result<Uuid> {
        present(column, self.uuid_or_null(column)?)
    }

    fn time(&self, column: &str) -> sqlx::Result<Timestamp> {
        present(column, self.time_or_null(column)?)
    }

    fn number(&self, column: &str) -> sqlx::Result<i64> {
        present(column, self.number_or_null(column)?)
    }

    /// A count; 0 for `NULL`.
    fn count(&self, column: &str) -> sqlx::Result<u32> {
        let number = self.number_or_null(column)?.unwrap_or_default();
        Ok(u32::try_from(number).unwrap_or_default())
    }
}

/// Columns of a row that hold what an application or a receiver wrote: neither database can be
/// trusted to have checked it.
pub(crate) trait WrittenRow: StoredRow {
    /// A text as far as it can be read: bytes that are not UTF-8 are replaced.
    fn lossy_text_or_null(&self, column: &str) -> sqlx::Result<Option<String>>;
    /// A time that may be as an application wrote it; `None` also for one that cannot be read.
    fn written_time_or_null(&self, column: &str) -> sqlx::Result<Option<Timestamp>>;
}

fn present<T>(column: &str, value: Option<T>) -> sqlx::Result<T> {
    value.ok_or_else(|| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(UnexpectedNullError),
    })
}
