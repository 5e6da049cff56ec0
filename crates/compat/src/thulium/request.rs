//! A call of Thulium's API: who calls, by HTTP Basic, and the body.
//!
//! Nothing of the body is read before the caller is known and may do what it asks for.

use super::NAME;
use super::refusal::{Asked, Fault, ThuliumRefusal};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, header};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use postrider_api::{Registrar, may_be_json, read_body};
use postrider_core::{Credential, RegistrantStatus};
use postrider_store::CredentialQuery;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A call by a caller who is known and may do what it asks for.
pub(super) struct ThuliumRequest {
    /// Whose hooks it is about.
    pub(super) account: String,
    /// What a refusal says of the request.
    pub(super) asked: Asked,
    /// The members of the body; none where the method has no body to speak of.
    pub(super) body: Map<String, Value>,
}

impl FromRequest<Arc<Registrar>> for ThuliumRequest {
    type Rejection = ThuliumRefusal;

    async fn from_request(
        request: Request,
        registrar: &Arc<Registrar>,
    ) -> Result<Self, ThuliumRefusal> {
        let (head, body) = request.into_parts();
        let asked = Asked::of(&head.headers, registrar.now());
        let writes = !matches!(head.method, Method::GET | Method::HEAD);
        let allowed = match authenticate(&head.headers, registrar).await {
            Ok(credential) if may(&credential, writes) => Ok(credential),
            Ok(_) => Err(Fault::Forbidden),
            Err(fault) => Err(fault),
        };
        let credential = match allowed {
            Ok(credential) => credential,
            Err(fault) => {
                postrider_api::drain(body).await;
                return Err(asked.refused(fault));
            }
        };
        let taken = read_body(registrar, &head.headers, body).await;
        let taken = taken.map_err(|problem| asked.refused(problem))?;
        let body = match head.method {
            Method::POST | Method::PUT => {
                let members = members(&head.headers, &taken.bytes);
                members.map_err(|fault| asked.refused(fault))?
            }
            _ => Map::new(),
        };
        Ok(Self {
            account: credential.account,
            asked,
            body,
        })
    }
}

async fn authenticate(headers: &HeaderMap, registrar: &Registrar) -> Result<Credential, Fault> {
    let header = headers.get(header::AUTHORIZATION);
    let header = header.ok_or(Fault::NoCredentials)?.to_str();
    let pair = header.ok().and_then(basic);
    let (user, password) = pair.ok_or(Fault::NoCredentials)?;
    let query = CredentialQuery::Id {
        system: NAME.to_owned(),
        id: user,
    };
    let credential = registrar.credential(query).await?;
    let credential = credential.ok_or(Fault::WrongCredentials)?;
    if !registrar.is_password(&credential, &password).await {
        return Err(Fault::WrongCredentials);
    }
    registrar.used(&credential).await;
    Ok(credential)
}

fn may(credential: &Credential, writes: bool) -> bool {
    let access = &credential.access;
    let permitted = match writes {
        true => access.write,
        false => access.read,
    };
    let standings = [access.account_status, access.member_status];
    permitted && standings == [RegistrantStatus::Active; 2]
}

/// User and password out of a header (RFC 7617).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, pair) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64.decode(pair.trim()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn members(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Fault> {
    if !may_be_json(headers) {
        return Err(Fault::NotJson);
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(Fault::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_read() {
        let read = |header| basic(header).unwrap();
        let pair = |user: &str, password: &str| (user.to_owned(), password.to_owned());
        assert_eq!(
            read("Basic YXBpX3VzZXI6YXBpX3Bhc3M="),
            pair("api_user", "api_pass")
        );
        assert_eq!(
            read("basic  YXBpX3VzZXI6YXBpX3Bhc3M"),
            pair("api_user", "api_pass")
        );
        assert_eq!(read("Basic dTphOmI="), pair("u", "a:b"));
        assert_eq!(read("Basic Og=="), pair("", ""));
        assert_eq!(read("Basic w7w6xYI="), pair("ü", "ł"));
        for bad in [
            "",
            "Basic",
            "Basic !",
            "Basic dQ==",
            "Bearer dTpw",
            "Basic /zr/",
        ] {
            assert_eq!(basic(bad), None, "{bad}");
        }
    }
}
