//! Events of our own: which are made of what has happened, and for whom.
//!
//! They never feed on themselves. A failed delivery of an event of ours makes no other; a
//! warning that only such deliveries brought about is not announced; and a hook never gets what
//! is about itself. What remains needs a delivery of the application's or a person's hand each
//! time. Nothing is made where no other hook of the account asks for it.

use crate::settlement::DeliverySettlement;
use crate::{Disabling, HookCache, Step, Warning};
use postrider_core::{
    DELIVERY_FAILED, DeliveryId, DeliveryNotice, EventId, EventType, HOOK_DISABLED, HOOK_WARNING,
    Hook, HookId, HookNotice, OURSELVES, Outcome, Reason, Timestamp, url_without_credentials,
};
use serde::Serialize;
use std::collections::HashMap;

/// An event of ours on its way to the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperationalEvent {
    pub account: String,
    pub event_type: &'static str,
    pub payload: String,
    /// The hook that it is about, which does not get it.
    pub about: HookId,
}

impl OperationalEvent {
    pub(crate) fn new(
        account: &str,
        event_type: &'static str,
        about: HookId,
        notice: &impl Serialize,
    ) -> Self {
        Self {
            account: account.to_owned(),
            event_type,
            // Names and text alone: there is nothing in it that JSON does not know.
            payload: serde_json::to_string(notice).unwrap_or_else(|_| "{}".into()),
            about,
        }
    }
}

/// What is announced of settlements that took effect, and of what they did to their hooks.
pub(crate) fn of_settled(
    cache: &HookCache,
    effective: &[DeliverySettlement<'_>],
    warned: &[Warning],
    disabled: &[Disabling],
    now: Timestamp,
) -> Vec<OperationalEvent> {
    if !cache.is_any_account_watched() {
        return Vec::new();
    }
    let mut announcements = failed_deliveries(cache, effective, now);
    if warned.is_empty() && disabled.is_empty() {
        return announcements;
    }
    let hooks: HashMap<HookId, &Hook> = effective
        .iter()
        .map(|settled| (settled.hook(), settled.request().hook.as_ref()))
        .collect();
    for warning in warned {
        if let Some(hook) = hooks.get(&warning.hook)
            && has_failed_in_earnest(effective, hook.id)
            && cache.is_watched(&hook.account, HOOK_WARNING, hook.id)
        {
            let notice = HookNotice {
                reason: Some("failures"),
                fail_count: warning.fail_count,
                first_failure_at: warning.first_failure_at,
                last_error: Some(warning.last_error.clone()),
                ..notice_of(hook.id, &hook.url, OURSELVES, now)
            };
            let made = OperationalEvent::new(&hook.account, HOOK_WARNING, hook.id, &notice);
            announcements.push(made);
        }
    }
    for disabling in disabled {
        if let Some(hook) = hooks.get(&disabling.hook)
            && cache.is_watched(&hook.account, HOOK_DISABLED, hook.id)
        {
            let notice = HookNotice {
                reason: Some(disabling.reason.name()),
                fail_count: disabling.fail_count,
                first_failure_at: disabling.first_failure_at,
                last_error: Some(disabling.last_error.clone()),
                ..notice_of(hook.id, &hook.url, OURSELVES, now)
            };
            let made = OperationalEvent::new(&hook.account, HOOK_DISABLED, hook.id, &notice);
            announcements.push(made);
        }
    }
    announcements
}

/// A delivery that failed for good because its worker was lost again and again.
pub(crate) struct LostDelivery {
    pub id: DeliveryId,
    pub event: EventId,
    pub event_type: String,
    pub hook: HookId,
    pub reason: Reason,
    pub attempts: u32,
}

/// What is announced of deliveries that were lost for good.
pub(crate) fn of_lost(
    cache: &HookCache,
    lost: impl IntoIterator<Item = LostDelivery>,
    now: Timestamp,
) -> Vec<OperationalEvent> {
    let announced = lost.into_iter().filter_map(|lost| {
        let hook = cache.get(lost.hook)?;
        if EventType::is_operational(&lost.event_type)
            || !cache.is_watched(&hook.account, DELIVERY_FAILED, hook.id)
        {
            return None;
        }
        let notice = DeliveryNotice {
            delivery_id: lost.id,
            event_id: lost.event,
            event_type: lost.event_type,
            hook_id: hook.id,
            url: url_without_credentials(&hook.url),
            reason: lost.reason.name(),
            attempts: lost.attempts,
            last_error: Outcome::WorkerLost.to_string(),
            at: now,
        };
        Some(OperationalEvent::new(
            &hook.account,
            DELIVERY_FAILED,
            hook.id,
            &notice,
        ))
    });
    announced.collect()
}

/// A notice of a hook without failures.
pub(crate) fn notice_of(hook: HookId, url: &str, by: &str, now: Timestamp) -> HookNotice {
    HookNotice {
        hook_id: hook,
        url: url_without_credentials(url),
        reason: None,
        fail_count: 0,
        first_failure_at: None,
        last_error: None,
        by: by.to_owned(),
        at: now,
    }
}

fn failed_deliveries(
    cache: &HookCache,
    effective: &[DeliverySettlement<'_>],
    now: Timestamp,
) -> Vec<OperationalEvent> {
    let failed = effective.iter().filter_map(|settled| {
        let (hook, event) = (&settled.request().hook, &settled.delivery.event);
        let Step::Failed(reason) = settled.step() else {
            return None;
        };
        if EventType::is_operational(&event.event_type)
            || !cache.is_watched(&hook.account, DELIVERY_FAILED, hook.id)
        {
            return None;
        }
        let notice = DeliveryNotice {
            delivery_id: settled.delivery.id,
            event_id: event.id,
            event_type: event.event_type.clone(),
            hook_id: hook.id,
            url: url_without_credentials(&hook.url),
            reason: reason.name(),
            attempts: settled.number(),
            last_error: settled.attempt.error().unwrap_or_default(),
            at: now,
        };
        Some(OperationalEvent::new(
            &hook.account,
            DELIVERY_FAILED,
            hook.id,
            &notice,
        ))
    });
    failed.collect()
}

/// Whether a delivery of the application's is among what failed of this hook.
fn has_failed_in_earnest(effective: &[DeliverySettlement<'_>], hook: HookId) -> bool {
    effective.iter().any(|settled| {
        settled.hook() == hook
            && settled.attempt.outcome.is_hook_failure()
            && !EventType::is_operational(&settled.delivery.event.event_type)
    })
}
