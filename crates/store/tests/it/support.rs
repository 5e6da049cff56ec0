//! Steps that several cases share.

use postrider_core::EventId;
use postrider_store::{FanOutRequest, FanOutResult, HookRequest};
use postrider_tests::TestStore;

/// Fans out every slot until the outbox is empty, as a worker does.
pub async fn drained(t: &TestStore) -> FanOutResult {
    let mut all = FanOutResult::default();
    loop {
        let slots = t.store.peek().await.unwrap().outbox;
        if slots.is_empty() {
            return all;
        }
        for slot in slots {
            let request = FanOutRequest {
                slot,
                ..t.request()
            };
            let done = t.store.fan_out(request).await.unwrap();
            all.events += done.events;
            all.deliveries += done.deliveries;
            all.duplicates += done.duplicates;
            all.rejected += done.rejected;
            all.started.extend(done.started);
        }
    }
}

/// The events of these deliveries, in their order.
pub fn ids_of(leased: &[HookRequest]) -> Vec<EventId> {
    leased
        .iter()
        .map(|leased| leased.first().event.id)
        .collect()
}
