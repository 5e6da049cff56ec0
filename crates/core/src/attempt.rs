//! The record of one HTTP request.

use crate::{AttemptId, Outcome, Timestamp};
use std::time::Duration;

/// One HTTP request made for a delivery, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Drawn when the attempt starts; tells a replayed settlement from a new one.
    pub id: AttemptId,
    /// The delivery's first attempt is 1.
    pub number: u32,
    /// When it started.
    pub at: Timestamp,
    /// How long the exchange took.
    pub duration: Duration,
    /// What came of it.
    pub outcome: Outcome,
    /// The beginning of the response's body, at most
    /// [`EXCERPT_MAX_BYTES`](crate::EXCERPT_MAX_BYTES); empty when there was none.
    pub response: Vec<u8>,
}

impl Attempt {
    /// What went wrong, in words fit for storing; `None` for an accepted attempt.
    pub fn error(&self) -> Option<String> {
        (!self.outcome.is_accepted()).then(|| scrub(&self.outcome.to_string()))
    }
}

/// Text that every database stores: without NUL, and of bounded length.
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
