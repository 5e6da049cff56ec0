//! Calls that publish events once, whichever store records them.

use crate::{EnqueuedOnce, Idempotency};
use postrider_core::EventId;

/// Number of outlived calls that are deleted at a time.
pub(crate) const FORGOTTEN_AT_ONCE: i64 = 100_000;

/// The answer to a call whose key is on record with this digest and these events.
pub(crate) fn answer_to_repeat(
    call: &Idempotency,
    digest: &[u8],
    events: Vec<EventId>,
) -> EnqueuedOnce {
    match digest == call.digest {
        true => EnqueuedOnce::Before(events),
        false => EnqueuedOnce::Mismatch,
    }
}
