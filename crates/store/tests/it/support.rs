//! Steps that several cases share.

use postrider_core::{EventId, HealthPolicy, Reason};
use postrider_store::{FanOutRequest, FanOutResult, HookRequest, Settlement, Step};
use postrider_tests::{TestStore, refusal};

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

/// Records that these deliveries have failed for good.
pub async fn settle_failed(t: &TestStore, leased: &[HookRequest]) {
    let failed = leased.iter().map(|leased| {
        let step = Step::Failed(Reason::Exhausted);
        patient(t.settlement(leased, refusal(500), step))
    });
    t.settle(&failed.collect::<Vec<_>>()).await;
}

/// A settlement that neither backs the hook off nor disables it.
pub fn patient(settlement: Settlement) -> Settlement {
    let policy = HealthPolicy {
        back_off_after: HealthPolicy::NEVER,
        disable_after_failures: HealthPolicy::NEVER,
        ..settlement.policy
    };
    Settlement {
        policy,
        ..settlement
    }
}
