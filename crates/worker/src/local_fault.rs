//! Tells faults of our own from those of receivers.
//!
//! A request that could not even be tried here says nothing about the hook: no attempt is
//! counted, and the delivery is given back. What cannot be told apart with certainty is the
//! receiver's failure: that ends by a schedule, a fault of our own is tried again without end.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

/// How long names must fail together, and how many unrelated ones.
const TOGETHER: Duration = Duration::from_secs(60);
const UNRELATED: usize = 3;
/// How often the same fault is told.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Why a request could not be tried at all, which is no receiver's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LocalFault {
    /// The process or the system has no file descriptor left.
    #[error(
        "no file descriptor is left for a connection: raise the limit of open files (ulimit -n) or lower worker.concurrency"
    )]
    Descriptors,
    /// The system has no memory left for a connection.
    #[error(
        "the system has no memory left for a connection: give it more or lower worker.concurrency"
    )]
    Memory,
    /// The system's name resolver does not answer.
    #[error(
        "the name resolver of this machine does not answer for several unrelated names: see /etc/resolv.conf and the servers it names"
    )]
    Resolver,
}

impl LocalFault {
    /// Every fault there is.
    pub const ALL: [Self; 3] = [Self::Descriptors, Self::Memory, Self::Resolver];

    /// The fault's name, as it is counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::Resolver => "resolver",
        }
    }

    /// The fault that an error of the operating system tells of.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match error.raw_os_error()? {
            libc::EMFILE | libc::ENFILE => Some(Self::Descriptors),
            libc::ENOMEM | libc::ENOBUFS => Some(Self::Memory),
            _ => None,
        }
    }
}

/// Whether a name was not resolved because no resolver answered. A name that does not exist is
/// the hook's own mistake.
///
/// The standard library tells the two apart in words only: those of glibc and of musl.
pub(crate) fn is_unanswered(error: &io::Error) -> bool {
    let said = error.to_string();
    error.kind() == io::ErrorKind::TimedOut
        || said.contains("Temporary failure in name resolution")
        || said.ends_with("Try again")
}

/// The names that lately got no answer. One name may have broken servers of its own; when
/// several unrelated ones fail and none is resolved in between, it is our resolver.
#[derive(Debug, Default)]
pub(crate) struct Names {
    unanswered: HashMap<String, Instant>,
}

impl Names {
    /// A name was resolved, or is known not to exist: the resolver answers.
    pub(crate) fn answered(&mut self) {
        self.unanswered.clear();
    }

    /// This name got no answer. Returns whether the resolver is to blame.
    pub(crate) fn unanswered(&mut self, host: &str, now: Instant) -> bool {
        self.unanswered
            .retain(|_, at| now.saturating_duration_since(*at) < TOGETHER);
        self.unanswered.insert(domain_of(host), now);
        self.unanswered.len() >= UNRELATED
    }
}

/// What hosts of one owner have in common: the last two labels. Too coarse for `co.uk`, which
/// only makes it take longer to suspect ourselves.
fn domain_of(host: &str) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let mut dots = host.rmatch_indices('.').map(|(at, _)| at + 1);
    let begin = dots.nth(1).unwrap_or(0);
    host[begin..].to_owned()
}

/// Which faults were told when, so that each is told once a minute.
#[derive(Debug, Default)]
pub(crate) struct Told(HashMap<LocalFault, Instant>);

impl Told {
    /// Whether it is time to tell of this fault, which is then noted.
    pub(crate) fn is_news(&mut self, fault: LocalFault, now: Instant) -> bool {
        let news = self
            .0
            .get(&fault)
            .is_none_or(|told| now.saturating_duration_since(*told) >= TELL_EVERY);
        if news {
            self.0.insert(fault, now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_ours_or_the_receivers() {
        let table = [
            (libc::EMFILE, Some(LocalFault::Descriptors)),
            (libc::ENFILE, Some(LocalFault::Descriptors)),
            (libc::ENOMEM, Some(LocalFault::Memory)),
            (libc::ENOBUFS, Some(LocalFault::Memory)),
            (libc::ECONNREFUSED, None),
            (libc::ECONNRESET, None),
            (libc::EHOSTUNREACH, None),
            (libc::ENETUNREACH, None),
            // An IPv6 address without IPv6 here looks the same as no port being left.
            (libc::EADDRNOTAVAIL, None),
            (libc::ETIMEDOUT, None),
        ];
        for (number, fault) in table {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(LocalFault::of(&error), fault, "{error}");
        }
        assert_eq!(LocalFault::of(&io::Error::other("no number")), None);
    }

    #[test]
    fn an_unknown_name_is_an_answer() {
        let said = |detail: &str| {
            let text = format!("failed to lookup address information: {detail}");
            is_unanswered(&io::Error::other(text))
        };
        assert!(said("Temporary failure in name resolution"));
        assert!(said("Try again"));
        assert!(!said("Name or service not known"));
        assert!(!said("Name does not resolve"));
        assert!(is_unanswered(&io::ErrorKind::TimedOut.into()));
    }

    #[test]
    fn the_resolver_is_blamed_when_unrelated_names_fail_together() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut names = Names::default();
        assert!(!names.unanswered("a.example.com", at(0)));
        assert!(!names.unanswered("b.example.com", at(1)), "of one owner");
        assert!(!names.unanswered("example.org", at(2)));
        assert!(names.unanswered("hooks.example.net.", at(3)));
        assert!(names.unanswered("a.example.com", at(4)), "and it goes on");

        names.answered();
        assert!(!names.unanswered("hooks.example.net", at(5)));
        assert!(!names.unanswered("example.org", at(6)));
        assert!(!names.unanswered("example.com", at(66)), "not together");
    }

    #[test]
    fn a_fault_is_told_once_a_minute() {
        let start = Instant::now();
        let mut told = Told::default();
        assert!(told.is_news(LocalFault::Descriptors, start));
        assert!(told.is_news(LocalFault::Resolver, start));
        assert!(!told.is_news(LocalFault::Descriptors, start + TELL_EVERY / 2));
        assert!(told.is_news(LocalFault::Descriptors, start + TELL_EVERY));
    }
}
