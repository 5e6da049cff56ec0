//! Trouble with the database, told once when it begins and once when it is over: a thousand
//! requests a second that fail for one reason are one thing to look after.

use postrider_store::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::{info, warn};

/// Whether the database is in trouble.
#[derive(Debug, Default)]
pub(crate) struct Trouble(AtomicBool);

impl Trouble {
    /// A call of the store failed for a reason that is not the caller's.
    pub(crate) fn met(&self, error: &Error) {
        if !self.0.swap(true, Ordering::Relaxed) {
            warn!("The API cannot use the database, and answers 503 until it can: {error}");
        }
    }

    /// A call of the store succeeded.
    pub(crate) fn passed(&self) {
        if self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed) {
            info!("The API can use the database again");
        }
    }
}
