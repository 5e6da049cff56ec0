//! The representation of an attempt in answers.

use postrider_core::{Attempt, AttemptId, Timestamp};
use postrider_store::AttemptReport;
use serde::Serialize;
use utoipa::ToSchema;

/// One request made for a delivery, and its outcome.
#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptBody {
    /// The attempt's id.
    #[schema(value_type = String, format = "uuid")]
    id: AttemptId,
    /// Number of the attempt within its delivery, from 1.
    number: u32,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// `accepted`, `refused`, `timed_out`, `unreachable`, `blocked` or `worker_lost`.
    outcome: String,
    /// The HTTP status of the answer; `null` when there was none.
    #[schema(required)]
    status: Option<u16>,
    /// Why the attempt failed; `null` when it was accepted.
    #[schema(required)]
    error: Option<String>,
    /// Duration of the exchange, in milliseconds.
    duration_ms: u32,
    /// The beginning of the response's body; bytes that are not UTF-8 are replaced.
    #[schema(required)]
    response: Option<String>,
    /// Whether the lease had been lost when the attempt ended: a late attempt does not change its
    /// delivery.
    late: bool,
}

impl From<AttemptReport> for AttemptBody {
    fn from(attempt: AttemptReport) -> Self {
        Self {
            id: attempt.id,
            number: attempt.number,
            at: attempt.at,
            outcome: attempt.outcome,
            status: attempt.status,
            error: attempt.error,
            duration_ms: attempt.duration_ms,
            response: attempt.response,
            late: attempt.late,
        }
    }
}

/// The attempt of a test event, which is not recorded.
impl From<Attempt> for AttemptBody {
    fn from(attempt: Attempt) -> Self {
        let response = String::from_utf8_lossy(&attempt.response);
        Self {
            id: attempt.id,
            number: attempt.number,
            at: attempt.at,
            outcome: attempt.outcome.name().into(),
            status: attempt.outcome.status(),
            error: attempt.error(),
            duration_ms: u32::try_from(attempt.duration.as_millis()).unwrap_or(u32::MAX),
            response: (!response.is_empty()).then(|| response.into_owned()),
            late: false,
        }
    }
}
