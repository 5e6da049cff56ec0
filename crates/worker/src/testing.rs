//! Fixtures of the unit tests.

use crate::settings::HookDefaults;
use chrono::{NaiveDate, TimeZone, Utc};
use postrider_core::{
    DeliveryId, Event, EventId, EventPattern, Hook, HookCredentials, HookId, HookSettings,
    HookStatus, LeaseToken, Payload, SigningSecret, Timestamp,
};
use postrider_store::{Delivery, HookRequest, Lease, LeaseKind, OneOrMore};
use std::sync::Arc;

pub(crate) fn now() -> Timestamp {
    Utc.with_ymd_and_hms(2026, 11, 21, 10, 0, 0).unwrap()
}

pub(crate) fn hook(id: HookId, url: &str) -> Hook {
    Hook {
        id,
        alias: None,
        account: "default".into(),
        url: url.into(),
        events: vec![EventPattern::Any],
        profile: "standard".into(),
        status: HookStatus::Active,
        disabled: None,
        phase: None,
        settings: HookSettings::default(),
        credentials: HookCredentials::signed_with(SigningSecret::generate()),
        locked: false,
        created_at: now(),
        updated_at: now(),
        version: 1,
    }
}

pub(crate) fn event() -> Event {
    Event {
        id: EventId::draw(now()),
        account: "default".into(),
        event_type: "order.paid".into(),
        payload: Payload::from_checked("{\"id\":1}"),
        ordering_key: None,
        headers: None,
        occurred_at: now(),
    }
}

pub(crate) fn leased_for(id: HookId) -> HookRequest {
    let event = event();
    HookRequest {
        lease: Lease {
            slot: 0,
            token: LeaseToken::draw(now()),
            expires_at: now() + chrono::TimeDelta::seconds(60),
            kind: LeaseKind::Row,
        },
        hook: Arc::new(hook(id, "http://127.0.0.1:1/")),
        target: None,
        deliveries: OneOrMore::one(Delivery {
            id: DeliveryId::of(event.id, id),
            day: NaiveDate::from_ymd_opt(2026, 11, 21).unwrap(),
            event: Arc::new(event),
        }),
        attempts: 0,
        earlier_attempts: 0,
    }
}

/// Defaults that back a hook off after this many failures in a row.
pub(crate) fn backing_off_after(failures: u32) -> Arc<HookDefaults> {
    Arc::new(HookDefaults {
        back_off_after: failures,
        ..HookDefaults::default()
    })
}
