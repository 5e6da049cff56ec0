//! Times that applications write, as far as a calendar goes.
//!
//! PostgreSQL keeps `infinity` and years that no other program knows, and decoding one of them
//! would end the program. A time that an application wrote is therefore selected only where it
//! is [`within_calendar!`].

/// The condition, in SQL, that a time lies in the years 1 to 9999.
macro_rules! within_calendar {
    () => {
        "BETWEEN '0001-01-01 00:00:00Z' AND '9999-12-31 23:59:59.999999Z'"
    };
}
pub(super) use within_calendar;
