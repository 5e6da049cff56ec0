//! What operators watch.

use crate::{Diagnostics, GaugeSample, Result};
use async_trait::async_trait;
use postrider_core::Timestamp;

/// What operators watch.
#[async_trait]
pub trait Monitoring: Send + Sync {
    /// What the database tells about itself, as of `now`. Reads catalogs and statistics only,
    /// whatever the tables hold.
    async fn diagnostics(&self, now: Timestamp) -> Result<Diagnostics>;

    /// The latest sample of how much waits and how the database is; nothing before the first.
    ///
    /// A sample is taken every ten seconds, by whoever asks first when it is time; all others
    /// are given the one before, also while it is being taken. Counts end at
    /// [`GAUGES_COUNTED`], so that no backlog makes a sample costly; one that takes half a
    /// second or more is followed by a pause of twenty times that.
    ///
    /// [`GAUGES_COUNTED`]: crate::GAUGES_COUNTED
    async fn gauges(&self, now: Timestamp) -> Result<Option<GaugeSample>>;
}
