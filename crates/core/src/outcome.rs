//! The result of an attempt, and the next state of its delivery.

use crate::{DeliveryId, RETRY_AFTER_MAX, RetrySchedule};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// The result of one attempt. A failure of the receiver is a value; a failure of Postrider's own
/// machine or database is an error elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver accepted the delivery (2xx).
    Accepted {
        /// The HTTP status.
        status: u16,
    },
    /// The receiver answered with another status. Redirects count here: they are not followed.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The pause that the receiver asks for with `Retry-After` (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
        /// What the answer means beyond this attempt.
        meaning: RefusalKind,
    },
    /// The exchange, from connecting to the last byte of the body, exceeded the request timeout.
    TimedOut,
    /// No answer: the name did not resolve, the connection was refused or broke, TLS failed.
    Unreachable {
        /// What went wrong, without the URL.
        reason: String,
    },
    /// The address must not be called; no connection was made.
    Blocked {
        /// The private or special-purpose address.
        address: IpAddr,
    },
    /// The worker that held the lease was lost three times in a row with this delivery.
    WorkerLost,
}

/// What a refusal means beyond this attempt. The hook's profile decides it by the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// A later attempt may be accepted.
    Passing,
    /// The receiver asks for fewer requests, or for a pause: the whole hook pauses.
    Throttled,
    /// This delivery will never be accepted; others may be.
    Final,
    /// The receiver wants no more deliveries at all.
    Gone,
}

impl RefusalKind {
    /// The meaning of a refusal in Standard Webhooks. It counts 502 and 504 as signs of too
    /// many requests, and RFC 9110 gives 503 to overload. One broken server behind a load balancer
    /// answers so, too: a pause of the whole hook takes a receiver that asks for it.
    pub fn of(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            410 => Self::Gone,
            429 => Self::Throttled,
            502..=504 if retry_after.is_some() => Self::Throttled,
            _ => Self::Passing,
        }
    }
}

impl Outcome {
    /// A refusal with the meaning of [`RefusalKind::of`].
    pub fn refused(status: u16, retry_after: Option<Duration>) -> Self {
        Self::Refused {
            status,
            retry_after,
            meaning: RefusalKind::of(status, retry_after),
        }
    }

    /// The name under which the outcome is stored, shown and counted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Refused { .. } => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable { .. } => "unreachable",
            Self::Blocked { .. } => "blocked",
            Self::WorkerLost => "worker_lost",
        }
    }

    /// The HTTP status; `None` when there was no answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Accepted { status } | Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the receiver accepted the delivery.
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }

    /// Whether it counts as a failure of the hook. A lost worker does not.
    pub fn is_hook_failure(&self) -> bool {
        !matches!(self, Self::Accepted { .. } | Self::WorkerLost)
    }

    /// Whether the receiver served the request, although it may have refused it: it answered with
    /// 2xx, or with a 4xx that speaks of this request alone. It may serve the next one.
    ///
    /// 408, 425 and 429 (RFC 9110 §15.5.9, RFC 8470, RFC 6585) speak of the receiver. 409 speaks
    /// of the event: it was taken before, or another must come first.
    pub fn is_served(&self) -> bool {
        match self {
            Self::Accepted { .. } => true,
            Self::Refused { status, .. } => {
                (400..500).contains(status) && !matches!(status, 408 | 425 | 429)
            }
            _ => false,
        }
    }

    /// Whether the receiver throttles: the whole hook pauses.
    pub fn is_throttled(&self) -> bool {
        self.meaning() == Some(RefusalKind::Throttled)
    }

    /// Whether the receiver wants no more deliveries at all.
    pub fn is_gone(&self) -> bool {
        self.meaning() == Some(RefusalKind::Gone)
    }

    fn meaning(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused { meaning, .. } => Some(*meaning),
            _ => None,
        }
    }

    /// The pause that the receiver asks for, at most [`RETRY_AFTER_MAX`].
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => retry_after.map(|wait| wait.min(RETRY_AFTER_MAX)),
            _ => None,
        }
    }
}

/// A sentence for people, such as "answered 503".
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { status } | Self::Refused { status, .. } => {
                write!(f, "answered {status}")
            }
            Self::TimedOut => f.write_str("took longer than the request timeout"),
            Self::Unreachable { reason } => write!(f, "unreachable: {reason}"),
            Self::Blocked { address } => write!(
                f,
                "blocked: {address} is a private or special-purpose address; list it in worker.allow_addresses to allow it"
            ),
            Self::WorkerLost => f.write_str("the worker was lost three times in a row"),
        }
    }
}

/// Why a delivery ended without being accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The receiver answered 410: it wants no more deliveries (Standard Webhooks).
    Gone,
    /// The receiver answered that it will never accept this delivery.
    Refused,
    /// The retry schedule is used up.
    Exhausted,
    /// The hook was deleted.
    HookDeleted,
    /// A person discarded it.
    Discarded,
    /// Its retention ended.
    Expired,
    /// The payload of its event was erased.
    Erased,
}

impl Reason {
    /// The name under which the reason is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::Exhausted => "exhausted",
            Self::HookDeleted => "hook_deleted",
            Self::Discarded => "discarded",
            Self::Expired => "expired",
            Self::Erased => "erased",
        }
    }
}

/// The next state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// The receiver accepted it.
    Delivered,
    /// The next attempt is due after this wait.
    RetryIn(Duration),
    /// No further attempt is made, unless a person sends it again.
    Failed(Reason),
}

/// The next state of `delivery` after its `attempt`-th attempt ended with `outcome`. The first
/// attempt is 1; the count starts anew when a person sends the delivery again.
pub fn next_step(
    outcome: &Outcome,
    delivery: DeliveryId,
    attempt: u32,
    schedule: &RetrySchedule,
) -> NextStep {
    if outcome.is_accepted() {
        return NextStep::Delivered;
    }
    match (outcome.meaning(), schedule.delay_after(delivery, attempt)) {
        (Some(RefusalKind::Gone), _) => NextStep::Failed(Reason::Gone),
        (Some(RefusalKind::Final), _) => NextStep::Failed(Reason::Refused),
        (_, Some(delay)) => NextStep::RetryIn(delay.max(outcome.retry_after().unwrap_or_default())),
        (_, None) => NextStep::Failed(Reason::Exhausted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;
    use uuid::Uuid;

    fn refused(status: u16, retry_after: Option<u64>) -> Outcome {
        Outcome::refused(status, retry_after.map(Duration::from_secs))
    }

    fn meaning(status: u16, meaning: RefusalKind) -> Outcome {
        Outcome::Refused {
            status,
            retry_after: None,
            meaning,
        }
    }

    #[test]
    fn the_outcome_decides_the_next_step() {
        let schedule = RetrySchedule::new(vec![Span::secs(100)]);
        let delivery = DeliveryId(Uuid::from_u128(1));
        let planned = schedule.delay_after(delivery, 1).unwrap();
        let unreachable = Outcome::Unreachable {
            reason: "refused".into(),
        };
        let blocked = Outcome::Blocked {
            address: [127, 0, 0, 1].into(),
        };
        let retry = NextStep::RetryIn(planned);
        let table = [
            (Outcome::Accepted { status: 200 }, 1, NextStep::Delivered),
            (Outcome::Accepted { status: 204 }, 2, NextStep::Delivered),
            (refused(301, None), 1, retry),
            (refused(400, None), 1, retry),
            (refused(410, None), 1, NextStep::Failed(Reason::Gone)),
            (
                meaning(404, RefusalKind::Final),
                1,
                NextStep::Failed(Reason::Refused),
            ),
            (meaning(410, RefusalKind::Passing), 1, retry),
            (refused(429, Some(7)), 1, retry),
            (
                refused(429, Some(1_000)),
                1,
                NextStep::RetryIn(Duration::from_secs(1_000)),
            ),
            (
                refused(503, Some(86_400)),
                1,
                NextStep::RetryIn(RETRY_AFTER_MAX),
            ),
            (refused(500, None), 2, NextStep::Failed(Reason::Exhausted)),
            (Outcome::TimedOut, 1, retry),
            (unreachable, 1, retry),
            (blocked, 1, retry),
            (Outcome::WorkerLost, 1, retry),
            (Outcome::WorkerLost, 2, NextStep::Failed(Reason::Exhausted)),
        ];
        for (outcome, attempt, expected) in table {
            let step = next_step(&outcome, delivery, attempt, &schedule);
            assert_eq!(step, expected, "{outcome:?} at attempt {attempt}");
        }
    }
}
