//! A call of SOLAPI's API: who calls, what is asked for, and the body.
//!
//! Nothing of the body is read before the caller is known and may do what it asks for.

use super::authorization::{Authorization, Unproven};
use super::query::Query;
use super::refusal::SolapiRefusal;
use super::{NAME, routes_scope};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, header};
use postrider_api::{Registrar, may_be_json, read_body};
use postrider_core::{Credential, Proof};
use postrider_store::CredentialQuery;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A call by a caller who is known and may do what it asks for.
pub(super) struct SolapiRequest {
    /// Whose hooks it is about.
    pub(super) account: String,
    /// What stands behind the question mark.
    pub(super) query: Query,
    /// The members of the body; none where the method has no body to speak of.
    pub(super) body: Map<String, Value>,
}

impl FromRequest<Arc<Registrar>> for SolapiRequest {
    type Rejection = SolapiRefusal;

    async fn from_request(
        request: Request,
        registrar: &Arc<Registrar>,
    ) -> Result<Self, SolapiRefusal> {
        let (head, body) = request.into_parts();
        let scope = routes_scope(&head.method, head.uri.path());
        let allowed = match authenticate(&head.headers, registrar).await {
            Ok(credential) => SolapiRefusal::check(&credential, scope).map(|()| credential),
            Err(refusal) => Err(refusal),
        };
        let credential = match allowed {
            Ok(credential) => credential,
            Err(refusal) => {
                postrider_api::drain(body).await;
                return Err(refusal);
            }
        };
        let taken = read_body(registrar, &head.headers, body).await?;
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
async fn authenticate(
    headers: &HeaderMap,
    registrar: &Registrar,
) -> Result<Credential, SolapiRefusal> {
    let header = headers.get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let authorization = header.and_then(Authorization::parse);
    let authorization = authorization.ok_or_else(SolapiRefusal::unauthorized)?;
    let query = CredentialQuery::Id {
        system: NAME.to_owned(),
        id: authorization.api_key.to_owned(),
    };
    let unknown = || SolapiRefusal::unproven("InvalidAPIKey", "there is no such API key");
    let credential = registrar.credential(query).await?.ok_or_else(unknown)?;
    let Proof::Secret { secret, .. } = &credential.proof else {
        return Err(unknown());
    };
    let proven = authorization.check(secret, registrar.now());
    let proven = proven.map_err(|problem| match problem {
        Unproven::Skewed => SolapiRefusal::unproven(
            "RequestTimeTooSkewed",
            "the date must be in ISO 8601 and within 15 minutes of the server's time",
        ),
        Unproven::Salt => SolapiRefusal::unproven(
            "SignatureDoesNotMatch",
            "the salt must be 12 to 64 bytes long",
        ),
        Unproven::Signature => SolapiRefusal::unproven(
            "SignatureDoesNotMatch",
            "the signature is not the HMAC of date and salt under this key's secret",
        ),
    })?;
    let taken = registrar
        .take_signature(&credential, &proven.signature, proven.until)
        .await?;
    if !taken {
        return Err(SolapiRefusal::unproven(
            "DuplicatedSignature",
            "this signature was used before: sign each request with a salt of its own",
        ));
    }
    registrar.used(&credential).await;
    Ok(credential)
}

fn members(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, SolapiRefusal> {
    if !may_be_json(headers) {
        let rule = "must be application/json";
        return Err(SolapiRefusal::invalid("Content-Type", rule));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(SolapiRefusal::invalid("body", "must be a JSON object")),
    }
}
