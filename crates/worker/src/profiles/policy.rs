//! The policy of a profile: what applies to its hooks unless they set it themselves.

use postrider_core::RetrySchedule;
use std::time::Duration;

/// The policy of a profile. What is `None` follows the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The waits between the attempts of a delivery.
    pub schedule: Option<fn() -> &'static RetrySchedule>,
    /// The deadline of a whole exchange.
    pub timeout: Option<Duration>,
    /// Whether a hook that fails is backed off as a whole. Its deliveries wait by their own
    /// schedule otherwise, and only the caps protect others from it.
    pub backs_off: bool,
    /// When a hook is disabled because of its failures.
    pub disables: DisableWhen,
    /// Whether it is kept when a hook was last sent to and what it answered.
    pub keeps_latest: bool,
    /// Whether retries go where the first attempt went, with the credentials of then, whatever
    /// becomes of the hook.
    pub keeps_target: bool,
}

/// When a hook is disabled because of its failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisableWhen {
    /// After the configured number of failures in a row, over the configured time.
    AfterFailures,
    /// When one delivery has used up its attempts.
    WhenExhausted,
    /// Its failures never disable it.
    Never,
}

impl Policy {
    /// Everything as the configuration says.
    pub const CONFIGURED: Self = Self {
        schedule: None,
        timeout: None,
        backs_off: true,
        disables: DisableWhen::AfterFailures,
        keeps_latest: false,
        keeps_target: false,
    };
}
