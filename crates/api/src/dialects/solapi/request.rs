//! A call of SOLAPI's API: who calls, what is asked for, and the body.
//!
//! Nothing of the body is read before the caller is known and may do what it asks for.

use super::authorization::{Authorization, Unproven};
use super::query::Query;
use super::refusal::Refusal;
use super::{NAME, routes_scope};
use crate::dialects::Desk;
use crate::dialects::body::{may_be_json, take};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, header};
use postrider_core::{Credential, Proof};
use postrider_store::CredentialQuery;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A call by a caller who is known and may do what it asks for.
pub(super) struct Call {
    /// Whose hooks it is about.
    pub(super) account: String,
    /// What stands behind the question mark.
    pub(super) query: Query,
    /// The members of the body; none where the method has no body to speak of.
    pub(super) body: Map<String, Value>,
}

impl FromRequest<Arc<Desk>> for Call {
    type Rejection = Refusal;

    async fn from_request(request: Request, desk: &Arc<Desk>) -> Result<Self, Refusal> {
        let (head, body) = request.into_parts();
        let scope = routes_scope(&head.method, head.uri.path());
        let allowed = match authenticate(&head.headers, desk).await {
            Ok(credential) => Refusal::check(&credential, scope).map(|()| credential),
            Err(refusal) => Err(refusal),
        };
        let credential = match allowed {
            Ok(credential) => credential,
            Err(refusal) => {
                crate::request::drain(body).await;
                return Err(refusal);
            }
        };
        let taken = take(desk, &head.headers, body).await?;
        let body = match head.method {
            Method::POST | Method::PUT => members(&head.headers, &taken.bytes)?,
            _ => Map::new(),
        };
        Ok(Self {
            account: credential.account,
            query: Query::parse(head.uri.query().unwrap_or_default()),
            body,
        })
    }
}

/// Checks the header, and takes its signature.
async fn authenticate(headers: &HeaderMap, desk: &Desk) -> Result<Credential, Refusal> {
    let header = headers.get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let authorization = header.and_then(Authorization::parse);
    let authorization = authorization.ok_or_else(Refusal::unauthorized)?;
    let query = CredentialQuery::Id {
        system: NAME.to_owned(),
        id: authorization.api_key.to_owned(),
    };
    let unknown = || Refusal::unproven("InvalidAPIKey", "there is no such API key");
    let credential = desk.credential(query).await?.ok_or_else(unknown)?;
    let Proof::Secret { secret, .. } = &credential.proof else {
        return Err(unknown());
    };
    let proven = authorization.check(secret, desk.now());
    let proven = proven.map_err(|problem| match problem {
        Unproven::Skewed => Refusal::unproven(
            "RequestTimeTooSkewed",
            "the date must be in ISO 8601 and within 15 minutes of the server's time",
        ),
        Unproven::Salt => Refusal::unproven(
            "SignatureDoesNotMatch",
            "the salt must be 12 to 64 bytes long",
        ),
        Unproven::Signature => Refusal::unproven(
            "SignatureDoesNotMatch",
            "the signature is not the HMAC of date and salt under this key's secret",
        ),
    })?;
    let taken = desk
        .take_signature(&credential, &proven.signature, proven.until)
        .await?;
    if !taken {
        return Err(Refusal::unproven(
            "DuplicatedSignature",
            "this signature was used before: sign each request with a salt of its own",
        ));
    }
    desk.used(&credential).await;
    Ok(credential)
}

fn members(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if !may_be_json(headers) {
        let rule = "must be application/json";
        return Err(Refusal::invalid("Content-Type", rule));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(Refusal::invalid("body", "must be a JSON object")),
    }
}
