//! Batches: deliveries of one hook that go in one request, and stay together.
//!
//! The first delivery of a batch is its leader, and its id is the id of the batch. Only the leader
//! is due; the others are members
//! ([`RowState::BatchMember`](crate::row_state::RowState::BatchMember)). A lease that finds the
//! leader leases the members with it, even if it knows nothing of batches, and no lease can find
//! only a part of a batch.

use crate::HookCache;
use postrider_core::{Batches, Batching, DeliveryId, Hook, HookId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of payload in one request at most, unless one event alone has more.
const BATCH_BYTES: u64 = 1024 * 1024;
/// Bytes of payload that one lease cuts of a hook at most.
const CUT_BYTES: u64 = 8 * 1024 * 1024;
/// Deliveries of a hook that one lease examines at most.
const LOOKED_AT_MAX: u32 = 1_000;
/// Batches beyond those that are leased of which deliveries are examined, so that the leased ones
/// are full.
const SPARE: u32 = 3;

/// How deliveries of `hook` are batched; `None` if they are not. Those of an ordered hook never are.
pub(crate) fn batching_of(batches: Option<&Arc<dyn Batches>>, hook: &Hook) -> Option<Batching> {
    let batches = batches.filter(|_| hook.settings.ordered.is_none());
    batches.and_then(|batches| batches.of(hook))
}

/// Moves the hooks whose deliveries are batched out of `wanted`.
pub(crate) fn take_batched(
    wanted: &mut BTreeMap<HookId, u32>,
    batches: Option<&Arc<dyn Batches>>,
    cache: &HookCache,
) -> BTreeMap<HookId, (u32, Batching)> {
    let mut batched = BTreeMap::new();
    if batches.is_some() {
        wanted.retain(|hook, places| {
            let known = cache.get(*hook);
            let batching = known.and_then(|hook| batching_of(batches, hook));
            batched.extend(batching.map(|batching| (*hook, (*places, batching))));
            batching.is_none()
        });
    }
    batched
}

/// The number of deliveries to examine for this number of requests.
pub(crate) fn looked_at(requests: u32, batching: &Batching) -> u32 {
    let batches = requests.saturating_add(SPARE);
    batches.saturating_mul(batching.most).min(LOOKED_AT_MAX)
}

/// A delivery that may be leased now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub id: DeliveryId,
    /// The `seq` of its event in the outbox.
    pub seq: i64,
    /// Its own due time has passed; otherwise it may only go in a batch with one that is due.
    pub due: bool,
    /// What a batch may be cut by; `None` if it was attempted or is in a batch already.
    pub key: Option<BatchKey>,
}

/// Deliveries go in one batch only if their type and headers are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BatchKey {
    pub event_type: String,
    /// The headers that the application gave the event: they are headers of the request.
    pub headers: Option<String>,
    pub bytes: u64,
}

/// The deliveries of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// One delivery, or the leader of a batch that was cut before.
    Found(DeliveryId),
    /// A batch that is cut now, in its order; the first becomes its leader.
    Cut(Vec<DeliveryId>),
}

/// Cuts the candidates into at most `places` requests. They are of one hook, the longest due
/// first; `all` says whether the hook has no others.
///
/// As soon as one that was never attempted is due, all of that kind go, each batch of one event
/// type. A batch that is not full is left while there may be others to fill it, unless it has the
/// candidate that has waited longest.
pub(crate) fn cut(candidates: &[Candidate], most: u32, places: u32, all: bool) -> Vec<Unit> {
    let may_cut = candidates
        .iter()
        .any(|candidate| candidate.due && candidate.key.is_some());
    let mut by_kind: BTreeMap<_, Vec<(usize, &Candidate, u64)>> = BTreeMap::new();
    let mut units = Vec::new();
    for (place, candidate) in candidates.iter().enumerate() {
        match &candidate.key {
            Some(key) if may_cut => {
                let kind = (&key.event_type, &key.headers);
                let of_kind = by_kind.entry(kind).or_default();
                of_kind.push((place, candidate, key.bytes));
            }
            None if candidate.due => units.push((place, 0, Unit::Found(candidate.id))),
            Some(_) | None => {}
        }
    }
    for mut of_kind in by_kind.into_values() {
        of_kind.sort_unstable_by_key(|(_, candidate, _)| (candidate.seq, candidate.id));
        for batch in in_batches(&of_kind, most) {
            let place = batch.iter().map(|(place, ..)| *place).min();
            let place = place.unwrap_or_default();
            if all || place == 0 || batch.len() >= most as usize {
                let bytes = batch.iter().map(|(.., bytes)| bytes).sum();
                let ids = batch.iter().map(|(_, candidate, _)| candidate.id).collect();
                units.push((place, bytes, Unit::Cut(ids)));
            }
        }
    }
    units.sort_unstable_by_key(|(place, ..)| *place);
    let mut bytes = 0;
    let mut fitting = Vec::new();
    for (_, size, unit) in units.into_iter().take(places as usize) {
        bytes += size;
        if bytes > CUT_BYTES && !fitting.is_empty() {
            break;
        }
        fitting.push(unit);
    }
    fitting
}

/// Splits into runs of at most `most` deliveries and [`BATCH_BYTES`].
fn in_batches<'a, 'b>(
    all: &'a [(usize, &'b Candidate, u64)],
    most: u32,
) -> Vec<&'a [(usize, &'b Candidate, u64)]> {
    let mut batches = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (place, (.., size)) in all.iter().enumerate() {
        let full = place - begin >= most as usize || bytes + size > BATCH_BYTES;
        if full && place > begin {
            batches.push(&all[begin..place]);
            (begin, bytes) = (place, 0);
        }
        bytes += size;
    }
    if begin < all.len() {
        batches.push(&all[begin..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn delivery(n: i64) -> DeliveryId {
        DeliveryId(Uuid::from_u128(n.unsigned_abs().into()))
    }

    fn uncut(n: i64, event_type: &str, due: bool) -> Candidate {
        Candidate {
            id: delivery(n),
            seq: n,
            due,
            key: Some(BatchKey {
                event_type: event_type.into(),
                headers: None,
                bytes: 1_000,
            }),
        }
    }

    fn batch(ids: impl IntoIterator<Item = i64>) -> Unit {
        Unit::Cut(ids.into_iter().map(delivery).collect())
    }

    #[test]
    fn a_batch_has_one_type_and_the_order_of_the_outbox() {
        let all = [
            uncut(5, "a", true),
            uncut(3, "b", true),
            uncut(1, "a", false),
            uncut(2, "a", false),
        ];
        assert_eq!(
            cut(&all, 100, 10, true),
            [batch([1, 2, 5]), batch([3])],
            "the longest due first"
        );
        assert_eq!(
            cut(&all, 2, 10, true),
            [batch([5]), batch([3]), batch([1, 2])]
        );
        assert_eq!(cut(&all, 100, 1, true), [batch([1, 2, 5])]);
    }

    #[test]
    fn no_batch_is_cut_before_the_first_is_due() {
        let all = [uncut(1, "a", false), uncut(2, "a", false)];
        assert_eq!(cut(&all, 100, 10, true), []);
    }

    #[test]
    fn a_delivery_attempted_or_cut_before_goes_without_the_others() {
        let mut found = uncut(1, "a", true);
        found.key = None;
        let all = [found, uncut(2, "a", false), uncut(3, "a", false)];
        let alone = [Unit::Found(delivery(1))];
        assert_eq!(
            cut(&all, 100, 10, true),
            alone,
            "the others wait for theirs"
        );
    }

    #[test]
    fn events_with_other_headers_go_in_another_request() {
        let mut other = uncut(2, "a", true);
        if let Some(key) = &mut other.key {
            key.headers = Some(r#"{"x":"y"}"#.into());
        }
        let all = [uncut(1, "a", true), other, uncut(3, "a", true)];
        assert_eq!(cut(&all, 100, 10, true), [batch([1, 3]), batch([2])]);
    }

    #[test]
    fn a_batch_is_bounded_by_its_bytes() {
        let sized = |n, bytes| {
            let mut candidate = uncut(n, "a", true);
            if let Some(key) = &mut candidate.key {
                key.bytes = bytes;
            }
            candidate
        };
        let all = [
            sized(1, BATCH_BYTES - 1),
            sized(2, 1),
            sized(3, 1),
            sized(4, 2 * BATCH_BYTES),
            sized(5, 1),
        ];
        let batches = [batch([1, 2]), batch([3]), batch([4]), batch([5])];
        assert_eq!(cut(&all, 100, 10, true), batches);
    }

    #[test]
    fn while_there_may_be_others_only_the_longest_waiting_batch_goes_unfilled() {
        let all = [
            uncut(1, "a", true),
            uncut(2, "b", true),
            uncut(3, "b", true),
            uncut(4, "c", true),
        ];
        assert_eq!(cut(&all, 2, 10, false), [batch([1]), batch([2, 3])]);
        assert_eq!(cut(&all, 2, 10, true).len(), 3);
    }
}
