//! Takes the body of a registrant's request in.
//!
//! Some dialects carry what proves the caller in the body, so that it must be read before the
//! caller is known. Therefore bodies are small here, and all together have a capacity of their own:
//! strangers cannot take that of those who publish.

use super::registrar::Registrar;
use crate::request::{drain, length};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// The largest body.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// How long a caller may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for others.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The whole body of a request; its place is held as long as it is.
pub struct RequestBody {
    /// The bytes of the body.
    pub bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

/// The body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyRefused {
    /// More than 64 KiB.
    #[error("the body is larger than {BODY_MAX_BYTES} bytes")]
    TooLarge,
    /// It did not end, or came too slowly.
    #[error("the body did not arrive as a whole within {} s", BODY_TIMEOUT.as_secs())]
    Incomplete,
    /// Too many others are sending theirs.
    #[error("too many requests are under way; try again later")]
    Busy,
}

/// Reads the whole body. What is left of one that is refused is read for a while, so that the
/// caller gets the answer.
pub async fn read_body(
    registrar: &Registrar,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<RequestBody, BodyRefused> {
    let taken = read(registrar, headers, &mut body).await;
    if taken.is_err() {
        drain(body).await;
    }
    taken
}

async fn read(
    registrar: &Registrar,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<RequestBody, BodyRefused> {
    if length(headers).is_some_and(|length| length > BODY_MAX_BYTES) {
        return Err(BodyRefused::TooLarge);
    }
    let place = timeout(PERMIT_TIMEOUT, registrar.bodies.clone().acquire_owned()).await;
    let Ok(Ok(place)) = place else {
        return Err(BodyRefused::Busy);
    };
    match timeout(BODY_TIMEOUT, Limited::new(body, BODY_MAX_BYTES).collect()).await {
        Ok(Ok(collected)) => Ok(RequestBody {
            bytes: collected.to_bytes(),
            _place: place,
        }),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyRefused::TooLarge),
        Ok(Err(_)) | Err(_) => Err(BodyRefused::Incomplete),
    }
}

/// Whether the body says that it is JSON, or does not say what it is.
pub fn may_be_json(headers: &HeaderMap) -> bool {
    let is_json = |value: &HeaderValue| {
        let media_type = value.to_str().unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    };
    headers.get(header::CONTENT_TYPE).is_none_or(is_json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_may_be_called_so_in_several_ways() {
        let said = |kind: &'static str| {
            let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
            may_be_json(&headers.into_iter().collect())
        };
        assert!(may_be_json(&HeaderMap::new()));
        assert!(said("application/json") && said("Application/JSON; charset=utf-8"));
        assert!(!said("application/x-www-form-urlencoded") && !said("text/json5"));
    }
}
