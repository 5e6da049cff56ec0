//! The slot of an event with a key.

use sha2::{Digest, Sha256};

/// The slot of `key` among `slots` slots: the first two bytes of the key's SHA-256, read as a
/// big-endian number, modulo `slots`.
///
/// The SQL function `postrider_slot(key)` computes the same. Applications in any language may rely
/// on this rule; it never changes.
pub fn slot_of(key: &str, slots: u16) -> i16 {
    let digest = Sha256::digest(key.as_bytes());
    let number = u16::from_be_bytes([digest[0], digest[1]]);
    i16::try_from(number % slots.clamp(1, i16::MAX as u16)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_written_down() {
        // printf %s customer-7 | sha256sum | head -c 4
        assert_eq!(slot_of("customer-7", 32), (0xacad_u16 % 32) as i16);
        assert_eq!(slot_of("customer-7", 1), 0);
        assert_eq!(slot_of("", 8), (0xe3b0_u16 % 8) as i16);
    }
}
