//! Why a delivery may not start now.

use std::time::Instant;

/// Why the next delivery of a hook may not start now, and what ends that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// Nothing of the hook is queued. Ends with the next lease.
    NothingQueued,
    /// The hook was changed or backed off as of this version, which the hook cache does not
    /// have yet. Ends when it does: what is queued is then given back or starts.
    OutdatedHook { version: i64 },
    /// A local fault kept the latest request of the hook from being tried. Ends after a moment,
    /// for one request; for others when that one was tried.
    LocalFault,
    /// The receiver throttles us, and that is not recorded yet. Ends when it is.
    Throttled,
    /// As many attempts as back the hook off have failed and are not recorded yet. Ends when
    /// they are.
    FailuresUnrecorded,
    /// The hook has its maximum in flight: `worker.per_hook`, its own limit, or its ramp.
    /// Failures that are not recorded yet keep their places. Ends when an attempt ends or is
    /// recorded.
    HookCap,
    /// The hook has not shown that it accepts deliveries, and has as many in flight as back it
    /// off. Ends when it accepts one, or after `until` if it neither answers nor fails until
    /// then; with `None` it has failed already.
    Unproven { until: Option<Instant> },
    /// As many requests are in flight as the processors can serve. Ends when one ends.
    ConcurrencyLimit,
    /// The hook is slow, and slow hooks hold their share of all places. Ends when one of their
    /// attempts ends, or this hook answers.
    SlowShare,
}
