//! Refusals: `application/problem+json` (RFC 9457).
//!
//! The one place that knows status codes. A problem says what happened and what to do; what
//! concerns a part of the body is named by its JSON pointer (RFC 6901). Nothing here repeats a
//! payload or a token, or tells how the database is reached.

use crate::publisher::PublishError;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use postrider_core::{EventError, HookError, OtherAccount};
use postrider_store::Error;
use serde::Serialize;
use utoipa::ToSchema;

/// Before each kind's own name in `type`.
const TYPE_PREFIX: &str = "urn:postrider:problem:";
/// When to try again after trouble of ours.
const RETRY_AFTER: u64 = 1;
/// Faults shown at most.
const FAULTS_MAX: usize = 20;

/// What kind of problem it is: its name never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    MalformedJson,
    InvalidParameter,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Timeout,
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    Invalid,
    IdempotencyMismatch,
    RateLimited,
    Internal,
    Unavailable,
}

/// Something is wrong with a part of the body, or with a parameter of the query.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// Where in the body: a JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<String>,
    /// Which parameter of the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<String>,
    /// What is wrong, and what to do.
    pub(crate) detail: String,
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    faults: Vec<Fault>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Kind {
    /// The name in `type`, the title, and the status.
    fn says(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::MalformedJson => ("malformed-json", "Malformed JSON", StatusCode::BAD_REQUEST),
            Self::InvalidParameter => (
                "invalid-parameter",
                "Invalid parameter",
                StatusCode::BAD_REQUEST,
            ),
            Self::Unauthorized => ("unauthorized", "Unauthorized", StatusCode::UNAUTHORIZED),
            Self::Forbidden => ("forbidden", "Forbidden", StatusCode::FORBIDDEN),
            Self::NotFound => ("not-found", "Not found", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => (
                "method-not-allowed",
                "Method not allowed",
                StatusCode::METHOD_NOT_ALLOWED,
            ),
            Self::Timeout => ("timeout", "Timeout", StatusCode::REQUEST_TIMEOUT),
            Self::Conflict => ("conflict", "Conflict", StatusCode::CONFLICT),
            Self::TooLarge => ("too-large", "Too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                "Unsupported media type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ),
            Self::Invalid => ("invalid", "Invalid", StatusCode::UNPROCESSABLE_ENTITY),
            Self::IdempotencyMismatch => (
                "idempotency-mismatch",
                "Another request had this Idempotency-Key",
                StatusCode::UNPROCESSABLE_ENTITY,
            ),
            Self::RateLimited => (
                "rate-limited",
                "Too many requests",
                StatusCode::TOO_MANY_REQUESTS,
            ),
            Self::Internal => (
                "internal",
                "Internal error",
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
            Self::Unavailable => (
                "unavailable",
                "Unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
        }
    }
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let header = match kind {
            Kind::Unavailable => Some(Box::new((
                header::RETRY_AFTER,
                HeaderValue::from(RETRY_AFTER),
            ))),
            _ => None,
        };
        Self {
            kind,
            detail: detail.into(),
            faults: Vec::new(),
            header,
        }
    }

    /// A body that is JSON, but not what is asked for.
    pub(crate) fn invalid(mut faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [only] => only.sentence(),
            _ => format!(
                "{} things are wrong with the body: see errors.",
                faults.len()
            ),
        };
        faults.truncate(FAULTS_MAX);
        Self {
            faults,
            ..Self::new(Kind::Invalid, detail)
        }
    }

    /// A query that is not what is asked for.
    pub(crate) fn parameters(mut faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [only] => only.sentence(),
            _ => format!(
                "{} things are wrong with the query: see errors.",
                faults.len()
            ),
        };
        faults.truncate(FAULTS_MAX);
        Self {
            faults,
            ..Self::new(Kind::InvalidParameter, detail)
        }
    }

    /// What is wrong with the body or the query.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// A caller without a key, or with a `token` that is none.
    pub(crate) fn unauthorized(detail: &str, token: bool) -> Self {
        let challenge = match token {
            true => "Bearer realm=\"postrider\", error=\"invalid_token\"",
            false => "Bearer realm=\"postrider\"",
        };
        Self {
            header: Some(Box::new((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            ))),
            ..Self::new(Kind::Unauthorized, detail)
        }
    }

    /// A caller that asks too often, and may again after `seconds`.
    pub(crate) fn rate_limited(detail: String, seconds: u64) -> Self {
        Self {
            header: Some(Box::new((header::RETRY_AFTER, HeaderValue::from(seconds)))),
            ..Self::new(Kind::RateLimited, detail)
        }
    }
}

impl Fault {
    /// What is wrong at this JSON pointer.
    pub(crate) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            parameter: None,
            detail: detail.into(),
        }
    }

    /// What is wrong with this parameter.
    pub(crate) fn of(parameter: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: None,
            parameter: Some(parameter.into()),
            detail: detail.into(),
        }
    }

    /// The same below `place`, where what was read stands in something larger.
    pub(crate) fn below(mut self, place: &str) -> Self {
        self.pointer = self.pointer.map(|pointer| format!("{place}{pointer}"));
        self
    }

    fn sentence(&self) -> String {
        let place = self.pointer.as_deref().or(self.parameter.as_deref());
        match place {
            None | Some("") => self.detail.clone(),
            Some(place) => format!("{place}: {}", self.detail),
        }
    }
}

/// What is wrong with an event, by its place in the body.
/// The problem of a resource that does not exist, or that is outside the caller's scope.
pub(crate) fn not_found(what: &str, id: &str) -> Problem {
    Problem::new(Kind::NotFound, format!("There is no {what} {id}."))
}

impl From<&EventError> for Fault {
    fn from(error: &EventError) -> Self {
        let pointer = match error {
            EventError::TypeEmpty
            | EventError::TypeTooLong(_)
            | EventError::TypeMalformed(_)
            | EventError::TypeReserved(_) => "/event_type",
            EventError::PayloadMalformed(_) | EventError::PayloadTooLarge(_) => "/payload",
            EventError::Key { what, .. } => match *what {
                "account" => "/account",
                "ordering key" => "/ordering_key",
                _ => "/dedup_key",
            },
            EventError::Headers(_) | EventError::HeadersTooMany => "/headers",
            EventError::DueTooLate { .. } => "/deliver_after",
        };
        Self::at(pointer, error.to_string())
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        let mut problem = Self::invalid(vec![Fault::from(&error)]);
        if let EventError::PayloadTooLarge(_) = error {
            problem.kind = Kind::TooLarge;
        }
        problem
    }
}

impl From<OtherAccount> for Problem {
    fn from(error: OtherAccount) -> Self {
        Self {
            faults: vec![Fault::at("/account", error.to_string())],
            ..Self::new(Kind::Forbidden, error.to_string())
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match &error {
            PublishError::Store(error) => match error.as_ref() {
                Error::Refused(_) => Self::invalid(vec![Fault::at("", error.to_string())]),
                Error::Event(error) => error.clone().into(),
                error if error.is_no_answer() => Self::new(
                    Kind::Unavailable,
                    "The database did not answer, so it is not known whether the event was \
                     recorded. Send it again; an Idempotency-Key or a dedup_key keeps it from \
                     becoming two.",
                ),
                _ => unavailable("The event was not recorded"),
            },
            PublishError::Lost => Self::new(
                Kind::Internal,
                "Postrider failed, and it is not known whether the event was recorded. Send it \
                 again; an Idempotency-Key or a dedup_key keeps it from becoming two.",
            ),
            PublishError::Closed => Self::new(
                Kind::Unavailable,
                "This process is ending and has not recorded the event. Send it again.",
            ),
        }
    }
}

impl From<HookError> for Problem {
    fn from(error: HookError) -> Self {
        let pointer = match &error {
            HookError::Url { .. } => "/url",
            HookError::NoEvents => "/events",
            HookError::Header(..) | HookError::HeadersTooMany => "/headers",
            HookError::Timeout => "/timeout",
            HookError::Account => "/account",
            HookError::NotOrdered => "/on_failure",
            HookError::Zero("in-flight limit") => "/in_flight",
            HookError::Zero("number of failures to back off after") => "/back_off_after",
            HookError::Zero("number of failures to disable after") => "/disable_after_failures",
            _ => "",
        };
        Self::invalid(vec![Fault::at(pointer, error.to_string())])
    }
}

/// What a call of the store came to that was not publishing.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { what, id } => not_found(what, &id),
            Error::Conflict(detail) => Self::new(Kind::Conflict, sentence(&detail)),
            Error::Event(error) => error.into(),
            Error::Hook(error) => error.into(),
            Error::Key(error) => Self::invalid(vec![Fault::at("", error.to_string())]),
            Error::Refused(_) => Self::invalid(vec![Fault::at("", error.to_string())]),
            Error::Seal(error) => Self::new(Kind::Unavailable, sentence(&error.to_string())),
            error if error.is_no_answer() => Self::new(
                Kind::Unavailable,
                "The database did not answer. If the call was to change something, it is not \
                 known whether it did: look, and try again later.",
            ),
            _ => unavailable("The call could not be carried out"),
        }
    }
}

/// Begins with a capital and ends with a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(characters).collect();
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

pub(crate) fn unavailable(what: &str) -> Problem {
    let detail = format!(
        "{what}, because the database cannot be used now; the log of this process says why. Try \
         again later."
    );
    Problem::new(Kind::Unavailable, detail)
}

/// What there is at a path without a route.
pub(crate) async fn nothing_here(uri: Uri) -> Problem {
    let detail = format!("There is nothing at {}.", uri.path());
    Problem::new(Kind::NotFound, detail)
}

/// What a route answers to methods it does not have. The header `allow` names those it has;
/// whoever asks for no more than that with `OPTIONS` gets it.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail = format!("{} cannot be called with {method}.", uri.path());
    Problem::new(Kind::MethodNotAllowed, detail).into_response()
}

/// A refusal (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document {
    /// What kind of problem it is; never changes its meaning.
    r#type: String,
    /// The same in words.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What happened, and what to do.
    detail: String,
    /// What is wrong with the body or the query, each fault by its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (name, title, status) = self.kind.says();
        let document = Document {
            r#type: format!("{TYPE_PREFIX}{name}"),
            title,
            status: status.as_u16(),
            detail: self.detail,
            errors: self.faults,
        };
        // Text and numbers: there is nothing in it that JSON cannot hold.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let kind = (header::CONTENT_TYPE, "application/problem+json");
        let mut response = (status, [kind], body).into_response();
        if let Some((name, value)) = self.header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text_of(response: Response) -> String {
        let body = axum::body::to_bytes(response.into_body(), 10_000).await;
        String::from_utf8(body.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_missing_page_is_a_problem_document() {
        let problem = nothing_here(Uri::from_static("/v1/nothing?key=secret")).await;
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let kind = &response.headers()[header::CONTENT_TYPE];
        assert_eq!(kind, "application/problem+json");
        assert_eq!(
            text_of(response).await,
            r#"{"type":"urn:postrider:problem:not-found","title":"Not found","status":404,"detail":"There is nothing at /v1/nothing."}"#
        );
    }

    #[tokio::test]
    async fn faults_are_named_by_their_pointers_and_not_without_end() {
        let one = Problem::invalid(vec![Fault::at("/account", "must be a string")]);
        assert_eq!(
            text_of(one.into_response()).await,
            r#"{"type":"urn:postrider:problem:invalid","title":"Invalid","status":422,"detail":"/account: must be a string","errors":[{"pointer":"/account","detail":"must be a string"}]}"#
        );
        let many = (0..1_000).map(|n| Fault::at(format!("/{n}"), "no"));
        let many = Problem::invalid(many.collect());
        assert!(many.detail.starts_with("1000 things"), "{}", many.detail);
        assert_eq!(many.faults.len(), FAULTS_MAX);
    }

    #[test]
    fn trouble_of_ours_says_when_to_try_again() {
        let problem: Problem = PublishError::Closed.into();
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
