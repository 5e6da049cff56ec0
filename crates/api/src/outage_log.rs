//! Logs an outage of the database once when it begins and once when it ends, however many requests
//! fail during it.

use postrider_store::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::{info, warn};

/// Whether the last call of the store failed because of the database.
#[derive(Debug, Default)]
pub(crate) struct Trouble(AtomicBool);

impl Trouble {
    /// Notes a call of the store that failed for a reason that is not the caller's.
    pub(crate) fn met(&self, error: &Error) {
        if !self.0.swap(true, Ordering::Relaxed) {
            warn!("The API cannot use the database and answers 503 until it can: {error}");
        }
    }

    /// Notes a call of the store that succeeded.
    pub(crate) fn passed(&self) {
        if self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed) {
            info!("The API can use the database again");
        }
    }
}
