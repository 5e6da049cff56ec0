//! How an attempt ended, as far as admission distinguishes it.

use postrider_core::Outcome;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    /// The receiver accepted the delivery.
    Accepted,
    /// It answered and did not accept.
    Refused,
    /// It answered that it is throttling us.
    Throttled,
    /// It did not answer.
    Silent,
    /// Nothing was sent.
    Unsent,
}

impl AttemptEnd {
    /// How an attempt with this outcome ended.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Accepted { .. } => Self::Accepted,
            Outcome::Refused { .. } if outcome.is_throttled() => Self::Throttled,
            Outcome::Refused { .. } => Self::Refused,
            Outcome::TimedOut | Outcome::Unreachable { .. } | Outcome::Blocked { .. } => {
                Self::Silent
            }
            Outcome::WorkerLost => Self::Unsent,
        }
    }

    /// Whether the receiver showed that it is there.
    pub(crate) fn is_answer(self) -> bool {
        matches!(self, Self::Accepted | Self::Refused | Self::Throttled)
    }
}
