//! How an attempt ended, as far as admission distinguishes it.

use postrider_core::Outcome;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    /// The receiver served the request ([`Outcome::is_served`]): it accepted the delivery, or
    /// refused that one alone.
    Served,
    /// It answered that it could not serve the request.
    Failed,
    /// It answered that it is throttling us.
    Throttled,
    /// It did not answer.
    Silent,
    /// A fault of this machine kept it from being tried.
    LocalFault,
    /// Nothing was sent.
    Unsent,
}

impl AttemptEnd {
    /// How an attempt with this outcome ended.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Accepted { .. } => Self::Served,
            Outcome::Refused { .. } if outcome.is_throttled() => Self::Throttled,
            Outcome::Refused { .. } if outcome.is_served() => Self::Served,
            Outcome::Refused { .. } => Self::Failed,
            Outcome::TimedOut | Outcome::Unreachable { .. } | Outcome::Blocked { .. } => {
                Self::Silent
            }
            Outcome::WorkerLost => Self::Unsent,
        }
    }

    /// Whether the receiver showed that it is there.
    pub(crate) fn is_answer(self) -> bool {
        matches!(self, Self::Served | Self::Failed | Self::Throttled)
    }
}
