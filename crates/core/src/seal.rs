//! Sealed secrets in the database: XChaCha20-Poly1305 with a ring of keys.
//!
//! A sealed value has the form `v1.<key id>.<nonce and ciphertext, base64>`. The row and the purpose
//! are associated data, so that a sealed value cannot be moved to another row. The newest key
//! seals; every key opens.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The keys that seal and open secrets; the first seals.
#[derive(Clone, Default)]
pub struct KeyRing(Vec<(String, XChaCha20Poly1305)>);

/// A secret could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A key is not 32 bytes of base64. The key itself is not repeated.
    #[error(
        "secrets.key must be 32 random bytes in base64; make one with: head -c 32 /dev/urandom | base64"
    )]
    MalformedKey,
    /// No key is configured.
    #[error(
        "no key for stored secrets is configured: set secrets.key (or POSTRIDER_SECRETS__KEY) to 32 random bytes in base64; make one with: head -c 32 /dev/urandom | base64"
    )]
    NoKey,
    /// The key that sealed the value is not configured.
    #[error(
        "a stored secret was sealed with the key {0}, which is not configured: add that key to secrets.previous_keys"
    )]
    UnknownKey(String),
    /// The value was changed, moved to another row, or is not a sealed value.
    #[error("a stored secret cannot be opened: it was changed or does not belong to its row")]
    Damaged,
}

impl KeyRing {
    /// A ring of keys, each 32 bytes in base64, the newest first.
    ///
    /// # Errors
    /// When a key is malformed.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, SealError> {
        let parse = |text: &str| {
            let key: [u8; KEY_BYTES] = BASE64
                .decode(text.trim())
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or(SealError::MalformedKey)?;
            let id = URL_SAFE_NO_PAD.encode(&Sha256::digest(key)[..6]);
            let cipher =
                XChaCha20Poly1305::new_from_slice(&key).map_err(|_| SealError::MalformedKey)?;
            Ok((id, cipher))
        };
        keys.into_iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// A new key in base64, for a key file.
    pub fn generate_key() -> String {
        BASE64.encode(rand::random::<[u8; KEY_BYTES]>())
    }

    /// Whether the ring has no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Seals `secret` for one purpose in one row.
    ///
    /// # Errors
    /// When the ring has no key.
    pub fn seal(&self, purpose: &str, row: Uuid, secret: &[u8]) -> Result<String, SealError> {
        let (id, cipher) = self.0.first().ok_or(SealError::NoKey)?;
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let aad = associated_data(purpose, row);
        let payload = Payload {
            msg: secret,
            aad: &aad,
        };
        let ciphertext = cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| SealError::Damaged)?;
        let text = BASE64.encode([&nonce[..], &ciphertext].concat());
        Ok(format!("v1.{id}.{text}"))
    }

    /// Opens a value that was [sealed](Self::seal) for the same purpose and row.
    ///
    /// # Errors
    /// When the key is missing, or the value was changed or moved.
    pub fn open(&self, purpose: &str, row: Uuid, sealed: &str) -> Result<Vec<u8>, SealError> {
        if self.0.is_empty() {
            return Err(SealError::NoKey);
        }
        let mut parts = sealed.splitn(3, '.');
        let (Some("v1"), Some(id), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SealError::Damaged);
        };
        let (_, cipher) = self
            .0
            .iter()
            .find(|(known, _)| known == id)
            .ok_or_else(|| SealError::UnknownKey(id.into()))?;
        let bytes = BASE64.decode(text).map_err(|_| SealError::Damaged)?;
        let (nonce, ciphertext) = bytes
            .split_at_checked(NONCE_BYTES)
            .ok_or(SealError::Damaged)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| SealError::Damaged)?;
        let aad = associated_data(purpose, row);
        let payload = Payload {
            msg: ciphertext,
            aad: &aad,
        };
        cipher
            .decrypt(&nonce, payload)
            .map_err(|_| SealError::Damaged)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", self.0.len())
    }
}

fn associated_data(purpose: &str, row: Uuid) -> Vec<u8> {
    [purpose.as_bytes(), b"|", row.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_for_its_row_and_purpose() {
        let ring = KeyRing::new([KeyRing::generate_key().as_str()]).unwrap();
        let row = Uuid::from_u128(1);
        let sealed = ring.seal("hook", row, b"secret").unwrap();
        assert_eq!(ring.open("hook", row, &sealed).unwrap(), b"secret");
        assert_eq!(ring.open("key", row, &sealed), Err(SealError::Damaged));
        assert_eq!(
            ring.open("hook", Uuid::from_u128(2), &sealed),
            Err(SealError::Damaged)
        );
        assert_eq!(ring.open("hook", row, "v1.x"), Err(SealError::Damaged));
    }

    #[test]
    fn an_older_key_still_opens() {
        let (old, new) = (KeyRing::generate_key(), KeyRing::generate_key());
        let row = Uuid::from_u128(1);
        let sealed = KeyRing::new([old.as_str()])
            .unwrap()
            .seal("hook", row, b"s")
            .unwrap();
        let both = KeyRing::new([new.as_str(), old.as_str()]).unwrap();
        assert_eq!(both.open("hook", row, &sealed).unwrap(), b"s");
        let only_new = KeyRing::new([new.as_str()]).unwrap();
        assert!(matches!(
            only_new.open("hook", row, &sealed),
            Err(SealError::UnknownKey(_))
        ));
    }

    #[test]
    fn malformed_keys_are_refused_without_being_repeated() {
        let error = KeyRing::new(["c2hvcnQ="]).unwrap_err();
        assert!(!error.to_string().contains("c2hvcnQ"));
        assert_eq!(
            KeyRing::default().seal("a", Uuid::nil(), b""),
            Err(SealError::NoKey)
        );
    }
}
