//! The id under which a profile's own API knows a hook.
//!
//! Each form decodes and sorts like the ids that clients of such an API already know. The profile
//! chooses the form.

use crate::Timestamp;
use chrono::Datelike;
use serde::{Deserialize, Serialize};

/// The form of the ids in a profile's own API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasForm {
    /// A prefix, the time in UTC to the millisecond (`YYMMDDHHmmssSSS`), and 11 random
    /// characters of base 62.
    Dated {
        /// The beginning of every id, such as `WH01WH`.
        prefix: &'static str,
    },
    /// 16 digits of base 36: 8 for the milliseconds since 2000, 8 random ones.
    Aidx,
    /// The next whole number of the profile, beginning with 1.
    Number,
}

/// The alias of a hook that is being registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewAlias {
    /// This alias; no hook of the profile may ever have had it.
    Given(String),
    /// The number after the last one that a hook of the profile got.
    NextNumber,
}

/// 2000-01-01T00:00:00Z in milliseconds since 1970.
const MILLENNIUM_MS: i64 = 946_684_800_000;

const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

impl AliasForm {
    /// Draws an alias of this form at `now`.
    pub fn draw(self, now: Timestamp) -> NewAlias {
        match self {
            Self::Dated { prefix } => NewAlias::Given(dated(prefix, now, rand::random())),
            Self::Aidx => NewAlias::Given(aidx(now, rand::random())),
            Self::Number => NewAlias::NextNumber,
        }
    }
}

/// A prefix, the time, and 11 characters that depend on `seed` alone.
fn dated(prefix: &str, now: Timestamp, seed: u128) -> String {
    let year = now.year().rem_euclid(100);
    let time = now.format("%m%d%H%M%S%3f");
    let tail = digits::<11>(62, seed);
    format!("{prefix}{year:02}{time}{tail}")
}

/// The time, and 8 digits that depend on `seed` alone.
fn aidx(now: Timestamp, seed: u128) -> String {
    let since = (now.timestamp_millis() - MILLENNIUM_MS).max(0);
    let time = digits::<8>(36, u128::from(since.unsigned_abs()));
    let tail = digits::<8>(36, seed);
    format!("{time}{tail}")
}

/// The last `N` digits of a number.
fn digits<const N: usize>(base: u128, mut number: u128) -> String {
    let mut written = [b'0'; N];
    for digit in written.iter_mut().rev() {
        *digit = DIGITS[(number % base) as usize];
        number /= base;
    }
    written.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};

    #[test]
    fn a_dated_id_tells_its_time() {
        let at = Utc.timestamp_millis_opt(1_572_505_217_424).unwrap();
        let id = dated("WH01WH", at, 62);
        assert_eq!(id, "WH01WH19103107001742400000000010");
        assert_eq!(id.len(), 32);
    }

    #[test]
    fn an_aidx_tells_its_time() {
        for (ms, time) in [
            (1_722_253_521_019, "9wahlb3v"),
            (1_722_253_521_113, "9wahlb6h"),
            (1_729_799_947_908, "9zrajfd0"),
            (1_720_072_200_484, "9vaew1es"),
        ] {
            let id = aidx(Utc.timestamp_millis_opt(ms).unwrap(), 35);
            assert_eq!(id, format!("{time}0000000z"));
        }
    }

    #[test]
    fn ids_of_later_hooks_sort_after_those_of_earlier_ones() {
        let at = |ms| Utc.timestamp_millis_opt(ms).unwrap();
        let (early, late) = (at(1_900_000_000_000), at(1_900_000_000_001));
        assert!(dated("A", early, u128::MAX) < dated("A", late, 0));
        assert!(aidx(early, u128::MAX) < aidx(late, 0));
    }

    #[test]
    fn two_draws_differ() {
        let now = Utc.timestamp_millis_opt(1_900_000_000_000).unwrap();
        for form in [AliasForm::Dated { prefix: "A" }, AliasForm::Aidx] {
            assert_ne!(form.draw(now), form.draw(now));
        }
        assert_eq!(AliasForm::Number.draw(now), NewAlias::NextNumber);
    }
}
