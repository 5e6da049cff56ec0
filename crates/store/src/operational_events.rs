//! Operational events: which ones follow from settlements and changes of hooks.
//!
//! They never cause each other. A failed delivery of an operational event causes no other; a
//! warning that only such deliveries brought about is not announced; a hook never gets an event
//! about itself. Each of the others needs a delivery of an application's event, or an action of a
//! person. None is created where no other hook of the account asks for it.

use crate::hook_change::HookFailures;
use crate::hook_row::HookRow;
use crate::settlement::DeliverySettlement;
use crate::{Disabling, HookCache, Step, Warning};
use postrider_core::{
    DELIVERY_FAILED, DeliveryId, DeliveryNotice, DisabledReason, EventId, EventType, HOOK_DISABLED,
    HOOK_ENABLED, HOOK_WARNING, Hook, HookAction, HookId, HookNotice, HookStatus, OURSELVES,
    Reason, Timestamp, url_without_credentials,
};
use serde::Serialize;
use std::collections::HashMap;

/// An operational event on its way to the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperationalEvent {
    pub account: String,
    pub event_type: &'static str,
    pub payload: String,
    /// The hook that the event is about, and which does not get it.
    pub about: HookId,
}

impl OperationalEvent {
    fn new(
        account: &str,
        event_type: &'static str,
        about: HookId,
        notice: &impl Serialize,
    ) -> Self {
        Self {
            account: account.to_owned(),
            event_type,
            // It has names and texts only, which JSON can always represent.
            payload: serde_json::to_string(notice).unwrap_or_else(|_| "{}".into()),
            about,
        }
    }
}

/// The events of settlements that took effect, and of the warnings and disablings they caused.
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
    let mut events = failed_deliveries(cache, effective, now);
    if warned.is_empty() && disabled.is_empty() {
        return events;
    }
    let hooks: HashMap<HookId, &Hook> = effective
        .iter()
        .map(|settled| (settled.hook(), settled.request().hook.as_ref()))
        .collect();
    for warning in warned {
        if let Some(hook) = hooks.get(&warning.hook)
            && has_application_failure(effective, hook.id)
            && cache.is_watched(&hook.account, HOOK_WARNING, hook.id)
        {
            let notice = HookNotice {
                reason: Some("failures"),
                fail_count: warning.fail_count,
                first_failure_at: warning.first_failure_at,
                last_error: Some(warning.last_error.clone()),
                ..notice_of(hook.id, &hook.url, OURSELVES, now)
            };
            events.push(of_hook(&hook.account, HOOK_WARNING, &notice));
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
            events.push(of_hook(&hook.account, HOOK_DISABLED, &notice));
        }
    }
    events
}

/// A delivery that has failed for good.
pub(crate) struct FailedDelivery<'a> {
    pub id: DeliveryId,
    pub event: EventId,
    pub event_type: &'a str,
    pub reason: Reason,
    pub attempts: u32,
    pub last_error: String,
}

/// The event that a delivery of this hook has failed; `None` if no other hook of the account asks
/// for it, or if the delivery was of an operational event itself.
pub(crate) fn of_failure(
    cache: &HookCache,
    hook: &Hook,
    failed: FailedDelivery<'_>,
    now: Timestamp,
) -> Option<OperationalEvent> {
    if EventType::is_operational(failed.event_type)
        || !cache.is_watched(&hook.account, DELIVERY_FAILED, hook.id)
    {
        return None;
    }
    let notice = DeliveryNotice {
        delivery_id: failed.id,
        event_id: failed.event,
        event_type: failed.event_type.to_owned(),
        hook_id: hook.id,
        url: url_without_credentials(&hook.url),
        reason: failed.reason.name(),
        attempts: failed.attempts,
        last_error: failed.last_error,
        at: now,
    };
    let event = OperationalEvent::new(&hook.account, DELIVERY_FAILED, hook.id, &notice);
    Some(event)
}

/// The event of a person's change of a hook, if it is one that is announced.
pub(crate) fn of_status_change(
    before: &HookRow,
    action: HookAction,
    failures: &HookFailures,
    by: &str,
    now: Timestamp,
) -> Option<OperationalEvent> {
    let was_active = before.status() == Some(HookStatus::Active);
    let (event_type, reason) = match action {
        HookAction::Enabled if !was_active => (HOOK_ENABLED, None),
        HookAction::Disabled => (HOOK_DISABLED, Some(DisabledReason::Manual.name())),
        _ => return None,
    };
    let notice = HookNotice {
        reason,
        fail_count: failures.count,
        first_failure_at: failures.first_at,
        last_error: failures.last_error.clone(),
        ..notice_of(before.id, &before.url, by, now)
    };
    Some(of_hook(&before.account, event_type, &notice))
}

fn of_hook(account: &str, event_type: &'static str, notice: &HookNotice) -> OperationalEvent {
    OperationalEvent::new(account, event_type, notice.hook_id, notice)
}

/// A notice of a hook without failures.
fn notice_of(hook: HookId, url: &str, by: &str, now: Timestamp) -> HookNotice {
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
        let Step::Failed(reason) = settled.step() else {
            return None;
        };
        let event = &settled.delivery.event;
        let failed = FailedDelivery {
            id: settled.delivery.id,
            event: event.id,
            event_type: &event.event_type,
            reason,
            attempts: settled.number(),
            last_error: settled.attempt.error().unwrap_or_default(),
        };
        of_failure(cache, &settled.request().hook, failed, now)
    });
    failed.collect()
}

/// Whether a delivery of an application's event is among the failures of this hook.
fn has_application_failure(effective: &[DeliverySettlement<'_>], hook: HookId) -> bool {
    effective.iter().any(|settled| {
        settled.hook() == hook
            && settled.attempt.outcome.is_hook_failure()
            && !EventType::is_operational(&settled.delivery.event.event_type)
    })
}
