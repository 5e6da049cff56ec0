//! Operational events: which ones follow from settlements and changes of hooks.
//!
//! They never cause each other. A failed delivery of an operational event causes no other; a
//! warning that only such deliveries brought about is not announced; a hook never gets an event
//! about itself. Each of the others needs a delivery of an application's event, or an action of a
//! person. None is created where no other hook of the account asks for it.

use crate::hook_change::HookFailures;
use crate::hook_row::HookRow;
use crate::{Disabling, HookCache, Settlement, Step, Warning};
use postrider_core::{
    DELIVERY_FAILED, DeliveryId, DeliveryNotice, DisabledReason, EventId, EventType, HOOK_DISABLED,
    HOOK_ENABLED, HOOK_WARNING, Hook, HookAction, HookId, HookNotice, HookStatus, OURSELVES,
    Outcome, Reason, Timestamp, url_without_credentials,
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
    pub(crate) fn new(
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
    effective: &[&Settlement],
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
        .map(|settlement| (settlement.leased.hook.id, settlement.leased.hook.as_ref()))
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
            let made = OperationalEvent::new(&hook.account, HOOK_WARNING, hook.id, &notice);
            events.push(made);
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
            events.push(made);
        }
    }
    events
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

/// The events of deliveries that were lost for good.
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
    let event = OperationalEvent::new(&before.account, event_type, before.id, &notice);
    Some(event)
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
    effective: &[&Settlement],
    now: Timestamp,
) -> Vec<OperationalEvent> {
    let failed = effective.iter().filter_map(|settlement| {
        let leased = &settlement.leased;
        let (hook, event) = (&leased.hook, &leased.event);
        let Step::Failed(reason) = settlement.step else {
            return None;
        };
        if EventType::is_operational(&event.event_type)
            || !cache.is_watched(&hook.account, DELIVERY_FAILED, hook.id)
        {
            return None;
        }
        let notice = DeliveryNotice {
            delivery_id: leased.id,
            event_id: event.id,
            event_type: event.event_type.clone(),
            hook_id: hook.id,
            url: url_without_credentials(&hook.url),
            reason: reason.name(),
            attempts: leased.attempts.saturating_add(1),
            last_error: settlement.attempt.error().unwrap_or_default(),
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

/// Whether a delivery of an application's event is among the failures of this hook.
fn has_application_failure(effective: &[&Settlement], hook: HookId) -> bool {
    effective.iter().any(|settlement| {
        settlement.leased.hook.id == hook
            && settlement.attempt.outcome.is_hook_failure()
            && !EventType::is_operational(&settlement.leased.event.event_type)
    })
}
