//! Local faults: failures of this machine, as distinct from those of receivers.
//!
//! A request that could not be tried here says nothing about the hook: no attempt is counted, and
//! the delivery is given back. A failure of uncertain origin counts as the receiver's, because
//! its retries end by a schedule, while those of a local fault never end.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

/// The resolver is at fault when this many unrelated names fail …
const UNRELATED: usize = 3;
/// … within this time.
const TOGETHER: Duration = Duration::from_secs(60);
/// How often the same fault is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Why a request could not be tried on this machine.
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
    /// Every local fault.
    pub const ALL: [Self; 3] = [Self::Descriptors, Self::Memory, Self::Resolver];

    /// The value of the metric's label `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::Resolver => "resolver",
        }
    }

    /// The fault that an error of the operating system indicates.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match error.raw_os_error()? {
            libc::EMFILE | libc::ENFILE => Some(Self::Descriptors),
            libc::ENOMEM | libc::ENOBUFS => Some(Self::Memory),
            _ => None,
        }
    }
}

/// Whether a name was not resolved because no resolver answered. A name that does not exist is
/// a mistake of the hook.
///
/// The standard library distinguishes the two only by the text of glibc or musl.
pub(crate) fn is_unanswered(error: &io::Error) -> bool {
    let text = error.to_string();
    error.kind() == io::ErrorKind::TimedOut
        || text.contains("Temporary failure in name resolution")
        || text.ends_with("Try again")
}

/// The names that recently got no answer. One name may have broken servers of its own. When
/// several unrelated names fail and none is resolved in between, the local resolver is at fault.
#[derive(Debug, Default)]
pub(crate) struct UnansweredNames {
    unanswered: HashMap<String, Instant>,
}

impl UnansweredNames {
    /// A name was resolved, or is known not to exist: the resolver answers.
    pub(crate) fn answered(&mut self) {
        self.unanswered.clear();
    }

    /// This name got no answer. Returns whether the local resolver is at fault.
    pub(crate) fn unanswered(&mut self, host: &str, now: Instant) -> bool {
        self.unanswered
            .retain(|_, at| now.saturating_duration_since(*at) < TOGETHER);
        self.unanswered.insert(domain_of(host), now);
        self.unanswered.len() >= UNRELATED
    }
}

/// What related hosts have in common: the last two labels. Too coarse for `co.uk`, where it only
/// takes longer to suspect the local resolver.
fn domain_of(host: &str) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let mut dots = host.rmatch_indices('.').map(|(at, _)| at + 1);
    let begin = dots.nth(1).unwrap_or(0);
    host[begin..].to_owned()
}

/// When each fault was last logged, so that it is logged once a minute.
#[derive(Debug, Default)]
pub(crate) struct FaultLog(HashMap<LocalFault, Instant>);

impl FaultLog {
    /// Whether to log this fault now; the next calls within a minute return `false`.
    pub(crate) fn is_news(&mut self, fault: LocalFault, now: Instant) -> bool {
        let news = self
            .0
            .get(&fault)
            .is_none_or(|logged| now.saturating_duration_since(*logged) >= LOG_EVERY);
        if news {
            self.0.insert(fault, now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::monotonic_now;

    #[test]
    fn errors_of_the_system_are_local_or_the_receivers() {
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
    fn the_resolver_is_at_fault_when_unrelated_names_fail_together() {
        let start = monotonic_now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut names = UnansweredNames::default();
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
    fn a_fault_is_logged_once_a_minute() {
        let start = monotonic_now();
        let mut log = FaultLog::default();
        assert!(log.is_news(LocalFault::Descriptors, start));
        assert!(log.is_news(LocalFault::Resolver, start));
        assert!(!log.is_news(LocalFault::Descriptors, start + LOG_EVERY / 2));
        assert!(log.is_news(LocalFault::Descriptors, start + LOG_EVERY));
    }
}
