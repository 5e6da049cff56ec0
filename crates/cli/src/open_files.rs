//! The limit of open files.
//!
//! Each request in flight and each idle connection takes a file descriptor. Many systems give a
//! process 1,024 and let it ask for far more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// File descriptors for everything but requests: connections to the database, callers of the API.
const RESERVED: u64 = 256;

/// Raises the limit to the highest that the system grants, and warns when `in_flight` requests and
/// `idle` connections need more.
pub(crate) fn raise_limit(in_flight: u64, idle: u64) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let granted = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    };
    let needed = in_flight + idle + RESERVED;
    if let Some(granted) = granted.filter(|granted| *granted < needed) {
        warn!(
            "The limit of open files is {granted}, and {needed} may be needed: {in_flight} for \
             requests in flight, {idle} for idle connections, {RESERVED} for the database and the \
             API. Raise it (ulimit -n, or LimitNOFILE= of systemd) or lower worker.concurrency"
        );
    }
}
