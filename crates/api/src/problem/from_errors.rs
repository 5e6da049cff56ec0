//! The problem that an error becomes.

use super::{Fault, Problem, ProblemKind, not_found, unavailable};
use crate::publisher::PublishError;
use postrider_core::{EventError, HookError, OtherAccount};
use postrider_store::Error;

/// The fault of an event, with its position in the body.
impl From<&EventError> for Fault {
    fn from(error: &EventError) -> Self {
        Self::at(format!("/{}", error.field()), error.to_string())
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        let kind = match error {
            EventError::PayloadTooLarge(_) => ProblemKind::TooLarge,
            _ => ProblemKind::Invalid,
        };
        Self::faulty(kind, "body", vec![Fault::from(&error)])
    }
}

impl From<OtherAccount> for Problem {
    fn from(error: OtherAccount) -> Self {
        Self {
            faults: vec![Fault::at("/account", error.to_string())],
            ..Self::new(ProblemKind::Forbidden, error.to_string())
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
                    ProblemKind::Unavailable,
                    "The database did not answer, so it is not known whether the event was \
                     recorded. Send it again; an Idempotency-Key or a dedup_key keeps it from \
                     becoming two.",
                ),
                _ => unavailable("The event was not recorded"),
            },
            PublishError::Lost => Self::new(
                ProblemKind::Internal,
                "Postrider failed, and it is not known whether the event was recorded. Send it \
                 again; an Idempotency-Key or a dedup_key keeps it from becoming two.",
            ),
            PublishError::Closed => Self::new(
                ProblemKind::Unavailable,
                "This process is ending and has not recorded the event. Send it again.",
            ),
        }
    }
}

impl From<HookError> for Problem {
    fn from(error: HookError) -> Self {
        let pointer = error.field().map(|field| format!("/{field}"));
        let detail = match &error {
            HookError::Setting(error) => error.why.clone(),
            error => error.to_string(),
        };
        Self::invalid(vec![Fault::at(pointer.unwrap_or_default(), detail)])
    }
}

/// The problem of a failed call of the store, except for publishing.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { what, id } => not_found(what, &id),
            Error::Conflict(detail) => Self::new(ProblemKind::Conflict, sentence(&detail)),
            Error::Event(error) => error.into(),
            Error::Hook(error) => error.into(),
            Error::Key(error) => Self::invalid(vec![Fault::at("", error.to_string())]),
            Error::Refused(_) => Self::invalid(vec![Fault::at("", error.to_string())]),
            Error::Seal(error) => Self::new(ProblemKind::Unavailable, sentence(&error.to_string())),
            error if error.is_no_answer() => Self::new(
                ProblemKind::Unavailable,
                "The database did not answer. A change may or may not have been made: check, and \
                 try again later.",
            ),
            _ => unavailable("The call could not be carried out"),
        }
    }
}

/// The text with a capital first letter and a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(characters).collect();
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{StatusCode, header};
    use axum::response::IntoResponse;

    #[test]
    fn trouble_of_ours_says_when_to_try_again() {
        let problem: Problem = PublishError::Closed.into();
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
