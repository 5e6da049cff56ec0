//! The state of the database and of the backlog.

use crate::{Diagnostics, GaugeSample, Result};
use async_trait::async_trait;
use postrider_core::Timestamp;

/// The state of the database and of the backlog.
#[async_trait]
pub trait Monitoring: Send + Sync {
    /// Reads the state of the database as of `now`. Reads catalogs and statistics only, so that
    /// the cost does not depend on the contents of the tables.
    ///
    /// # Errors
    /// Those of every method.
    async fn diagnostics(&self, now: Timestamp) -> Result<Diagnostics>;

    /// Returns the latest sample of the backlog and of the state of the database; `None` before
    /// the first.
    ///
    /// A sample is taken every ten seconds, by the first caller after it is due; all others get
    /// the one before, also while it is being taken. Counts end at [`GAUGES_COUNTED`], so that no
    /// backlog makes a sample costly. A sample that takes half a second or more is followed by a
    /// pause of twenty times its duration.
    ///
    /// # Errors
    /// [`Database`](crate::Error::Database): taking a sample took longer than 30 s (PostgreSQL
    /// only). It is tried again in a minute.
    ///
    /// [`GAUGES_COUNTED`]: crate::GAUGES_COUNTED
    async fn gauges(&self, now: Timestamp) -> Result<Option<GaugeSample>>;
}
