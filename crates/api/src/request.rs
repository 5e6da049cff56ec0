//! Extracts the caller and the JSON body of a request.
//!
//! The caller is authenticated before the body is read. The memory of all bodies together is
//! bounded: further requests wait until others have been answered.

use crate::limits::Calls;
use crate::problem::{Problem, ProblemKind, unavailable};
use crate::state::ApiState;
use crate::traces::Followed;
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use postrider_core::{Key, PAYLOAD_MAX_BYTES};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Largest memory of all bodies together, in KiB. Parsing holds a second copy of a body briefly.
pub(crate) const ROOM_KIB: usize = 64 * 1024;
/// The largest body except for batches: the largest payload and the fields around it.
const BODY_MAX_BYTES: usize = PAYLOAD_MAX_BYTES + 32 * 1024;
/// The largest body of a batch.
pub(crate) const BATCH_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Prefix of the paths that publish events.
const PUBLISHING: &str = "/v1/events";
/// Longest time for a caller to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest part of a refused body that is still read, and dropped: closing a connection with
/// unread bytes may lose the answer.
const DRAIN_MAX_BYTES: usize = 16 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// An authenticated request whose body, if any, is ignored.
pub(crate) struct Caller {
    pub(crate) key: Arc<Key>,
}

/// An authenticated request with a JSON body of at most `MAX` bytes.
pub(crate) struct ApiRequest<const MAX: usize = BODY_MAX_BYTES> {
    pub(crate) key: Arc<Key>,
    pub(crate) headers: HeaderMap,
    /// The request's span; `None` when it is not traced.
    pub(crate) followed: Option<Followed>,
    body: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// An authenticated request whose body is optional: an empty body is read as `{}`.
pub(crate) struct OptionalBody(pub(crate) ApiRequest);

impl<const MAX: usize> ApiRequest<MAX> {
    /// The body as text.
    ///
    /// # Errors
    /// 400 when the body is not UTF-8.
    pub(crate) fn text(&self) -> Result<&str, Problem> {
        std::str::from_utf8(&self.body).map_err(|error| {
            let detail = format!("The body is not valid UTF-8: {error}.");
            Problem::new(ProblemKind::MalformedJson, detail)
        })
    }
}

impl FromRequest<Arc<ApiState>> for Caller {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<ApiState>) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let key = admit(&head.headers, shared, Calls::Managing).await;
        drain(body).await;
        Ok(Self { key: key? })
    }
}

impl<const MAX: usize> FromRequest<Arc<ApiState>> for ApiRequest<MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<ApiState>) -> Result<Self, Problem> {
        let (head, mut body) = request.into_parts();
        let taken_in = take_in(head, &mut body, shared).await;
        if taken_in.is_err() {
            drain(body).await;
        }
        taken_in
    }
}

impl FromRequest<Arc<ApiState>> for OptionalBody {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<ApiState>) -> Result<Self, Problem> {
        if !request.body().is_end_stream() {
            return Ok(Self(ApiRequest::from_request(request, shared).await?));
        }
        let (head, _) = request.into_parts();
        Ok(Self(ApiRequest {
            key: admit(&head.headers, shared, Calls::Managing).await?,
            headers: head.headers,
            followed: None,
            body: Bytes::from_static(b"{}"),
            _room: None,
        }))
    }
}

async fn take_in<const MAX: usize>(
    mut head: Parts,
    body: &mut Body,
    shared: &ApiState,
) -> Result<ApiRequest<MAX>, Problem> {
    let headers = head.headers;
    let followed = head.extensions.remove();
    let calls = match head.uri.path().starts_with(PUBLISHING) {
        true => Calls::Publishing,
        false => Calls::Managing,
    };
    let key = admit(&headers, shared, calls).await?;
    check_media_type(&headers)?;
    let length = length(&headers);
    if length.is_some_and(|length| length > MAX) {
        return Err(too_large(MAX));
    }
    let kib = length.unwrap_or(MAX).div_ceil(1024).max(1);
    let capacity = shared
        .capacity
        .clone()
        .acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX))
        .await
        .map_err(|_| Problem::new(ProblemKind::Unavailable, "This process is ending."))?;
    let reading = Limited::new(body, MAX).collect();
    match timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(collected)) => Ok(ApiRequest {
            key,
            headers,
            followed,
            body: collected.to_bytes(),
            _room: Some(capacity),
        }),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(MAX)),
        Ok(Err(_)) => Err(Problem::new(
            ProblemKind::MalformedJson,
            "The request body was truncated: send all of it.",
        )),
        Err(_) => Err(Problem::new(
            ProblemKind::Timeout,
            format!(
                "The body did not arrive within {} s: send it faster.",
                BODY_TIMEOUT.as_secs()
            ),
        )),
    }
}

/// Authenticates the caller and counts the call against its rate limit.
async fn admit(headers: &HeaderMap, shared: &ApiState, calls: Calls) -> Result<Arc<Key>, Problem> {
    let key = authenticate(headers, shared).await?;
    shared.limits.admit(key.id, calls, shared.clock.now())?;
    Ok(key)
}

/// Finds the caller's key by its bearer token (RFC 6750).
async fn authenticate(headers: &HeaderMap, shared: &ApiState) -> Result<Arc<Key>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(Problem::unauthorized(
            "The request has no key: send the header Authorization: Bearer pr_…; create a key with \
             postrider key create.",
            false,
        ));
    };
    let Some(token) = bearer(value) else {
        return Err(Problem::unauthorized(
            "The header Authorization is not of the form Bearer pr_….",
            false,
        ));
    };
    let found = shared.keys.find(token).await;
    let found = found.map_err(|_| unavailable("The key could not be checked"))?;
    found.ok_or_else(|| {
        Problem::unauthorized(
            "This key does not exist or was revoked: postrider key list shows all keys.",
            true,
        )
    })
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let is_json = |value: &HeaderValue| {
        let media_type = value.to_str().unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    };
    if !headers.get(header::CONTENT_TYPE).is_some_and(is_json) {
        return Err(Problem::new(
            ProblemKind::UnsupportedMediaType,
            "The body must be JSON: send it with the header Content-Type: application/json.",
        ));
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Problem::new(
                ProblemKind::UnsupportedMediaType,
                "The body must not be compressed: send it without Content-Encoding.",
            ))
        }
        _ => Ok(()),
    }
}

/// The body's length by its `content-length` header; `None` when it is missing or invalid.
pub(crate) fn length(headers: &HeaderMap) -> Option<usize> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

fn too_large(max: usize) -> Problem {
    Problem::new(
        ProblemKind::TooLarge,
        format!(
            "The body is larger than {max} bytes; a payload has at most \
             {PAYLOAD_MAX_BYTES}: send a reference to large data instead."
        ),
    )
}

/// Reads and drops the rest of a body, within limits, so that a caller that is still sending gets
/// the answer.
pub async fn drain(mut body: Body) {
    let reading = async {
        let mut read = 0;
        while read < DRAIN_MAX_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // A caller that sends longer than that may miss the answer.
    let _ = timeout(DRAIN_TIMEOUT, reading).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_read_as_it_may_be_written() {
        for (value, token) in [
            ("Bearer pr_x", Some("pr_x")),
            ("bearer  pr_x ", Some("pr_x")),
            ("Bearer", None),
            ("Basic cHJfeDo=", None),
            ("pr_x", None),
        ] {
            let value = HeaderValue::from_static(value);
            assert_eq!(bearer(&value), token, "{value:?}");
        }
    }

    #[test]
    fn only_plain_json_is_taken() {
        let checked = |headers: &[(header::HeaderName, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            check_media_type(&headers.collect()).is_ok()
        };
        let kind = header::CONTENT_TYPE;
        for good in ["application/json", "Application/JSON; charset=utf-8"] {
            assert!(checked(&[(kind.clone(), good)]), "{good}");
        }
        for bad in ["text/plain", "application/json5", ""] {
            assert!(!checked(&[(kind.clone(), bad)]), "{bad}");
        }
        assert!(!checked(&[]));
        let encoded = |encoding| {
            let json = (kind.clone(), "application/json");
            checked(&[json, (header::CONTENT_ENCODING, encoding)])
        };
        assert!(encoded("identity"));
        assert!(!encoded("gzip"));
    }
}
