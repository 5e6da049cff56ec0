//! Which connections are still to be used: those made since the last one broke.
//!
//! When a server ends a session, falls silent or turns read-only, the other connections that were
//! made before lead to the same server. The first that breaks begins a new epoch. Connections of
//! an earlier epoch are closed when they come back, and new ones go where the name of the
//! database leads now.

use std::sync::atomic::{AtomicU64, Ordering};
use tracing::warn;

/// How a connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breakage {
    /// The server ended the session, or the connection was closed.
    Ended,
    /// The server answered nothing.
    Silent,
    /// The server takes no writes, as after a failover.
    ReadOnly,
}

/// The number of times that connections broke.
#[derive(Debug, Default)]
pub(super) struct Epoch(AtomicU64);

impl Epoch {
    pub(super) fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// A connection of the epoch `of` broke. Several of one epoch begin one new epoch.
    pub(super) fn broke(&self, of: u64, how: Breakage) {
        let next = of + 1;
        let order = Ordering::AcqRel;
        if self
            .0
            .compare_exchange(of, next, order, Ordering::Acquire)
            .is_err()
        {
            return;
        }
        match how {
            Breakage::Ended => {}
            Breakage::Silent => {
                warn!("The database did not answer in time; every connection to it is replaced")
            }
            Breakage::ReadOnly => warn!(
                "The server is read-only, as after a failover; every connection to it is replaced"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_break_together_begin_one_epoch() {
        let epoch = Epoch::default();
        epoch.broke(0, Breakage::Silent);
        epoch.broke(0, Breakage::Ended);
        assert_eq!(epoch.current(), 1);
        epoch.broke(1, Breakage::ReadOnly);
        assert_eq!(epoch.current(), 2);
    }
}
