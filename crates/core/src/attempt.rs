//! The record of one attempt.

use crate::{AttemptId, Outcome, Timestamp};
use std::time::Duration;

/// One HTTP request made for a delivery, and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Drawn when the attempt starts, so that a settlement that is repeated is recognised.
    pub id: AttemptId,
    /// The place among the attempts of the delivery, beginning with 1.
    pub number: u32,
    /// When the attempt started.
    pub at: Timestamp,
    /// The time from the start to the end of the exchange.
    pub duration: Duration,
    /// The result.
    pub outcome: Outcome,
    /// The beginning of the response body, at most
    /// [`EXCERPT_MAX_BYTES`](crate::EXCERPT_MAX_BYTES); empty when there was none.
    pub response: Vec<u8>,
}

impl Attempt {
    /// The failure as a sentence that can be stored; `None` for an accepted attempt.
    pub fn error(&self) -> Option<String> {
        (!self.outcome.is_accepted()).then(|| scrub(&self.outcome.to_string()))
    }
}

/// The text without NUL and at most 500 characters long, which every database can store.
pub fn scrub(text: &str) -> String {
    const MAX_CHARS: usize = 500;
    text.chars()
        .filter(|c| *c != '\0')
        .take(MAX_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrubbed_text_has_no_nul_and_an_end() {
        assert_eq!(scrub("a\0b"), "ab");
        assert_eq!(scrub(&"ä".repeat(600)).chars().count(), 500);
    }
}
