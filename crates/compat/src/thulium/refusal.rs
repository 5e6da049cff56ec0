//! How Thulium's API says no: `{"request_id":…,"errors":[{"message":…,"code":…}]}`, with all
//! that is wrong at once, in English or, if the caller prefers it, in Polish.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use postrider_api::BodyRefused;
use postrider_core::Timestamp;
use postrider_store::Error;
use serde::Serialize;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Something that is wrong. Its code never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NoCredentials,
    WrongCredentials,
    Forbidden,
    NoHook,
    NoRoute,
    NoMethod,
    NotJson,
    TooLarge,
    Incomplete,
    Busy,
    Malformed,
    Actions,
    Action,
    Url(String),
    NotText(&'static str),
    Internal,
}

/// A refusal: the status, and all that is wrong.
#[derive(Debug)]
pub(super) struct ThuliumRefusal {
    status: StatusCode,
    faults: Vec<Fault>,
    is_polish: bool,
    request_id: String,
}

#[derive(Serialize)]
struct Body<'a> {
    request_id: &'a str,
    errors: Vec<Told>,
}

#[derive(Serialize)]
struct Told {
    message: String,
    code: u32,
}

/// What a refusal says of the request that it answers.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    is_polish: bool,
    request_id: String,
}

impl Fault {
    /// Its code, and what it is called in English and in Polish.
    fn says(&self) -> (u32, String, String) {
        let (code, english, polish) = match self {
            Self::NoCredentials => (
                401_001,
                "Authentication required: send HTTP Basic credentials.",
                "Wymagane uwierzytelnienie: wyślij dane HTTP Basic.",
            ),
            Self::WrongCredentials => (
                401_002,
                "Wrong user or password.",
                "Nieprawidłowy użytkownik lub hasło.",
            ),
            Self::Forbidden => (
                403_001,
                "This API user may not do this.",
                "Ten użytkownik API nie ma uprawnień do tej operacji.",
            ),
            Self::NoHook => (
                404_001,
                "There is no such webhook.",
                "Nie ma takiego webhooka.",
            ),
            Self::NoRoute => (
                404_002,
                "There is no such resource.",
                "Nie ma takiego zasobu.",
            ),
            Self::NoMethod => (
                405_001,
                "This resource cannot be called with this method.",
                "Tego zasobu nie można wywołać tą metodą.",
            ),
            Self::NotJson => (
                415_001,
                "The body must be JSON: send Content-Type: application/json.",
                "Treść musi być w formacie JSON: wyślij Content-Type: application/json.",
            ),
            Self::TooLarge => (413_001, "The body is too large.", "Treść jest zbyt duża."),
            Self::Incomplete => (
                408_001,
                "The body did not arrive in time.",
                "Treść nie dotarła w całości na czas.",
            ),
            Self::Busy => (
                429_001,
                "Too many requests; try again later.",
                "Zbyt wiele żądań; spróbuj później.",
            ),
            Self::Malformed => (
                400_001,
                "The body must be a JSON object.",
                "Treść musi być obiektem JSON.",
            ),
            Self::Actions => (
                400_101,
                "actions must be an array of at least one name.",
                "actions musi być tablicą co najmniej jednej nazwy.",
            ),
            Self::Action => (
                400_102,
                "A name in actions must be written in capitals, such as CHAT_CONVERSATION_CREATED.",
                "Nazwa w actions musi być zapisana wielkimi literami, np. CHAT_CONVERSATION_CREATED.",
            ),
            Self::Url(why) => {
                return (
                    400_103,
                    format!("subscription_url cannot be used: {why}."),
                    "subscription_url jest nieprawidłowy: podaj adres http:// lub https://.".into(),
                );
            }
            Self::NotText(name) => {
                return (
                    400_104,
                    format!("{name} must be a string."),
                    format!("{name} musi być tekstem."),
                );
            }
            Self::Internal => (
                500_001,
                "This cannot be answered now; try again later.",
                "Nie można teraz odpowiedzieć; spróbuj później.",
            ),
        };
        (code, english.into(), polish.into())
    }

    fn status(&self) -> StatusCode {
        let (code, ..) = self.says();
        u16::try_from(code / 1_000)
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::BAD_REQUEST)
    }
}

impl From<BodyRefused> for Fault {
    fn from(problem: BodyRefused) -> Self {
        match problem {
            BodyRefused::TooLarge => Self::TooLarge,
            BodyRefused::Incomplete => Self::Incomplete,
            BodyRefused::Busy => Self::Busy,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { .. } => Self::NoHook,
            Error::Hook(problem) => Self::Url(problem.to_string()),
            _ => Self::Internal,
        }
    }
}

impl Asked {
    /// What matters of a request's headers, and an id for it.
    pub(super) fn of(headers: &HeaderMap, now: Timestamp) -> Self {
        let language = headers.get(header::ACCEPT_LANGUAGE);
        let language = language.and_then(|value| value.to_str().ok());
        Self {
            is_polish: prefers_polish(language.unwrap_or_default()),
            request_id: format!(
                "{:08x}{:05x}",
                now.timestamp().unsigned_abs() & 0xffff_ffff,
                now.timestamp_subsec_micros()
            ),
        }
    }

    /// A refusal for one reason.
    pub(super) fn refused(&self, fault: impl Into<Fault>) -> ThuliumRefusal {
        self.refused_for_all(vec![fault.into()])
    }

    /// A refusal for these reasons, the first of which decides the status.
    pub(super) fn refused_for_all(&self, faults: Vec<Fault>) -> ThuliumRefusal {
        ThuliumRefusal {
            status: faults
                .first()
                .map_or(StatusCode::BAD_REQUEST, Fault::status),
            faults,
            is_polish: self.is_polish,
            request_id: self.request_id.clone(),
        }
    }
}

/// Whether Polish is the first language that is asked for.
fn prefers_polish(languages: &str) -> bool {
    let first = languages.split(',').next().unwrap_or_default();
    let tag = first.split([';', '-']).next().unwrap_or_default();
    tag.trim().eq_ignore_ascii_case("pl")
}

impl IntoResponse for ThuliumRefusal {
    fn into_response(self) -> Response {
        let told = self.faults.iter().map(|fault| {
            let (code, english, polish) = fault.says();
            let message = match self.is_polish {
                true => polish,
                false => english,
            };
            Told { message, code }
        });
        let body = Body {
            request_id: &self.request_id,
            errors: told.collect(),
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&self.request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"Thulium API\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// What there is at a path without a route.
pub(super) async fn no_route(
    registrar: axum::extract::State<std::sync::Arc<postrider_api::Registrar>>,
    headers: HeaderMap,
) -> ThuliumRefusal {
    Asked::of(&headers, registrar.now()).refused(Fault::NoRoute)
}

/// What a route answers to methods it does not have.
pub(super) async fn no_method(
    registrar: axum::extract::State<std::sync::Arc<postrider_api::Registrar>>,
    headers: HeaderMap,
) -> ThuliumRefusal {
    Asked::of(&headers, registrar.now()).refused(Fault::NoMethod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    async fn told(language: &'static str, faults: Vec<Fault>) -> (Response, String) {
        let headers = [(header::ACCEPT_LANGUAGE, HeaderValue::from_static(language))];
        let now = DateTime::from_timestamp(0x5367_8450, 263_631_000).unwrap_or_default();
        let asked = Asked::of(&headers.into_iter().collect(), now);
        let response = asked.refused_for_all(faults).into_response();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 10_000).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        (
            Response::from_parts(head, ().into_response().into_body()),
            text,
        )
    }

    #[tokio::test]
    async fn all_faults_are_reported_at_once() {
        let faults = vec![Fault::Actions, Fault::NotText("http_auth_user")];
        let (response, text) = told("en", faults).await;
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[REQUEST_ID], "53678450405cf");
        assert_eq!(
            text,
            r#"{"request_id":"53678450405cf","errors":[{"message":"actions must be an array of at least one name.","code":400101},{"message":"http_auth_user must be a string.","code":400104}]}"#
        );
    }

    #[tokio::test]
    async fn a_caller_without_credentials_is_asked_for_them() {
        let (response, _) = told("", vec![Fault::NoCredentials]).await;
        assert_eq!(response.status(), 401);
        let challenge = &response.headers()[header::WWW_AUTHENTICATE];
        assert_eq!(challenge, "Basic realm=\"Thulium API\"");
    }

    #[tokio::test]
    async fn polish_is_spoken_to_those_who_prefer_it() {
        let (_, text) = told("pl-PL,pl;q=0.9,en;q=0.8", vec![Fault::NoHook]).await;
        assert!(text.contains("Nie ma takiego webhooka."), "{text}");
        let (_, text) = told("en,pl;q=0.9", vec![Fault::NoHook]).await;
        assert!(text.contains("There is no such webhook."), "{text}");
    }
}
