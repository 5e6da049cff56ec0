//! The policy of a hook: its own settings, else its profile's, else the configured defaults.

use super::policy::DisableWhen;
use crate::settings::HookDefaults;
use postrider_core::{Batches, Batching, HealthPolicy, Hook, RetrySchedule, Schedules};
use std::sync::Arc;

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
    /// When `hook` is backed off and when it is disabled. What it sets for itself holds in
    /// every profile.
    pub fn health_policy(&self, hook: &Hook) -> HealthPolicy {
        let settings = &hook.settings;
        let disables = self.profiles.of(hook).policy.disables;
        let failures = settings.disable_after_failures;
        let after = match disables {
            DisableWhen::AfterFailures => self.disable_after_failures,
            // One that says for how long it may fail wants to be disabled then.
            _ if settings.disable_after.is_some() => self.disable_after_failures,
            DisableWhen::WhenExhausted | DisableWhen::Never => HealthPolicy::NEVER,
        };
        HealthPolicy {
            back_off_after: self.back_off_after(hook),
            back_off_max: self.back_off_max.get(),
            disable_after_failures: failures.unwrap_or(after),
            disable_after: settings.disable_after.unwrap_or(self.disable_after).get(),
            disable_when_exhausted: disables == DisableWhen::WhenExhausted,
        }
    }

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
