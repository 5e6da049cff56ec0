//! The errors of the benchmark.

use std::fmt;

/// The result of every step of a measurement.
pub type Result<T> = anyhow::Result<T>;

/// The options contradict each other, or do not suit the database. The text says what to change.
///
/// The program reports it as a mistake in its arguments.
#[derive(Debug)]
pub struct Unusable(String);

impl Unusable {
    /// An error with this text.
    #[expect(clippy::new_ret_no_self, reason = "it is only ever used as an error")]
    pub(crate) fn new(text: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(text.into()))
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}
