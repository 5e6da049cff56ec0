//! Stored passwords: Argon2id, because people choose passwords that can be guessed.

use argon2::{Argon2, PasswordHash as Parsed, PasswordHasher, PasswordVerifier};
use std::fmt;

/// The slow hash of a password, with its salt and parameters, as text.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// The password cannot be hashed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the password cannot be hashed: {0}")]
pub struct PasswordError(String);

impl PasswordHash {
    /// Hashes a password with a random salt. Takes some tens of milliseconds.
    ///
    /// # Errors
    /// When the password is too long.
    pub fn of(password: &str) -> Result<Self, PasswordError> {
        let salt: [u8; 16] = rand::random();
        let hash = Argon2::default()
            .hash_password_with_salt(password.as_bytes(), &salt)
            .map_err(|error| PasswordError(error.to_string()))?;
        Ok(Self(hash.to_string()))
    }

    /// A hash that was read from the database.
    pub fn stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text to store.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether this is the hash of `password`. Takes some tens of milliseconds.
    pub fn verify(&self, password: &str) -> bool {
        Parsed::new(&self.0).is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        })
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hash>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_recognised_and_another_is_not() {
        let hash = PasswordHash::of("api_pass").unwrap();
        assert!(hash.text().starts_with("$argon2id$"), "{}", hash.text());
        let stored = PasswordHash::stored(hash.text());
        assert!(stored.verify("api_pass"));
        assert!(!stored.verify("api_pasS") && !stored.verify(""));
        assert_ne!(hash, PasswordHash::of("api_pass").unwrap());
        assert!(!PasswordHash::stored("damaged").verify("api_pass"));
    }
}
