//! A call of Misskey's API: who calls, by a token, and the parameters.
//!
//! The token stands in the body as `i`, so the body of a caller without a bearer token is read
//! before it is known who calls.

use super::params::Params;
use super::refusal::{
    ACCESS_DENIED, AUTHENTICATION_FAILED, CREDENTIAL_REQUIRED, MisskeyRefusal, PERMISSION_DENIED,
    YOUR_ACCOUNT_SUSPENDED,
};
use super::{NAME, Need, need_of};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use postrider_api::{Registrar, read_body};
use postrider_core::{Credential, RegistrantStatus, TokenHash};
use postrider_store::CredentialQuery;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A call by a caller who is known and may do what it asks for.
pub(super) struct MisskeyRequest {
    /// Whose hooks it is about.
    pub(super) user: String,
    /// The parameters.
    pub(super) params: Params,
}

impl FromRequest<Arc<Registrar>> for MisskeyRequest {
    type Rejection = MisskeyRefusal;

    async fn from_request(
        request: Request,
        registrar: &Arc<Registrar>,
    ) -> Result<Self, MisskeyRefusal> {
        let (head, body) = request.into_parts();
        let need = need_of(head.uri.path());
        let mut caller = None;
        let by_header = bearer(&head.headers);
        if let Some(token) = by_header {
            let allowed = match authenticate(registrar, token).await {
                Ok(credential) => admit(registrar, credential, need),
                Err(refusal) => Err(refusal),
            };
            match allowed {
                Ok(credential) => caller = Some(credential),
                Err(refusal) => {
                    postrider_api::drain(body).await;
                    return Err(refusal);
                }
            }
        }
        let taken = read_body(registrar, &head.headers, body).await?;
        let mut members = members(&taken.bytes)?;
        let in_body = members.remove("i");
        let credential = match (caller, in_body) {
            (Some(credential), _) => credential,
            (None, Some(Value::String(token))) => {
                admit(registrar, authenticate(registrar, &token).await?, need)?
            }
            (None, None | Some(Value::Null)) => allow(None, need)?,
            (None, Some(_)) => return Err(MisskeyRefusal::Unspeakable),
        };
        Ok(Self {
            user: credential.account,
            params: Params(members),
        })
    }
}

async fn authenticate(registrar: &Registrar, token: &str) -> Result<Credential, MisskeyRefusal> {
    let query = CredentialQuery::Token {
        system: NAME.to_owned(),
        hash: TokenHash::of_registrant(NAME, token),
    };
    let credential = registrar.credential(query).await?;
    let credential = credential.ok_or(AUTHENTICATION_FAILED)?;
    registrar.used(&credential).await;
    Ok(credential)
}

/// Lets a caller through who may do what it asks for, and has not done so too often: what takes a
/// token of the user's own is counted, whatever is asked and even if the user is suspended.
fn admit(
    registrar: &Registrar,
    credential: Credential,
    need: Need,
) -> Result<Credential, MisskeyRefusal> {
    if need == Need::OwnToken && is_own(&credential) {
        registrar.count_test(&credential.account)?;
    }
    allow(Some(credential), need)
}

/// A token that lacks a permission is an application's, not its user's own.
fn is_own(credential: &Credential) -> bool {
    credential.access.read && credential.access.write
}

/// Whether a caller may do what it asks for, in Misskey's order of checks.
fn allow(credential: Option<Credential>, need: Need) -> Result<Credential, MisskeyRefusal> {
    if need == Need::OwnToken && !credential.as_ref().is_some_and(is_own) {
        return Err(ACCESS_DENIED.into());
    }
    let credential = credential.ok_or(CREDENTIAL_REQUIRED)?;
    let access = &credential.access;
    if [access.account_status, access.member_status] != [RegistrantStatus::Active; 2] {
        return Err(YOUR_ACCOUNT_SUSPENDED.into());
    }
    let permitted = match need {
        Need::Read | Need::OwnToken => access.read,
        Need::Write => access.write,
    };
    match permitted {
        true => Ok(credential),
        false => Err(PERMISSION_DENIED.into()),
    }
}

/// The token in the header. Misskey knows the scheme in this spelling only.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ")
}

/// The members of the body; a body that is empty has none.
fn members(body: &[u8]) -> Result<Map<String, Value>, MisskeyRefusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(MisskeyRefusal::invalid("#/type", "must be object")),
        Err(_) => Err(MisskeyRefusal::invalid("#", "must be JSON")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::{Access, KeyId, Proof};

    fn credential(access: Access) -> Credential {
        Credential {
            id: KeyId::draw(chrono::DateTime::UNIX_EPOCH),
            account: "u".into(),
            proof: Proof::Token(TokenHash([0; 32])),
            access,
            last_used_at: None,
        }
    }

    #[test]
    fn a_caller_is_refused_in_misskeys_order_of_checks() {
        let full = Access::default();
        let (reader, writer) = (
            Access {
                write: false,
                ..full
            },
            Access {
                read: false,
                ..full
            },
        );
        let suspended = Access {
            account_status: RegistrantStatus::Inactive,
            ..reader
        };
        use Need::{OwnToken, Read, Write};
        for (access, need, expected) in [
            (None, OwnToken, Some(ACCESS_DENIED)),
            (None, Read, Some(CREDENTIAL_REQUIRED)),
            (Some(full), OwnToken, None),
            (Some(full), Write, None),
            (Some(reader), Read, None),
            (Some(reader), Write, Some(PERMISSION_DENIED)),
            (Some(reader), OwnToken, Some(ACCESS_DENIED)),
            (Some(writer), Read, Some(PERMISSION_DENIED)),
            (Some(suspended), Write, Some(YOUR_ACCOUNT_SUSPENDED)),
            (Some(suspended), OwnToken, Some(ACCESS_DENIED)),
        ] {
            let refused = allow(access.map(credential), need).err();
            assert_eq!(
                refused,
                expected.map(MisskeyRefusal::from),
                "{access:?} {need:?}"
            );
        }
    }
}
