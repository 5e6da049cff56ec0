//! How Misskey's API says no: `{"error":{"message":…,"code":…,"id":…,"kind":…}}`, each code
//! with an id and a status of its own.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use postrider_api::{BodyRefused, TestRefused};
use postrider_core::HookError;
use postrider_store::Error;
use serde::Serialize;

/// A kind of refusal, as Misskey's sources have it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Code {
    code: &'static str,
    id: &'static str,
    message: &'static str,
    kind: Kind,
    /// Where it is not what the kind says.
    status: Option<StatusCode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Client,
    Permission,
    Server,
}

const fn client(code: &'static str, id: &'static str, message: &'static str) -> Code {
    Code {
        code,
        id,
        message,
        kind: Kind::Client,
        status: None,
    }
}

const fn with_status(code: Code, status: StatusCode) -> Code {
    Code {
        status: Some(status),
        ..code
    }
}

pub(super) const TOO_MANY_WEBHOOKS: Code = client(
    "TOO_MANY_WEBHOOKS",
    "87a9bb19-111e-4e37-81d3-a3e7426453b0",
    "You cannot create webhook any more.",
);

/// There is no such hook; each route has an id of its own for it.
pub(super) const fn no_such_webhook(id: &'static str) -> Code {
    client("NO_SUCH_WEBHOOK", id, "No such webhook.")
}

const INVALID_PARAM: Code = client(
    "INVALID_PARAM",
    "3d81ceae-475f-4600-b2a8-2bc116157532",
    "Invalid param.",
);

pub(super) const CREDENTIAL_REQUIRED: Code = with_status(
    client(
        "CREDENTIAL_REQUIRED",
        "1384574d-a912-4b81-8601-c7b1c4085df1",
        "Credential required.",
    ),
    StatusCode::UNAUTHORIZED,
);

pub(super) const AUTHENTICATION_FAILED: Code = with_status(
    client(
        "AUTHENTICATION_FAILED",
        "b0a7f5f8-dc2f-4171-b91f-de88ad238e14",
        "Authentication failed. Please ensure your token is correct.",
    ),
    StatusCode::UNAUTHORIZED,
);

pub(super) const PERMISSION_DENIED: Code = Code {
    code: "PERMISSION_DENIED",
    id: "1370e5b7-d4eb-4566-bb1d-7748ee6a1838",
    message: "Your app does not have the necessary permissions to use this endpoint.",
    kind: Kind::Permission,
    status: None,
};

pub(super) const ACCESS_DENIED: Code = client(
    "ACCESS_DENIED",
    "56f35758-7dd5-468b-8439-5d6fb8ec9b8e",
    "Access denied.",
);

pub(super) const YOUR_ACCOUNT_SUSPENDED: Code = Code {
    code: "YOUR_ACCOUNT_SUSPENDED",
    id: "a8c724b3-6e9c-4b46-b1a8-bc3ed6258370",
    message: "Your account has been suspended.",
    kind: Kind::Permission,
    status: None,
};

const RATE_LIMIT_EXCEEDED: Code = with_status(
    client(
        "RATE_LIMIT_EXCEEDED",
        "d5826d14-3982-4d2e-8011-b9e9f02499ef",
        "Rate limit exceeded. Please try again later.",
    ),
    StatusCode::TOO_MANY_REQUESTS,
);

const UNKNOWN_API_ENDPOINT: Code = with_status(
    client(
        "UNKNOWN_API_ENDPOINT",
        "2ca3b769-540a-4f08-9dd5-b5a825b6d0f1",
        "Unknown API endpoint.",
    ),
    StatusCode::NOT_FOUND,
);

/// Not one of Misskey's.
const METHOD_NOT_ALLOWED: Code = with_status(
    client(
        "METHOD_NOT_ALLOWED",
        "7c1f0a52-4b3e-4c8b-9a53-0a2d5e0f4d16",
        "Call this endpoint with POST.",
    ),
    StatusCode::METHOD_NOT_ALLOWED,
);

const INTERNAL_ERROR: Code = Code {
    code: "INTERNAL_ERROR",
    id: "5d37dbcb-891e-41ca-a3d6-e690c97775ac",
    message: "Internal error occurred. Please contact us if the error persists.",
    kind: Kind::Server,
    status: None,
};

/// A refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MisskeyRefusal {
    /// For one of the known reasons.
    Known {
        code: Code,
        info: Option<Info>,
        retry_after: Option<u64>,
    },
    /// The token is not even a text; there is nothing to say.
    Unspeakable,
}

/// Which parameter is invalid, by its place in the schema, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Info {
    pub(super) param: String,
    pub(super) reason: String,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Told<'a>,
}

#[derive(Serialize)]
struct Told<'a> {
    message: &'a str,
    code: &'a str,
    id: &'a str,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a Info>,
}

impl MisskeyRefusal {
    pub(super) fn invalid(param: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Known {
            code: INVALID_PARAM,
            info: Some(Info {
                param: param.into(),
                reason: reason.into(),
            }),
            retry_after: None,
        }
    }

    /// The same of a parameter that is a member of the parameter `name`.
    pub(super) fn within(mut self, name: &str) -> Self {
        if let Self::Known {
            info: Some(info), ..
        } = &mut self
        {
            info.param = info.param.replacen('#', &format!("#/properties/{name}"), 1);
        }
        self
    }
}

impl From<Code> for MisskeyRefusal {
    fn from(code: Code) -> Self {
        Self::Known {
            code,
            info: None,
            retry_after: None,
        }
    }
}

impl From<Error> for MisskeyRefusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Hook(HookError::TooMany(_)) => TOO_MANY_WEBHOOKS.into(),
            Error::Hook(HookError::Token) => {
                let rule = "must not have control characters: it is sent in a header";
                Self::invalid("#/properties/secret/pattern", rule)
            }
            Error::Hook(problem) => Self::invalid("#/properties/url/format", problem.to_string()),
            _ => INTERNAL_ERROR.into(),
        }
    }
}

impl From<BodyRefused> for MisskeyRefusal {
    fn from(problem: BodyRefused) -> Self {
        let (code, status, retry_after) = match problem {
            BodyRefused::TooLarge => (INVALID_PARAM, StatusCode::PAYLOAD_TOO_LARGE, None),
            BodyRefused::Incomplete => (INVALID_PARAM, StatusCode::REQUEST_TIMEOUT, None),
            BodyRefused::Busy => (RATE_LIMIT_EXCEEDED, StatusCode::TOO_MANY_REQUESTS, Some(1)),
        };
        Self::Known {
            code: with_status(code, status),
            info: Some(Info {
                param: "#".into(),
                reason: problem.to_string(),
            }),
            retry_after,
        }
    }
}

impl From<TestRefused> for MisskeyRefusal {
    fn from(problem: TestRefused) -> Self {
        match problem {
            TestRefused::TooOften { retry_after } => Self::Known {
                code: RATE_LIMIT_EXCEEDED,
                info: None,
                retry_after: Some(retry_after),
            },
            TestRefused::NotTried(_) => INTERNAL_ERROR.into(),
        }
    }
}

impl Code {
    fn status(&self) -> StatusCode {
        self.status.unwrap_or(match self.kind {
            Kind::Client => StatusCode::BAD_REQUEST,
            Kind::Permission => StatusCode::FORBIDDEN,
            Kind::Server => StatusCode::INTERNAL_SERVER_ERROR,
        })
    }

    /// What `WWW-Authenticate` says (RFC 6750); some refusals have none.
    fn challenge(&self) -> Option<String> {
        let error = |name| {
            let message = self.message;
            format!("Bearer realm=\"Misskey\", error=\"{name}\", error_description=\"{message}\"")
        };
        match self.code {
            "CREDENTIAL_REQUIRED" => Some("Bearer realm=\"Misskey\"".into()),
            "AUTHENTICATION_FAILED" => Some(error("invalid_token")),
            "PERMISSION_DENIED" => Some(error("insufficient_scope")),
            _ if self.kind == Kind::Client && self.status() == StatusCode::BAD_REQUEST => {
                Some(error("invalid_request"))
            }
            _ => None,
        }
    }
}

impl IntoResponse for MisskeyRefusal {
    fn into_response(self) -> Response {
        let Self::Known {
            code,
            info,
            retry_after,
        } = self
        else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let body = Body {
            error: Told {
                message: code.message,
                code: code.code,
                id: code.id,
                kind: code.kind,
                info: info.as_ref(),
            },
        };
        let mut response = (code.status(), axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(challenge) = code
            .challenge()
            .and_then(|c| HeaderValue::from_str(&c).ok())
        {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What there is at a path without a route.
pub(super) async fn no_route() -> MisskeyRefusal {
    UNKNOWN_API_ENDPOINT.into()
}

/// What a route answers to methods other than POST.
pub(super) async fn no_method() -> MisskeyRefusal {
    METHOD_NOT_ALLOWED.into()
}
