//! The header `Idempotency-Key`: repeats of a publishing call have no further effect.
//!
//! A call with this header has its own commit, and so has a batch. Few of these commits run at a
//! time, so that enough database connections remain for single events.

use crate::problem::{Fault, Problem, ProblemKind};
use crate::publisher::PublishError;
use crate::request::ApiRequest;
use crate::state::ApiState;
use axum::http::{HeaderName, HeaderValue};
use postrider_core::{EventId, NewEvent};
use postrider_store::{EnqueuedOnce, Error, Idempotency};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The header's name.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest key, in bytes.
const KEY_MAX_BYTES: usize = 255;

/// The identity of a call, by which repeats are recognized; `None` without the header.
///
/// # Errors
/// When the header is repeated, or its value is not a valid key.
pub(crate) fn of<const MAX: usize>(
    call: &ApiRequest<MAX>,
    route: &str,
) -> Result<Option<Idempotency>, Problem> {
    let mut given = call.headers.get_all(HEADER).iter();
    let (Some(value), another) = (given.next(), given.next()) else {
        return Ok(None);
    };
    let key = key_of(value).filter(|_| another.is_none()).ok_or_else(|| {
        let detail =
            format!("must be given once, and be 1 to {KEY_MAX_BYTES} visible characters of ASCII");
        Problem::parameters(vec![Fault::of("Idempotency-Key", detail)])
    })?;
    let mut digest = Sha256::new();
    digest.update(route);
    digest.update([0]);
    digest.update(call.text()?);
    Ok(Some(Idempotency {
        caller: call.key.id,
        key: key.to_owned(),
        digest: digest.finalize().into(),
    }))
}

/// The problem of a commit that returned no id: a fault of Postrider.
pub(crate) fn no_id() -> Problem {
    PublishError::Lost.into()
}

fn key_of(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let fits = (1..=KEY_MAX_BYTES).contains(&text.len());
    (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(text)
}

impl ApiState {
    /// Commits events together.
    pub(crate) async fn publish_together(
        &self,
        events: &[NewEvent],
    ) -> Result<Vec<EventId>, Problem> {
        let _turn = self.commit_turns.acquire().await;
        let ids = self.store.enqueue(events).await;
        self.committed(ids)
    }

    /// Commits events together, or returns the ids of an earlier call with the same key and body.
    pub(crate) async fn publish_once(
        &self,
        call: &Idempotency,
        events: &[NewEvent],
    ) -> Result<Vec<EventId>, Problem> {
        let _turn = self.commit_turns.acquire().await;
        let told = self
            .store
            .enqueue_once(call, events, self.clock.now())
            .await;
        match told {
            Ok(EnqueuedOnce::Now(ids)) => self.committed(Ok(ids)),
            Ok(EnqueuedOnce::Before(ids)) => Ok(ids),
            Ok(EnqueuedOnce::Mismatch) => Err(Problem::new(
                ProblemKind::IdempotencyMismatch,
                "A call with this Idempotency-Key and another body was made within the last 24 \
                 hours: nothing was published. Use a new key for each call, and repeat a key \
                 only with the same body, byte for byte.",
            )),
            Err(error) => self.committed(Err(error)),
        }
    }

    fn committed(&self, ids: Result<Vec<EventId>, Error>) -> Result<Vec<EventId>, Problem> {
        match ids {
            Ok(ids) => {
                self.trouble.passed();
                (self.published)();
                Ok(ids)
            }
            Err(error) => {
                if !matches!(error, Error::Refused(_) | Error::Event(_)) {
                    self.trouble.met(&error);
                }
                Err(PublishError::Store(Arc::new(error)).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_of_some_length() {
        for good in ["a", "order-7/attempt#1", &"x".repeat(255)] {
            let value = HeaderValue::from_str(good).unwrap();
            assert_eq!(key_of(&value), Some(good));
        }
        for bad in ["", "a b", "\"\u{e4}\"", &"x".repeat(256)] {
            let value = HeaderValue::from_bytes(bad.as_bytes()).unwrap();
            assert_eq!(key_of(&value), None, "{bad}");
        }
    }
}
