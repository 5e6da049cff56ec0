//! The sample values that tests begin with.

use chrono::TimeZone;
use postrider_compat::SystemSettings;
use postrider_core::{
    EventPattern, HealthPolicy, Hook, HookCredentials, HookId, HookSettings, HookStatus, KeyRing,
    NewEvent, NewHook, Outcome, RetrySchedule, SigningSecret, Timestamp,
};
use postrider_worker::HookDefaults;
use std::time::Duration;

/// The key that seals the secrets of a test, in this process and in those it starts.
pub const KEY: &str = "cG9zdHJpZGVyIHRlc3RzOiAzMiBieXRlcyBvZiBrZXk=";

/// How long the events of a test are kept.
pub(crate) const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// The configured defaults of hooks, with the profiles of all systems.
pub fn hook_defaults() -> HookDefaults {
    hook_defaults_with(&SystemSettings::default())
}

/// The same with the systems configured so.
pub fn hook_defaults_with(systems: &SystemSettings) -> HookDefaults {
    HookDefaults {
        profiles: systems.profiles("localhost"),
        ..HookDefaults::default()
    }
}

/// The time at which a test's clock starts.
pub fn start() -> Timestamp {
    chrono::Utc
        .with_ymd_and_hms(2026, 3, 2, 10, 0, 0)
        .single()
        .expect("a time")
}

/// The key ring of [`KEY`].
pub(crate) fn keys() -> KeyRing {
    KeyRing::new([KEY]).expect("a key")
}

/// An event of the account `default`.
pub fn event(event_type: &str) -> NewEvent {
    NewEvent::new(event_type, &serde_json::json!({ "of": event_type })).expect("a payload")
}

/// A hook with a new secret, for events that match one of `patterns`.
pub fn new_hook(account: &str, patterns: &[&str]) -> NewHook {
    NewHook {
        alias: None,
        account: account.into(),
        url: "https://receiver.example/hook".into(),
        events: patterns
            .iter()
            .map(|pattern| pattern.parse().expect("a pattern"))
            .collect(),
        profile: "standard".into(),
        settings: HookSettings::default(),
        credentials: HookCredentials::signed_with(SigningSecret::generate()),
        at_most: None,
    }
}

/// A hook of the account `default` for every event, at this URL.
pub fn hook_to(url: &str) -> NewHook {
    NewHook {
        url: url.into(),
        ..new_hook("default", &["*"])
    }
}

/// An active hook of the account `default` for every event, as a store returns it.
pub fn stored_hook(id: HookId) -> Hook {
    Hook {
        id,
        alias: None,
        account: "default".into(),
        url: "https://receiver.example/hook".into(),
        events: vec![EventPattern::Any],
        profile: "standard".into(),
        status: HookStatus::Active,
        disabled: None,
        phase: None,
        settings: HookSettings::default(),
        credentials: HookCredentials::signed_with(SigningSecret::generate()),
        locked: false,
        created_at: start(),
        updated_at: start(),
        version: 1,
    }
}

/// The policy of a hook without settings of its own.
pub fn policy() -> HealthPolicy {
    let defaults = HookDefaults::default();
    HealthPolicy {
        back_off_after: defaults.back_off_after,
        back_off_max: defaults.back_off_max.get(),
        disable_after_failures: defaults.disable_after_failures,
        disable_after: defaults.disable_after.get(),
        disable_when_exhausted: false,
    }
}

/// The receiver answered with this status.
pub fn refusal(status: u16) -> Outcome {
    Outcome::refused(status, None)
}

/// The longest that a delivery waits by the default schedule after its `attempt`-th attempt: the
/// wait and a tenth, in whole seconds.
///
/// # Panics
/// When the schedule has no such wait.
pub fn longest_wait(attempt: usize) -> u64 {
    let schedule = RetrySchedule::default();
    let wait = schedule.delays()[attempt - 1].get();
    wait.mul_f64(1.1).as_secs() + 1
}
