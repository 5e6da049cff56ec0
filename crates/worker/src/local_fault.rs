//! Local faults: failures of this machine, as distinct from those of receivers.
//!
//! A request that could not be tried here says nothing about the hook: no attempt is counted, and
//! the delivery is given back. A failure of uncertain origin counts as the receiver's, because
//! its retries end by a schedule, while those of a local fault never end.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

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
    /// The name servers do not answer.
    #[error(
        "the name servers of this machine do not answer, not even for names that resolved not long ago: see /etc/resolv.conf, or worker.name_servers if it is set"
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
    fn a_fault_is_logged_once_a_minute() {
        let start = monotonic_now();
        let mut log = FaultLog::default();
        assert!(log.is_news(LocalFault::Descriptors, start));
        assert!(log.is_news(LocalFault::Resolver, start));
        assert!(!log.is_news(LocalFault::Descriptors, start + LOG_EVERY / 2));
        assert!(log.is_news(LocalFault::Descriptors, start + LOG_EVERY));
    }
}
