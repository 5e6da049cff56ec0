//! DNS messages, as far as they are needed: one question for the addresses of a name, and its
//! answer (RFC 1035, RFC 3596).
//!
//! An answer comes from the network. Every length is checked before it is used, and no
//! compression pointer is followed: only the question that was asked and the addresses are read.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
/// The longest label, and the longest name, in bytes.
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 255;
/// The class of the Internet.
const IN: u16 = 1;
/// Addresses taken from an answer at most.
const ADDRESSES_MAX: usize = 32;

const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;

/// The kind of address that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    V4,
    V6,
}

impl Kind {
    /// The type of its records.
    fn record_type(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }

    fn address(self, data: &[u8]) -> Option<IpAddr> {
        match self {
            Self::V4 => <[u8; 4]>::try_from(data)
                .ok()
                .map(|octets| Ipv4Addr::from(octets).into()),
            Self::V6 => <[u8; 16]>::try_from(data)
                .ok()
                .map(|octets| Ipv6Addr::from(octets).into()),
        }
    }
}

/// A question for the addresses of a name.
#[derive(Clone, Debug)]
pub(super) struct Question {
    kind: Kind,
    bytes: Vec<u8>,
}

/// What a name server answers to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name exists and has these addresses, perhaps none of this kind.
    Addresses(Vec<IpAddr>),
    /// The name does not exist.
    NoSuchName,
    /// The name server could not answer.
    Failed(ResponseCode),
    /// The answer is too long for a datagram: ask again over TCP.
    Truncated,
}

/// The code by which a name server says that it could not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseCode(u8);

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("FORMERR"),
            2 => f.write_str("SERVFAIL"),
            4 => f.write_str("NOTIMP"),
            5 => f.write_str("REFUSED"),
            code => write!(f, "code {code}"),
        }
    }
}

impl Question {
    /// Asks for the addresses of `name`; `None` when DNS cannot hold such a name. `id` should be
    /// random: it shows that an answer belongs to this question.
    pub(super) fn new(id: u16, name: &str, kind: Kind) -> Option<Self> {
        let mut bytes = Vec::with_capacity(HEADER + name.len() + 6);
        bytes.extend(id.to_be_bytes());
        bytes.extend([RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.strip_suffix('.').unwrap_or(name).split('.') {
            if label.is_empty() || label.len() > LABEL_MAX {
                return None;
            }
            bytes.push(label.len() as u8);
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        if bytes.len() - HEADER > NAME_MAX {
            return None;
        }
        bytes.extend(kind.record_type().to_be_bytes());
        bytes.extend(IN.to_be_bytes());
        Some(Self { kind, bytes })
    }

    /// The message to send.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The answer in `message`; `None` when it is not a well-formed answer to this question.
    pub(super) fn answer(&self, message: &[u8]) -> Option<Answer> {
        let mut rest = Reader(message);
        let id = rest.bytes(2)?;
        let (flags, code) = (rest.byte()?, rest.byte()? & 0x0f);
        if id != &self.bytes[..2] || flags & RESPONSE == 0 || flags & OPCODE != 0 {
            return None;
        }
        let (questions, answers) = (rest.number()?, rest.number()?);
        rest.bytes(4)?;
        match questions {
            1 => {
                let asked = &self.bytes[HEADER..];
                if !rest.bytes(asked.len())?.eq_ignore_ascii_case(asked) {
                    return None;
                }
            }
            // A server that cannot read the question may leave it out.
            0 if code != 0 && code != 3 => {}
            _ => return None,
        }
        match code {
            _ if flags & TRUNCATED != 0 => Some(Answer::Truncated),
            0 => self.addresses(rest, answers).map(Answer::Addresses),
            3 => Some(Answer::NoSuchName),
            code => Some(Answer::Failed(ResponseCode(code))),
        }
    }

    /// The addresses of the answer section. The server has followed aliases, so they may belong to
    /// other names.
    fn addresses(&self, mut rest: Reader<'_>, records: u16) -> Option<Vec<IpAddr>> {
        let mut found = Vec::new();
        for _ in 0..records {
            rest.skip_name()?;
            let (record_type, class) = (rest.number()?, rest.number()?);
            rest.bytes(4)?;
            let length = rest.number()?;
            let data = rest.bytes(length.into())?;
            if record_type == self.kind.record_type() && class == IN {
                let address = self.kind.address(data)?;
                if found.len() < ADDRESSES_MAX {
                    found.push(address);
                }
            }
        }
        Some(found)
    }
}

/// What is left to read of a message.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (read, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(read)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|read| read[0])
    }

    fn number(&mut self) -> Option<u16> {
        self.bytes(2)
            .map(|read| u16::from_be_bytes([read[0], read[1]]))
    }

    /// Skips a name, which ends with an empty label or with a pointer.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.byte()? {
                0 => return Some(()),
                length if length & 0xc0 == 0 => {
                    self.bytes(length.into())?;
                }
                pointer if pointer & 0xc0 == 0xc0 => return self.byte().map(|_| ()),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer to `question`: flags, code, and records of this type, class and data, whose
    /// name is a pointer to the question.
    fn answer(question: &Question, flags: u8, code: u8, records: &[(u16, u16, &[u8])]) -> Vec<u8> {
        let mut bytes = question.bytes.clone();
        bytes[2] = flags;
        bytes[3] = 0x80 | code;
        bytes[7] = records.len() as u8;
        for (record_type, class, data) in records {
            bytes.extend([0xc0, HEADER as u8]);
            bytes.extend(record_type.to_be_bytes());
            bytes.extend(class.to_be_bytes());
            bytes.extend(60_u32.to_be_bytes());
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(*data);
        }
        bytes
    }

    fn question(kind: Kind) -> Question {
        Question::new(0x1234, "Hooks.example.com.", kind).unwrap()
    }

    #[test]
    fn a_question_is_written_as_the_standard_says() {
        assert_eq!(
            question(Kind::V6).bytes(),
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
              \x05Hooks\x07example\x03com\x00\x00\x1c\x00\x01"
        );
        let long = "a".repeat(64);
        let whole = ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join(".");
        for name in [
            "",
            ".",
            "a..b",
            &long,
            &format!("{whole}.{}", "d".repeat(62)),
        ] {
            assert!(Question::new(1, name, Kind::V4).is_none(), "{name:?}");
        }
        assert!(Question::new(1, &format!("{whole}.{}", "d".repeat(61)), Kind::V4).is_some());
    }

    #[test]
    fn the_addresses_behind_aliases_are_found() {
        let asked = question(Kind::V4);
        let records: [(u16, u16, &[u8]); 4] = [
            (5, IN, b"\x05other\xc0\x0c"),
            (1, IN, &[192, 0, 2, 1]),
            (1, 3, &[192, 0, 2, 9]),
            (1, IN, &[192, 0, 2, 2]),
        ];
        let found = asked.answer(&answer(&asked, 0x81, 0, &records));
        let addresses = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        assert_eq!(found, Some(Answer::Addresses(addresses.into())));

        let asked = question(Kind::V6);
        let address: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let found = asked.answer(&answer(&asked, 0x81, 0, &[(28, IN, &address.octets())]));
        assert_eq!(found, Some(Answer::Addresses(vec![address.into()])));
        let none = asked.answer(&answer(&asked, 0x81, 0, &records));
        assert_eq!(none, Some(Answer::Addresses(Vec::new())));
    }

    #[test]
    fn codes_are_told_apart() {
        let asked = question(Kind::V4);
        let of = |flags, code| asked.answer(&answer(&asked, flags, code, &[]));
        assert_eq!(of(0x81, 3), Some(Answer::NoSuchName));
        assert_eq!(of(0x83, 0), Some(Answer::Truncated));
        for (code, name) in [
            (1, "FORMERR"),
            (2, "SERVFAIL"),
            (5, "REFUSED"),
            (9, "code 9"),
        ] {
            assert_eq!(of(0x81, code), Some(Answer::Failed(ResponseCode(code))));
            assert_eq!(ResponseCode(code).to_string(), name);
        }
    }

    #[test]
    fn what_does_not_answer_the_question_is_no_answer() {
        let asked = question(Kind::V4);
        let good = answer(&asked, 0x81, 0, &[(1, IN, &[192, 0, 2, 1])]);
        assert!(asked.answer(&good).is_some());
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            asked.answer(&bytes)
        };
        assert_eq!(with(&|bytes| bytes[0] ^= 1), None, "another id");
        assert_eq!(with(&|bytes| bytes[2] = 0x01), None, "a question");
        assert_eq!(with(&|bytes| bytes[2] = 0x89), None, "another operation");
        assert_eq!(with(&|bytes| bytes[13] ^= 1), None, "another name");
        assert_eq!(with(&|bytes| bytes[5] = 0), None, "no question");
        assert_eq!(with(&|bytes| bytes[5] = 2), None, "two questions");
        assert!(with(&|bytes| bytes[13] ^= 0x20).is_some(), "another case");
        for length in 0..good.len() {
            assert_eq!(asked.answer(&good[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_message_breaks_the_reader(
            head in prop::collection::vec(any::<u8>(), 0..16),
            tail in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let asked = question(Kind::V4);
            let _ = asked.answer(&tail);
            // One that gets past the question.
            let mut bytes = answer(&asked, 0x81, 0, &[]);
            bytes[6] = head.first().copied().unwrap_or(1);
            bytes.extend(head);
            bytes.extend(tail);
            let _ = asked.answer(&bytes);
        }
    }
}
