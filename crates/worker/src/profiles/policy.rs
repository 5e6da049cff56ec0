//! What holds for the hooks of a profile, unless they set it themselves.

use crate::settings::HookDefaults;
use postrider_core::{Batches, Batching, HealthPolicy, Hook, RetrySchedule, Schedules};
use std::sync::Arc;
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
    /// After so many failures in a row over such a time, as the configuration says.
    AfterFailures,
    /// When one delivery has used up its attempts.
    WhenExhausted,
    /// Never.
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

    /// When `hook` is backed off and when it is disabled. What it sets for itself holds in
    /// every profile.
    pub fn of(hook: &Hook, defaults: &HookDefaults) -> HealthPolicy {
        let settings = &hook.settings;
        let disables = defaults.profiles.of(hook).policy.disables;
        let failures = settings.disable_after_failures;
        let after = match disables {
            DisableWhen::AfterFailures => defaults.disable_after_failures,
            // One that says for how long it may fail wants to be disabled then.
            _ if settings.disable_after.is_some() => defaults.disable_after_failures,
            DisableWhen::WhenExhausted | DisableWhen::Never => HealthPolicy::NEVER,
        };
        HealthPolicy {
            back_off_after: defaults.back_off_after(hook),
            back_off_max: defaults.back_off_max.get(),
            disable_after_failures: failures.unwrap_or(after),
            disable_after: settings
                .disable_after
                .unwrap_or(defaults.disable_after)
                .get(),
            disable_when_exhausted: disables == DisableWhen::WhenExhausted,
        }
    }
}

/// A hook's own schedule, else its profile's, else the configured one.
impl Schedules for HookDefaults {
    fn of<'a>(&'a self, hook: Option<&'a Hook>) -> &'a RetrySchedule {
        let Some(hook) = hook else {
            return &self.retry_schedule;
        };
        let own = hook.settings.retry_schedule.as_ref();
        let profile = self.profiles.of(hook).policy.schedule;
        own.or_else(|| profile.map(|schedule| schedule()))
            .unwrap_or(&self.retry_schedule)
    }
}

impl HookDefaults {
    /// After how many failures in a row `hook` is backed off.
    pub(crate) fn back_off_after(&self, hook: &Hook) -> u32 {
        let own = hook.settings.back_off_after;
        own.unwrap_or_else(|| match self.profiles.of(hook).policy.backs_off {
            true => self.back_off_after,
            false => HealthPolicy::NEVER,
        })
    }

    /// Which hooks get several events in one request; `None` when there can be none.
    pub fn batches(self: &Arc<Self>) -> Option<Arc<dyn Batches>> {
        let mut profiles = self.profiles.iter();
        let any = profiles.any(|profile| profile.format.batches_any());
        any.then(|| self.clone() as Arc<dyn Batches>)
    }
}

impl Batches for HookDefaults {
    fn of(&self, hook: &Hook) -> Option<Batching> {
        self.profiles.of(hook).format.batching(hook)
    }
}
