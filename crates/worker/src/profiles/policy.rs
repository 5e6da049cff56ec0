//! What holds for the hooks of a profile, unless they set it themselves.

use super::{Profile, ProfileOptions};
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
    /// How the events of a hook go together, several in one request; `None` for a profile whose
    /// requests have one event each.
    pub batches: Option<fn(&Hook, &ProfileOptions) -> Option<Batching>>,
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
        batches: None,
        keeps_target: false,
    };

    /// From how many failures in a row `hook` is backed off; `configured` is what holds for
    /// those that say nothing else.
    pub(crate) fn back_off_after(hook: &Hook, configured: u32) -> u32 {
        let own = hook.settings.back_off_after;
        own.unwrap_or_else(|| match Profile::of(hook).policy.backs_off {
            true => configured,
            false => HealthPolicy::NEVER,
        })
    }

    /// When `hook` is backed off and when it is disabled. What it sets for itself holds in
    /// every profile.
    pub(crate) fn of(hook: &Hook, defaults: &HookDefaults) -> HealthPolicy {
        let settings = &hook.settings;
        let disables = Profile::of(hook).policy.disables;
        let failures = settings.disable_after_failures;
        let after = match disables {
            DisableWhen::AfterFailures => defaults.disable_after_failures,
            // One that says for how long it may fail wants to be disabled then.
            _ if settings.disable_after.is_some() => defaults.disable_after_failures,
            DisableWhen::WhenExhausted | DisableWhen::Never => HealthPolicy::NEVER,
        };
        HealthPolicy {
            back_off_after: Self::back_off_after(hook, defaults.back_off_after),
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
        let profile = Profile::of(hook).policy.schedule;
        own.or_else(|| profile.map(|schedule| schedule()))
            .unwrap_or(&self.retry_schedule)
    }
}

impl HookDefaults {
    /// Which hooks get several events in one request; `None` when there can be none.
    pub(crate) fn batches(self: &Arc<Self>) -> Option<Arc<dyn Batches>> {
        match self.profiles.any_batches() {
            true => Some(self.clone()),
            false => None,
        }
    }
}

impl Batches for HookDefaults {
    fn of(&self, hook: &Hook) -> Option<Batching> {
        let batches = Profile::of(hook).policy.batches?;
        batches(hook, &self.profiles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hook, now};
    use postrider_core::{HookId, Span};

    fn of_profile(name: &str) -> Hook {
        Hook {
            profile: name.into(),
            ..hook(HookId::draw(now()), "http://127.0.0.1:1/")
        }
    }

    fn waits(hook: &Hook) -> Vec<u64> {
        let defaults = HookDefaults::default();
        let schedule = Schedules::of(&defaults, Some(hook));
        let delays = schedule.delays().iter();
        delays.map(|delay| delay.get().as_secs()).collect()
    }

    #[test]
    fn each_profile_has_its_schedule_unless_the_hook_has_one() {
        let solapi = [900, 1800, 3600, 7200, 14400, 28800, 57600];
        assert_eq!(waits(&of_profile("solapi")), solapi);
        assert_eq!(waits(&of_profile("misskey")), [60, 180, 420]);
        assert_eq!(
            waits(&of_profile("thulium")),
            waits(&of_profile("standard"))
        );
        let mut own = of_profile("solapi");
        own.settings.retry_schedule = Some(RetrySchedule::new(vec![Span::secs(7)]));
        assert_eq!(waits(&own), [7]);
    }

    #[test]
    fn profiles_with_schedules_of_their_own_are_not_backed_off() {
        let defaults = HookDefaults::default();
        let policy = |name: &str| Policy::of(&of_profile(name), &defaults);
        let never = HealthPolicy::NEVER;
        for (name, back_off_after, failures, exhausted) in [
            ("standard", 5, 20, false),
            ("thulium", 5, 20, false),
            ("solapi", never, never, true),
            ("misskey", never, never, false),
            ("unknown", 5, 20, false),
        ] {
            let policy = policy(name);
            assert_eq!(policy.back_off_after, back_off_after, "{name}");
            assert_eq!(policy.disable_after_failures, failures, "{name}");
            assert_eq!(policy.disable_when_exhausted, exhausted, "{name}");
        }
    }

    #[test]
    fn only_hooks_whose_profile_batches_do() {
        let mut defaults = HookDefaults::default();
        assert!(Arc::new(defaults.clone()).batches().is_none());
        defaults.profiles.solapi.batch_window = Duration::from_secs(2);
        assert!(Arc::new(defaults.clone()).batches().is_some());
        let most = |hook: &Hook| Batches::of(&defaults, hook).map(|batching| batching.most);
        assert_eq!(most(&of_profile("standard")), None);
        let mut hook = of_profile("solapi");
        for (set, expected) in [
            (None, Some(100)),
            (Some("1"), None),
            (Some("7"), Some(7)),
            (Some("1000"), Some(100)),
        ] {
            let profile = &mut hook.settings.profile;
            profile.extend(set.map(|set| ("batch".into(), set.into())));
            assert_eq!(most(&hook), expected, "{set:?}");
        }
    }

    #[test]
    fn what_a_hook_sets_holds_in_every_profile() {
        let mut hook = of_profile("misskey");
        hook.settings.back_off_after = Some(3);
        hook.settings.disable_after = Some(Span::secs(60));
        let policy = Policy::of(&hook, &HookDefaults::default());
        assert_eq!(
            (policy.back_off_after, policy.disable_after_failures),
            (3, 20)
        );
        assert_eq!(policy.disable_after, Duration::from_secs(60));
    }
}
