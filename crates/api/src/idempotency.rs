//! The header `Idempotency-Key`: a publishing call that has one effect however often it is made.
//!
//! Such a call has a commit of its own, and so does a batch. A few of them are made at a time,
//! so that they keep no connection of the database from single events.

use crate::problem::{Fault, Kind, Problem};
use crate::publisher::PublishError;
use crate::request::Call;
use crate::state::ApiState;
use axum::http::{HeaderName, HeaderValue};
use postrider_core::{EventId, NewEvent};
use postrider_store::{EnqueuedOnce, Error, Idempotency};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The header.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest key, in bytes.
const KEY_MAX_BYTES: usize = 255;

/// What makes repeats of this call known, if the caller says it.
///
/// # Errors
/// When what the caller says cannot be a key.
pub(crate) fn of<const MAX: usize>(
    call: &Call<MAX>,
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

/// A call was answered without the id it must have.
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

    /// Commits events together, unless the call was made before.
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
                Kind::IdempotencyMismatch,
                "A call with this Idempotency-Key and another body was made within the last 24 \
                 hours: nothing was done. Use a new key for each call, and the same only to \
                 repeat it byte for byte.",
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
