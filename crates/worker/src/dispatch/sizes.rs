//! How much is fanned out or leased at once, and of which hooks.

use postrider_core::HookId;
use postrider_store::Capacity;
use std::collections::BTreeSet;

/// Outbox rows fanned out at once: at most, and at least.
const FAN_OUT_EVENTS: u32 = 1_000;
const FAN_OUT_EVENTS_LEAST: u32 = 32;
/// Bytes of payload that one fan-out or lease should return.
pub(super) const BATCH_BYTES: u64 = 8 * 1024 * 1024;
/// Deliveries that one fan-out may make: at most, and at least.
const FAN_OUT_DELIVERIES: u32 = 10_000;
const FAN_OUT_DELIVERIES_LEAST: u32 = 512;
/// Hooks in one lease at most.
const LEASE_HOOKS: usize = 256;
/// Deliveries in one lease, depending on the size of payloads: at least, and at most.
const LEASE_MIN: u32 = 16;
const LEASE_MAX: u32 = 1_000;

/// How many payloads of this size make a batch; `None` while the size is unknown (0).
fn batch_size(payload_bytes: u64) -> Option<u32> {
    let size = BATCH_BYTES.checked_div(payload_bytes)?;
    Some(u32::try_from(size).unwrap_or(u32::MAX))
}

/// How many deliveries one lease asks for, where recent payloads had this size; 0 while unknown.
pub(super) fn lease_size(payload_bytes: u64) -> u32 {
    batch_size(payload_bytes)
        .unwrap_or(LEASE_MIN * 8)
        .clamp(LEASE_MIN, LEASE_MAX)
}

/// How many events, and deliveries of them, are fanned out at once: as many as can start. A
/// delivery that cannot start costs a row that is written twice, while its event costs nothing in
/// the outbox. But when the queue is full of slow hooks, events for other hooks must not wait for
/// them: then as many are fanned out as a batch allows.
pub(super) fn fan_out_size(low: bool, capacity: u32, deliveries_per_event: u32) -> (u32, u32) {
    if !low && capacity < FAN_OUT_DELIVERIES_LEAST {
        return (FAN_OUT_EVENTS, FAN_OUT_DELIVERIES);
    }
    let deliveries = capacity.clamp(FAN_OUT_DELIVERIES_LEAST, FAN_OUT_DELIVERIES);
    let events = deliveries / deliveries_per_event.max(1);
    (
        events.clamp(FAN_OUT_EVENTS_LEAST, FAN_OUT_EVENTS),
        deliveries,
    )
}

/// The hooks of the next lease, `most` of them at most, beginning after `last`, the last one of
/// the lease before: so every hook has its turn.
pub(super) fn take_turns(
    hooks: BTreeSet<HookId>,
    last: Option<HookId>,
    most: usize,
) -> Vec<HookId> {
    let after = hooks.iter().filter(|hook| Some(**hook) > last);
    let before = hooks.iter().filter(|hook| Some(**hook) <= last);
    let in_turn = after.chain(before).take(LEASE_HOOKS.min(most));
    in_turn.copied().collect()
}

/// Shares the capacity of one lease, `most` deliveries at most, between the hooks.
pub(super) fn share(hooks: &[HookId], mut capacity: Capacity, most: u32) -> Vec<(HookId, u32)> {
    let total = capacity.total().min(most);
    let each = (total / hooks.len().max(1) as u32).max(1);
    let limited = hooks.iter().map(|hook| (*hook, capacity.take(*hook, each)));
    limited.filter(|(_, limit)| *limit > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn hook(n: u128) -> HookId {
        HookId(Uuid::from_u128(n))
    }

    #[test]
    fn the_capacity_is_shared_between_hooks() {
        let mut capacity = Capacity::new(100, 500);
        capacity.set_quick(hook(2), 3);
        let wanted = share(&[hook(1), hook(2)], capacity.clone(), LEASE_MAX);
        assert_eq!(wanted, [(hook(1), 50), (hook(2), 3)]);
        let wanted = share(&[hook(1), hook(2)], capacity, LEASE_MIN);
        assert_eq!(wanted, [(hook(1), 8), (hook(2), 3)]);
    }

    #[test]
    fn large_payloads_make_small_batches() {
        assert_eq!(batch_size(0), None);
        assert_eq!(batch_size(512 * 1024), Some(16));
        assert_eq!(batch_size(1024), Some(8_192));
    }

    #[test]
    fn every_hook_has_its_turn_however_many_there_are() {
        let hooks: BTreeSet<_> = (1..=600).map(hook).collect();
        let (mut last, mut served) = (None, BTreeSet::new());
        for _ in 0..3 {
            let turn = take_turns(hooks.clone(), last, 1_000);
            assert_eq!(turn.len(), LEASE_HOOKS);
            last = turn.last().copied();
            served.extend(turn);
        }
        assert_eq!(served, hooks);
    }
}
