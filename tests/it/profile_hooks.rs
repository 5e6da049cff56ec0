//! Hooks of the profiles, as their tests register and examine them.

use postrider_core::{EventId, HookEdit, HookId, NewHook};
use postrider_store::{HookChange, HookReport};
use postrider_tests::{Receiver, TestApp, hook_defaults, hook_to, start};
use std::time::Duration;

pub(crate) const PROFILES: [&str; 4] = ["standard", "solapi", "thulium", "misskey"];

pub(crate) fn hook_of(profile: &str, receiver: &Receiver) -> NewHook {
    of_profile(hook_to(&receiver.url()), profile)
}

/// The hook as its profile's API would register it.
pub(crate) fn of_profile(hook: NewHook, profile: &str) -> NewHook {
    let mut hook = NewHook {
        profile: profile.into(),
        alias: hook_defaults()
            .profiles
            .named(profile)
            .unwrap()
            .alias
            .map(|form| form.draw(start())),
        ..hook
    };
    if hook.alias.is_some() {
        hook.credentials.secrets.clear();
    }
    hook
}

pub(crate) async fn edited(app: &TestApp, hook: HookId, edit: HookEdit) -> HookReport {
    let change = HookChange::Edit(Box::new(edit));
    let changed = app.store.change_hook(hook, change, "test", app.now()).await;
    changed.expect("change the hook")
}

pub(crate) async fn wait_of(app: &TestApp, event: EventId, hook: HookId) -> Duration {
    let next = app.delivery(event, hook).await.next_attempt_at;
    let wait = next.expect("it waits") - app.now();
    wait.to_std().expect("it is not due")
}
