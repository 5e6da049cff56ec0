//! The SHA-1 form in which some compatible services store and show a secret.

use sha1::{Digest, Sha1};

/// The SHA-1 of a text in UTF-8, as 40 lower-case hexadecimal digits.
///
/// It protects nothing: a short secret is found quickly from it.
pub fn sha1_hex(text: &str) -> String {
    let digest = Sha1::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_written_in_lower_case() {
        for (secret, hex) in [
            ("secretKey", "ee1b507610b2d8c366ece22a8d89c6487c710db5"),
            ("test-secret", "fe1bae27cb7c1fb823f496f286e78f1d2ae87734"),
        ] {
            assert_eq!(sha1_hex(secret), hex);
        }
    }
}
