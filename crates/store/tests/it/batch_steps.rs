//! The steps of the cases about batches.

use postrider_core::{Batches, Batching, EventId, Hook, HookId, NewEvent};
use postrider_store::{FanOutRequest, FanOutResult, HookRequest, LeaseRequest};
use postrider_tests::TestStore;
use std::sync::Arc;
use std::time::Duration;

/// How long the first of a batch waits for others, in seconds.
pub(crate) const WINDOW: u64 = 5;
pub(crate) const DAY: u64 = 24 * 3600;

/// The hook, or every hook, gets at most `most` events in one request.
#[derive(Debug)]
pub(crate) struct Of {
    pub(crate) hook: Option<HookId>,
    pub(crate) most: u32,
}

impl Batches for Of {
    fn of(&self, hook: &Hook) -> Option<Batching> {
        self.hook
            .is_none_or(|only| only == hook.id)
            .then_some(Batching {
                most: self.most,
                window: Duration::from_secs(WINDOW),
            })
    }
}

pub(crate) fn batches(most: u32) -> Arc<Of> {
    Arc::new(Of { hook: None, most })
}

pub(crate) async fn fan_out_with(t: &TestStore, batches: Arc<Of>) -> FanOutResult {
    let request = FanOutRequest {
        batches: Some(batches),
        ..t.request()
    };
    t.store.fan_out(request).await.unwrap()
}

pub(crate) async fn fan_out(t: &TestStore, most: u32) {
    let done = fan_out_with(t, batches(most)).await;
    assert!(done.started.is_empty());
}

/// Fans these events out and waits until they are due.
pub(crate) async fn insert(t: &TestStore, events: &[NewEvent], most: u32) -> Vec<EventId> {
    let ids = t.insert(events).await;
    fan_out(t, most).await;
    t.advance(WINDOW);
    ids
}

pub(crate) fn lease_request(t: &TestStore, hook: HookId, most: u32, places: u32) -> LeaseRequest {
    LeaseRequest {
        wanted: vec![(hook, places)],
        batches: Some(batches(most)),
        ..t.lease_request(&[])
    }
}

pub(crate) async fn lease(t: &TestStore, hook: HookId, most: u32, places: u32) -> Vec<HookRequest> {
    t.own(t.worker, &[hook]).await;
    let request = lease_request(t, hook, most, places);
    t.store.lease(request).await.unwrap()
}

pub(crate) fn one(leased: Vec<HookRequest>) -> HookRequest {
    let [leased] = <[HookRequest; 1]>::try_from(leased).expect("one request");
    leased
}

pub(crate) fn events_of(leased: &HookRequest) -> Vec<EventId> {
    leased.events().map(|event| event.id).collect()
}
