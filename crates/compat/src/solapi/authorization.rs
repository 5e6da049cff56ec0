//! The header `Authorization` of SOLAPI's clients: read, and checked against the secret.
//!
//! `HMAC-SHA256 apiKey=…, date=…, salt=…, signature=…`: the signature is the HMAC of the date
//! and the salt as they are written, one after the other; path and body are not signed. That is
//! why a signature may be used once only, and why the moment it signs must be near.

use chrono::{DateTime, FixedOffset, NaiveDateTime, TimeDelta};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use postrider_core::{SharedSecret, Timestamp};
use sha2::Sha256;

/// How far the signed moment may be from ours, in minutes.
pub(super) const WINDOW_MINUTES: i64 = 15;
/// How long a salt is, in bytes.
const SALT_BYTES: std::ops::RangeInclusive<usize> = 12..=64;

/// What the client signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Sha256,
    Md5,
}

/// The header's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authorization<'a> {
    method: Method,
    /// Who calls.
    pub(super) api_key: &'a str,
    date: &'a str,
    salt: &'a str,
    signature: Vec<u8>,
}

/// A header that proves who calls.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proven {
    /// The signature, which must not be taken again.
    pub(super) signature: Vec<u8>,
    /// Until when it could be.
    pub(super) until: Timestamp,
}

/// The header does not prove who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unproven {
    /// The moment it signs is too far from ours, or is none.
    Skewed,
    /// The salt is too short or too long.
    Salt,
    /// The signature is another one.
    Signature,
}

impl<'a> Authorization<'a> {
    /// Reads the header; `None` when it is something else. Clients write the names in several
    /// ways, and blanks behind the commas or not.
    pub(super) fn parse(header: &'a str) -> Option<Self> {
        let (method, parameters) = header.trim().split_once(' ')?;
        let method = match () {
            () if method.eq_ignore_ascii_case("HMAC-SHA256") => Method::Sha256,
            () if method.eq_ignore_ascii_case("HMAC-MD5") => Method::Md5,
            () => return None,
        };
        let (mut api_key, mut date, mut salt, mut signature) = (None, None, None, None);
        for parameter in parameters.split(',') {
            let (name, value) = parameter.trim().split_once('=')?;
            let place = match name.trim().to_ascii_lowercase().as_str() {
                "apikey" => &mut api_key,
                "date" => &mut date,
                "salt" => &mut salt,
                "signature" => &mut signature,
                _ => continue,
            };
            if place.replace(value.trim()).is_some() {
                return None;
            }
        }
        Some(Self {
            method,
            api_key: api_key?,
            date: date?,
            salt: salt?,
            signature: bytes_of(signature?)?,
        })
    }

    /// Checks the moment, the salt and the signature, in this order.
    ///
    /// # Errors
    /// The first that is wrong.
    pub(super) fn check(&self, secret: &SharedSecret, now: Timestamp) -> Result<Proven, Unproven> {
        let window = TimeDelta::minutes(WINDOW_MINUTES);
        let date = moment(self.date).ok_or(Unproven::Skewed)?;
        if (now - date).abs() > window {
            return Err(Unproven::Skewed);
        }
        if !SALT_BYTES.contains(&self.salt.len()) {
            return Err(Unproven::Salt);
        }
        let parts = [self.date.as_bytes(), self.salt.as_bytes()];
        let right = match self.method {
            Method::Sha256 => is_hmac::<Hmac<Sha256>>(secret, parts, &self.signature),
            Method::Md5 => is_hmac::<Hmac<Md5>>(secret, parts, &self.signature),
        };
        match right {
            true => Ok(Proven {
                signature: self.signature.clone(),
                until: now.max(date) + window,
            }),
            false => Err(Unproven::Signature),
        }
    }
}

/// Compares in constant time.
fn is_hmac<M: Mac + KeyInit>(secret: &SharedSecret, parts: [&[u8]; 2], signature: &[u8]) -> bool {
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(secret.reveal()) else {
        return false;
    };
    for part in parts {
        mac.update(part);
    }
    mac.verify_slice(signature).is_ok()
}

/// The bytes that hexadecimal digits write.
fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| {
        let byte = digit(*high)? * 16 + digit(*low)?;
        u8::try_from(byte).ok()
    });
    match rest {
        [] => bytes.collect(),
        _ => None,
    }
}

/// The moment that a client writes: ISO 8601, its offset with a colon or without, its seconds
/// left out where they are none.
fn moment(text: &str) -> Option<Timestamp> {
    // SOLAPI's own PHP client writes the time in Seoul, then the seconds of its offset as if they
    // were a fraction, then Z.
    if let Some(local) = text.strip_suffix(".32400Z") {
        let local = NaiveDateTime::parse_from_str(local, "%Y-%m-%dT%H:%M:%S").ok()?;
        let seoul = FixedOffset::east_opt(32_400)?;
        return Some(local.and_local_timezone(seoul).single()?.to_utc());
    }
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z"))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%#z"))
        .ok()
        .map(|at| at.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const SECRET: &str = "TESTSECRET0000000000000000000001";

    fn at(text: &str) -> Timestamp {
        moment(text).unwrap()
    }

    fn checked(header: &str, clock: &str) -> Result<Proven, Unproven> {
        let authorization = Authorization::parse(header).unwrap();
        authorization.check(&SharedSecret::new(SECRET), at(clock))
    }

    fn vectors(kind: &str) -> Vec<Value> {
        let text = include_str!("../../../../tests/data/vectors.json");
        let mut all: Value = serde_json::from_str(text).unwrap();
        let all = all["vectors"].as_array_mut().unwrap();
        let of_kind = |vector: &Value| vector["system"] == "solapi" && vector["kind"] == kind;
        let found: Vec<_> = all.iter().filter(|v| of_kind(v)).cloned().collect();
        assert!(!found.is_empty(), "{kind}");
        found
    }

    fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
        vector[name].as_str().unwrap()
    }

    #[test]
    fn the_header_of_the_sample_is_read() {
        for vector in vectors("auth_header_parse") {
            let read = Authorization::parse(text(&vector, "header")).unwrap();
            let expected = &vector["expect"];
            assert_eq!(read.method, Method::Sha256);
            assert_eq!(read.api_key, text(expected, "apiKey"));
            assert_eq!(read.date, text(expected, "date"));
            assert_eq!(read.salt, text(expected, "salt"));
            assert_eq!(read.salt.len() as u64, expected["salt_len"]);
            let hex: String = read.signature.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, text(expected, "signature"));
        }
    }

    #[test]
    fn every_clients_signature_is_taken_within_the_window() {
        for vector in vectors("hmac") {
            let (header, date) = (text(&vector, "header"), at(text(&vector, "date")));
            let authorization = Authorization::parse(header).unwrap();
            assert_eq!(authorization.api_key, text(&vector, "apiKey"));
            let secret = SharedSecret::new(text(&vector, "apiSecret"));
            let window = TimeDelta::minutes(15);
            let until = |now| authorization.check(&secret, now).map(|proven| proven.until);
            assert_eq!(until(date), Ok(date + window), "{header}");
            assert_eq!(until(date + window), Ok(date + window * 2));
            assert_eq!(
                until(date - window),
                Ok(date + window),
                "as long as it is good"
            );
            let second = TimeDelta::seconds(1);
            assert_eq!(until(date + window + second), Err(Unproven::Skewed));
            assert_eq!(until(date - window - second), Err(Unproven::Skewed));
        }
    }

    #[test]
    fn what_proves_nothing_is_refused_for_its_reason() {
        for vector in vectors("auth_reject") {
            let (header, clock) = (text(&vector, "header"), text(&vector, "server_clock"));
            let expected = match text(&vector, "id") {
                "solapi-auth-reject-skew-past" | "solapi-auth-reject-skew-future" => {
                    Unproven::Skewed
                }
                "solapi-auth-reject-bad-signature" => Unproven::Signature,
                id if id.contains("-salt-") => Unproven::Salt,
                // The key and the repeat are looked up elsewhere.
                _ => continue,
            };
            assert_eq!(checked(header, clock), Err(expected), "{header}");
        }
    }

    #[test]
    fn clients_write_the_header_in_several_ways() {
        let signature = "298f85115f663b2fa659912697d3ef7513770493ce873b4b5ec1681c00a0d19b";
        let date = "2025-07-14T06:36:27Z";
        for header in [
            format!("HMAC-SHA256 apiKey=K, date={date}, salt=abcdefghijkl, signature={signature}"),
            format!("HMAC-SHA256 ApiKey=K,Date={date},Salt=abcdefghijkl,Signature={signature}"),
            format!(
                "hmac-sha256  signature={signature} , salt=abcdefghijkl, new=1, apikey=K, date={date} "
            ),
            format!(
                "HMAC-SHA256 apiKey=K, date={date}, salt=abcdefghijkl, signature={}",
                signature.to_uppercase()
            ),
        ] {
            let read = Authorization::parse(&header).unwrap();
            assert_eq!(read.api_key, "K", "{header}");
            let secret = SharedSecret::new(SECRET);
            assert!(
                read.check(&secret, at("2025-07-14T06:36:30Z")).is_ok(),
                "{header}"
            );
        }
        for header in [
            "",
            "HMAC-SHA256",
            "HMAC-SHA512 apiKey=K, date=d, salt=s, signature=00",
            "HMAC-SHA256 apiKey=K, date=d, salt=s",
            "HMAC-SHA256 apiKey=K, date=d, salt=s, signature=0",
            "HMAC-SHA256 apiKey=K, date=d, salt=s, signature=zz",
            "HMAC-SHA256 apiKey=K, date=d, salt=s, signature=00, apiKey=L",
            "HMAC-SHA256 apiKey",
            "Bearer abc",
        ] {
            assert_eq!(Authorization::parse(header), None, "{header}");
        }
    }

    #[test]
    fn a_moment_is_read_as_clients_write_it() {
        let expected = at("2025-07-14T06:36:27.123Z");
        for text in [
            "2025-07-14T15:36:27.123+09:00",
            "2025-07-14T15:36:27.123+0900",
            "2025-07-14T06:36:27.123000Z",
            "2025-07-14T06:36:27.123000000Z",
            "2025-07-14T06:36:27.123+00:00",
        ] {
            assert_eq!(moment(text), Some(expected), "{text}");
        }
        assert_eq!(
            moment("2025-07-14T15:36+09:00"),
            moment("2025-07-14T06:36:00Z")
        );
        assert_eq!(
            moment("2025-07-14T15:36:27.32400Z"),
            moment("2025-07-14T06:36:27Z")
        );
        for text in ["", "now", "2025-07-14", "2025-07-14T06:36:27", "1752474987"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
