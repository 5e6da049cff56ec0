//! Standard Webhooks signatures: `v1` (HMAC-SHA256) and `v1a` (ed25519).
//!
//! The signed content is `id.timestamp.body`. The header has one signature for each secret, newest
//! first, with blanks between them. See the Standard Webhooks specification, version 1.0.0.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, Verifier, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;
use zeroize::Zeroize;

const HMAC_PREFIX: &str = "whsec_";
const ED25519_PREFIX: &str = "whsk_";
const ED25519_PUBLIC_PREFIX: &str = "whpk_";

/// A signing secret in its text form: `whsec_…` (HMAC, 24 to 64 bytes) or `whsk_…` (ed25519).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SigningSecret(SecretKey);

#[derive(Clone, PartialEq, Eq)]
enum SecretKey {
    Hmac(Vec<u8>),
    Ed25519([u8; 32]),
}

/// The text is not a signing secret. The text itself is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The text is not base64.
    #[error(
        "the secret is not valid base64: write whsec_ followed by base64 of 24 to 64 bytes, or leave it out and one is made"
    )]
    NotBase64,
    /// The secret is too short or too long.
    #[error(
        "the secret has {0} bytes: HMAC secrets (whsec_) have 24 to 64, ed25519 keys (whsk_) 32 or 64"
    )]
    Length(usize),
}

/// A signature did not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No signature in the header matches the secret.
    #[error("no signature matches the secret")]
    NoMatch,
}

impl SigningSecret {
    /// Draws an HMAC secret of 32 random bytes.
    pub fn generate() -> Self {
        Self(SecretKey::Hmac(rand::random::<[u8; 32]>().to_vec()))
    }

    /// The secret in the clear, shown once to the owner of the receiver. For ed25519 this is the
    /// private key; see [`verification_key`](Self::verification_key).
    pub fn reveal(&self) -> String {
        match &self.0 {
            SecretKey::Hmac(bytes) => format!("{HMAC_PREFIX}{}", BASE64.encode(bytes)),
            SecretKey::Ed25519(seed) => format!("{ED25519_PREFIX}{}", BASE64.encode(seed)),
        }
    }

    /// The key for the receiver: the secret itself, or the public key (`whpk_…`).
    pub fn verification_key(&self) -> String {
        match &self.0 {
            SecretKey::Hmac(_) => self.reveal(),
            SecretKey::Ed25519(seed) => {
                let public = SigningKey::from_bytes(seed).verifying_key();
                format!(
                    "{ED25519_PUBLIC_PREFIX}{}",
                    BASE64.encode(public.as_bytes())
                )
            }
        }
    }
}

impl FromStr for SigningSecret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let (encoded, ed25519) = match text.strip_prefix(ED25519_PREFIX) {
            Some(rest) => (rest, true),
            None => (text.strip_prefix(HMAC_PREFIX).unwrap_or(text), false),
        };
        let bytes = BASE64.decode(encoded).map_err(|_| SecretError::NotBase64)?;
        match (ed25519, bytes.len()) {
            // 64 bytes are the seed followed by the public key.
            (true, 32 | 64) => {
                let mut seed = [0; 32];
                seed.copy_from_slice(&bytes[..32]);
                Ok(Self(SecretKey::Ed25519(seed)))
            }
            (false, 24..=64) => Ok(Self(SecretKey::Hmac(bytes))),
            (_, length) => Err(SecretError::Length(length)),
        }
    }
}

impl TryFrom<String> for SigningSecret {
    type Error = SecretError;
    fn try_from(mut text: String) -> Result<Self, SecretError> {
        let parsed = text.parse();
        text.zeroize();
        parsed
    }
}

impl From<SigningSecret> for String {
    fn from(secret: SigningSecret) -> Self {
        secret.reveal()
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(<hidden>)")
    }
}

impl Drop for SigningSecret {
    fn drop(&mut self) {
        match &mut self.0 {
            SecretKey::Hmac(bytes) => bytes.zeroize(),
            SecretKey::Ed25519(seed) => seed.zeroize(),
        }
    }
}

/// Signs requests with the secrets of one hook. The key schedules are computed once.
#[derive(Clone)]
pub struct Signer(Vec<Keyed>);

#[derive(Clone)]
enum Keyed {
    Hmac(Box<Hmac<Sha256>>),
    Ed25519(Box<SigningKey>),
}

impl Signer {
    /// A signer with these secrets. Signatures have the same order.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SigningSecret>) -> Self {
        let keyed = |secret: &SigningSecret| match &secret.0 {
            SecretKey::Hmac(bytes) => Hmac::<Sha256>::new_from_slice(bytes)
                .ok()
                .map(|mac| Keyed::Hmac(Box::new(mac))),
            SecretKey::Ed25519(seed) => {
                Some(Keyed::Ed25519(Box::new(SigningKey::from_bytes(seed))))
            }
        };
        Self(secrets.into_iter().filter_map(keyed).collect())
    }

    /// The number of signatures of each request.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether requests are not signed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `webhook-signature`. `timestamp` is the start of the attempt in seconds since
    /// 1970.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut header = String::with_capacity(48 * self.0.len());
        let prefix = format!("{id}.{timestamp}.");
        for keyed in &self.0 {
            if !header.is_empty() {
                header.push(' ');
            }
            match keyed {
                Keyed::Hmac(mac) => {
                    let mut mac = mac.as_ref().clone();
                    mac.update(prefix.as_bytes());
                    mac.update(body);
                    header.push_str("v1,");
                    BASE64.encode_string(mac.finalize().into_bytes(), &mut header);
                }
                Keyed::Ed25519(key) => {
                    let content = [prefix.as_bytes(), body].concat();
                    header.push_str("v1a,");
                    BASE64.encode_string(key.sign(&content).to_bytes(), &mut header);
                }
            }
        }
        header
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} secrets)", self.0.len())
    }
}

/// Checks the value of `webhook-signature` with one verification key: `whsec_…`, `whpk_…`, or a
/// private `whsk_…`. Signatures are compared in constant time. The caller checks the age of the
/// timestamp.
///
/// # Errors
/// When no signature matches, or the key is malformed.
pub fn verify(
    key: &str,
    id: &str,
    timestamp: &str,
    body: &[u8],
    header: &str,
) -> Result<(), VerifyError> {
    let mut content = String::new();
    let _ = write!(content, "{id}.{timestamp}.");
    let content = [content.as_bytes(), body].concat();
    let public = verifying_key(key);
    let fits = |candidate: &str| match (candidate.split_once(','), &public) {
        (Some(("v1a", encoded)), Some(public)) => BASE64
            .decode(encoded)
            .ok()
            .and_then(|bytes| ed25519_dalek::Signature::from_slice(&bytes).ok())
            .is_some_and(|signature| public.verify(&content, &signature).is_ok()),
        (Some(("v1", encoded)), None) => {
            let Ok(SigningSecret(SecretKey::Hmac(ref bytes))) = key.parse() else {
                return false;
            };
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(bytes) else {
                return false;
            };
            mac.update(&content);
            BASE64
                .decode(encoded)
                .is_ok_and(|signature| mac.verify_slice(&signature).is_ok())
        }
        _ => false,
    };
    match header.split(' ').any(fits) {
        true => Ok(()),
        false => Err(VerifyError::NoMatch),
    }
}

fn verifying_key(key: &str) -> Option<VerifyingKey> {
    if let Some(encoded) = key.trim().strip_prefix(ED25519_PUBLIC_PREFIX) {
        let bytes: [u8; 32] = BASE64.decode(encoded).ok()?.try_into().ok()?;
        return VerifyingKey::from_bytes(&bytes).ok();
    }
    match key.parse().ok()? {
        SigningSecret(SecretKey::Ed25519(ref seed)) => {
            Some(SigningKey::from_bytes(seed).verifying_key())
        }
        SigningSecret(SecretKey::Hmac(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The test vector of the Standard Webhooks specification.
    #[test]
    fn the_published_vector_is_reproduced() {
        let secret: SigningSecret = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let header = Signer::new([&secret]).sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(header, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_secret_in_rotation_signs() {
        let (old, new) = (SigningSecret::generate(), SigningSecret::generate());
        let header = Signer::new([&new, &old]).sign("id", 1, b"body");
        for secret in [&old, &new] {
            assert_eq!(
                verify(&secret.reveal(), "id", "1", b"body", &header),
                Ok(())
            );
        }
        let other = SigningSecret::generate().reveal();
        assert_eq!(
            verify(&other, "id", "1", b"body", &header),
            Err(VerifyError::NoMatch)
        );
    }

    #[test]
    fn ed25519_signs_and_its_public_key_verifies() {
        let secret: SigningSecret = format!("whsk_{}", BASE64.encode([7u8; 32]))
            .parse()
            .unwrap();
        let header = Signer::new([&secret]).sign("id", 1, b"body");
        assert!(header.starts_with("v1a,"));
        let public = secret.verification_key();
        assert!(public.starts_with("whpk_"));
        assert_eq!(verify(&public, "id", "1", b"body", &header), Ok(()));
        assert_eq!(
            verify(&public, "id", "2", b"body", &header),
            Err(VerifyError::NoMatch)
        );
    }

    #[test]
    fn the_official_library_verifies_what_we_sign() {
        let secret = SigningSecret::generate();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let body = br#"{"a":1}"#;
        let official = standardwebhooks::Webhook::new(&secret.reveal()).unwrap();
        let theirs = official.sign("id", now, body).unwrap();
        assert_eq!(theirs, Signer::new([&secret]).sign("id", now, body));
    }

    #[test]
    fn malformed_secrets_are_refused_without_being_repeated() {
        for text in ["", "whsec_", "whsec_!!", "whsec_c2hvcnQ=", "whsk_c2hvcnQ="] {
            let error = text.parse::<SigningSecret>().unwrap_err().to_string();
            assert!(!error.contains("c2hvcnQ"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_change_breaks_the_signature(body in ".{0,64}", flip in 0usize..64, id in "[a-z0-9]{1,20}") {
            let secret = SigningSecret::generate();
            let header = Signer::new([&secret]).sign(&id, 1, body.as_bytes());
            prop_assert!(verify(&secret.reveal(), &id, "1", body.as_bytes(), &header).is_ok());
            let mut changed = body.clone().into_bytes();
            if changed.is_empty() { changed.push(0) } else { let n = flip % changed.len(); changed[n] ^= 1; }
            prop_assert!(verify(&secret.reveal(), &id, "1", &changed, &header).is_err());
        }

        #[test]
        fn no_header_makes_the_verifier_panic(header in ".{0,200}", key in ".{0,80}") {
            let _ = verify(&key, "id", "1", b"body", &header);
        }
    }
}
