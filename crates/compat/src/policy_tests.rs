//! The policies of the systems' profiles, beside the standard one.

use crate::SystemSettings;
use postrider_core::{Batches, HealthPolicy, Hook, HookId, RetrySchedule, Schedules, Span};
use postrider_tests::{start, stored_hook};
use postrider_worker::{HookDefaults, Policy};
use std::sync::Arc;
use std::time::Duration;

fn configured(settings: &SystemSettings) -> HookDefaults {
    HookDefaults {
        profiles: settings.profiles("localhost"),
        ..HookDefaults::default()
    }
}

fn defaults() -> HookDefaults {
    configured(&SystemSettings::default())
}

fn of_profile(name: &str) -> Hook {
    Hook {
        profile: name.into(),
        ..stored_hook(HookId::draw(start()))
    }
}

fn waits(hook: &Hook) -> Vec<u64> {
    let defaults = defaults();
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
    let defaults = defaults();
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
    assert!(Arc::new(defaults()).batches().is_none());
    let mut settings = SystemSettings::default();
    settings.solapi.batch_window = Span::secs(2);
    let defaults = configured(&settings);
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
    let policy = Policy::of(&hook, &defaults());
    assert_eq!(
        (policy.back_off_after, policy.disable_after_failures),
        (3, 20)
    );
    assert_eq!(policy.disable_after, Duration::from_secs(60));
}
