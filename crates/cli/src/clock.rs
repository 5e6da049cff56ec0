//! The wall clock of this machine, for the few things that do not use the database's clock: the age
//! of a received signature, and the difference between the two clocks.

use chrono::DateTime;
use postrider_core::Timestamp;

/// The time of this machine, to the microsecond.
pub fn wall_clock() -> Timestamp {
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let micros = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}
