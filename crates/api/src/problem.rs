//! Error answers: `application/problem+json` (RFC 9457).
//!
//! The only place with status codes of errors. A problem says what happened and what to do; faults
//! of the body are named by JSON pointers (RFC 6901). Problems never contain payloads, tokens or
//! the address of the database.

mod from_errors;

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Prefix of the kind's name in `type`.
const TYPE_PREFIX: &str = "urn:postrider:problem:";
/// Seconds in `Retry-After` when Postrider is unavailable.
const RETRY_AFTER: u64 = 1;
/// Largest number of faults in an answer.
const FAULTS_MAX: usize = 20;

/// The kinds of problem. Their names in `type` are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProblemKind {
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

/// One fault of the body or the query.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// JSON pointer to the part of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<String>,
    /// Name of the query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<String>,
    /// What is wrong, and what to do.
    pub(crate) detail: String,
}

/// An error answer.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: ProblemKind,
    detail: String,
    faults: Vec<Fault>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl ProblemKind {
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
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let header = match kind {
            ProblemKind::Unavailable => Some(Box::new((
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

    /// The problem of a JSON body with invalid content.
    pub(crate) fn invalid(faults: Vec<Fault>) -> Self {
        Self::faulty(ProblemKind::Invalid, "body", faults)
    }

    /// The problem of a query with invalid parameters.
    pub(crate) fn parameters(faults: Vec<Fault>) -> Self {
        Self::faulty(ProblemKind::InvalidParameter, "query", faults)
    }

    fn faulty(kind: ProblemKind, what: &str, mut faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [only] => only.sentence(),
            all => format!(
                "{} things are wrong with the {what}: see errors.",
                all.len()
            ),
        };
        faults.truncate(FAULTS_MAX);
        Self {
            faults,
            ..Self::new(kind, detail)
        }
    }

    #[cfg(test)]
    pub(crate) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The problem of a caller without a valid key. `token`: whether one was sent.
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
            ..Self::new(ProblemKind::Unauthorized, detail)
        }
    }

    /// The problem of a caller over its rate limit, which may call again after `seconds`.
    pub(crate) fn rate_limited(detail: String, seconds: u64) -> Self {
        Self {
            header: Some(Box::new((header::RETRY_AFTER, HeaderValue::from(seconds)))),
            ..Self::new(ProblemKind::RateLimited, detail)
        }
    }
}

impl Fault {
    /// A fault of the body at a JSON pointer.
    pub(crate) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            parameter: None,
            detail: detail.into(),
        }
    }

    /// A fault of a query parameter.
    pub(crate) fn of(parameter: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: None,
            parameter: Some(parameter.into()),
            detail: detail.into(),
        }
    }

    /// Prefixes the pointer with `place`, the position of the value inside a larger body.
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

/// The problem of a resource that does not exist, or that is outside the caller's scope.
pub(crate) fn not_found(what: &str, id: &str) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("There is no {what} {id}."))
}

pub(crate) fn unavailable(what: &str) -> Problem {
    let detail = format!(
        "{what}, because the database is unavailable; the log of this process says why. Try again \
         later."
    );
    Problem::new(ProblemKind::Unavailable, detail)
}

/// The answer at a path without a route.
pub(crate) async fn nothing_here(uri: Uri) -> Problem {
    let detail = format!("There is nothing at {}.", uri.path());
    Problem::new(ProblemKind::NotFound, detail)
}

/// The answer of a route to a method that it does not have. The header `allow` lists its methods,
/// which is the whole answer to `OPTIONS`.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail = format!("{} cannot be called with {method}.", uri.path());
    Problem::new(ProblemKind::MethodNotAllowed, detail).into_response()
}

/// An error answer (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document {
    /// The stable identifier of the kind of problem.
    r#type: String,
    /// The kind of problem in words.
    title: &'static str,
    /// The HTTP status of the answer.
    status: u16,
    /// What happened, and what to do.
    detail: String,
    /// The faults of the body or the query.
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
        // Texts and numbers only: serializing cannot fail.
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
}
