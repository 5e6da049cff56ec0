//! How SOLAPI's API says no: `{"errorCode":…,"errorMessage":…}`, both never empty.

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use postrider_api::{BodyRefused, TestRefused};
use postrider_core::{Credential, RegistrantStatus};
use postrider_store::Error;
use serde::Serialize;

/// A refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SolapiRefusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    error_code: &'a str,
    error_message: &'a str,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    /// Whether it changes something; else it looks.
    pub(super) writes: bool,
    /// Whether account and member must be active, and the account verified.
    pub(super) account: bool,
    pub(super) member: bool,
    pub(super) verified: bool,
}

impl SolapiRefusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            header: None,
        }
    }

    /// A header that proves nothing, or that proves it to nobody.
    pub(super) fn unproven(code: &'static str, message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// There is no header that could prove who calls.
    pub(super) fn unauthorized() -> Self {
        Self {
            header: Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("HMAC-SHA256"),
            )),
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                "send the header Authorization: HMAC-SHA256 apiKey=…, date=…, salt=…, signature=…",
            )
        }
    }

    /// A part of the request that is not as it must be: `'limit' must be a whole number`.
    pub(super) fn invalid(name: &str, rule: &str) -> Self {
        let message = format!("[['{name}' {rule}]]");
        Self::new(StatusCode::BAD_REQUEST, "ValidationError", message)
    }

    pub(super) fn not_found(what: &str, id: &str) -> Self {
        let message = format!("there is no {what} {id}");
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFound", message)
    }

    /// Whether the caller may do this.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn check(credential: &Credential, scope: Scope) -> Result<(), Self> {
        let access = &credential.access;
        let lacks = match scope {
            Scope { writes: true, .. } if !access.write => "the permission webhook:write",
            Scope { writes: false, .. } if !access.read => "the permission webhook:read",
            Scope { account: true, .. } if access.account_status != RegistrantStatus::Active => {
                "an account whose status is ACTIVE"
            }
            Scope { member: true, .. } if access.member_status != RegistrantStatus::Active => {
                "a member whose status is ACTIVE"
            }
            Scope { verified: true, .. } if !access.verified => "a verified account",
            _ => return Ok(()),
        };
        let message = format!("this API key lacks {lacks}");
        Err(Self::new(StatusCode::FORBIDDEN, "Forbidden", message))
    }
}

impl From<BodyRefused> for SolapiRefusal {
    fn from(problem: BodyRefused) -> Self {
        let (status, code) = match problem {
            BodyRefused::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "ValidationError"),
            BodyRefused::Incomplete => (StatusCode::REQUEST_TIMEOUT, "ValidationError"),
            BodyRefused::Busy => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        };
        Self::new(status, code, problem.to_string())
    }
}

impl From<TestRefused> for SolapiRefusal {
    fn from(problem: TestRefused) -> Self {
        match problem {
            TestRefused::TooOften { retry_after } => Self {
                header: Some((header::RETRY_AFTER, HeaderValue::from(retry_after))),
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "TooManyRequests",
                    format!("too many tests; the next in {retry_after} s"),
                )
            },
            TestRefused::NotTried(why) => {
                let message = format!("the test could not be made: {why}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
            }
        }
    }
}

impl From<Error> for SolapiRefusal {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, "ResourceNotFound", error.to_string())
            }
            Error::Hook(problem) => Self::invalid("url", &problem.to_string()),
            // Not 503: SOLAPI's own client sends the same again three times, for nothing.
            _ => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "this cannot be answered now; the log of the server says why",
            ),
        }
    }
}

impl IntoResponse for SolapiRefusal {
    fn into_response(self) -> Response {
        let body = Body {
            error_code: self.code,
            error_message: &self.message,
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// What there is at a path without a route.
pub(super) async fn no_route(uri: Uri) -> SolapiRefusal {
    let path = format!("/webhook{}", uri.path());
    SolapiRefusal::not_found("resource", &path)
}

/// What a route answers to methods it does not have.
pub(super) async fn no_method(method: Method) -> SolapiRefusal {
    let message = format!("this resource cannot be called with {method}");
    SolapiRefusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
}
