//! The deliveries that a batch of outbox rows makes, and which of them start at once.

use crate::batch::batching_of;
use crate::count::count;
use crate::row_state::{RowState, StateColumns};
use crate::{
    Delivery, FanOutRequest, GroupMember, HookCache, HookRequest, Lease, LeaseKind, OneOrMore,
};
use postrider_core::{DeliveryId, Event, Hook, HookId, HookStatus, LazyPayload, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// An outbox row as it was read.
#[derive(Clone, Debug)]
pub(crate) struct OutboxRow {
    pub seq: i64,
    pub event: Arc<Event>,
    pub dedup_key: Option<String>,
    pub deliver_after: Option<Timestamp>,
    /// The hook that an event of our own is about, which does not get it.
    pub about: Option<HookId>,
}

/// One delivery to be made.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub id: DeliveryId,
    pub seq: i64,
    pub event: Arc<Event>,
    pub hook: Arc<Hook>,
    /// The state of its row, if it gets one.
    pub state: RowState,
    /// Leased to the caller in the same transaction, as a member of a lease group: it gets no row.
    pub starts: bool,
}

/// The deliveries of a batch of outbox rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// The number of rows, from the first on, that the plan covers; the others stay in the outbox.
    pub covered: usize,
    pub deliveries: Vec<Planned>,
    /// Filters that could not evaluate a payload: they make no delivery.
    pub filter_problems: u32,
}

impl Planned {
    /// The columns that tell the state of its row.
    pub(crate) fn columns(&self) -> StateColumns {
        self.state.columns(self.id)
    }
}

impl Plan {
    /// The active hooks with deliveries that are due and did not start: there was no capacity, or
    /// the hook is gated.
    pub(crate) fn waiting(&self, now: Timestamp) -> Vec<HookId> {
        let waiting = self.deliveries.iter().filter(|planned| {
            !planned.starts
                && planned.columns().next_attempt_at <= now
                && planned.hook.status == HookStatus::Active
                && !planned.hook.locked
        });
        let hooks: BTreeSet<_> = waiting.map(|planned| planned.hook.id).collect();
        hooks.into_iter().collect()
    }

    /// The hooks with batching deliveries, and when the first of their windows ends.
    pub(crate) fn batching(&self) -> Vec<(HookId, Timestamp)> {
        let mut ends = BTreeMap::new();
        for planned in &self.deliveries {
            if let RowState::Batching { until, .. } = planned.state {
                let first = ends.entry(planned.hook.id).or_insert(until);
                *first = until.min(*first);
            }
        }
        ends.into_iter().collect()
    }

    /// The number of deliveries that start at once.
    pub(crate) fn starting(&self) -> u32 {
        let starting = self.deliveries.iter().filter(|planned| planned.starts);
        count(starting.count())
    }

    /// The requests that start at once, of one delivery each: the members of one lease group.
    pub(crate) fn started(self, request: &FanOutRequest) -> Vec<HookRequest> {
        let members = self.starting();
        let day = request.now.date_naive();
        let mut started = Vec::with_capacity(members as usize);
        let starting = self.deliveries.into_iter().filter(|planned| planned.starts);
        started.extend(starting.zip(0..).map(|(planned, place)| HookRequest {
            lease: Lease {
                slot: request.slot,
                token: request.token,
                expires_at: request.until,
                kind: LeaseKind::Group(GroupMember {
                    seq: planned.seq,
                    members,
                    place,
                }),
            },
            hook: planned.hook,
            target: None,
            deliveries: OneOrMore::one(Delivery {
                id: planned.id,
                day,
                event: planned.event,
            }),
            attempts: 0,
            earlier_attempts: 0,
        }));
        started
    }
}

/// Why the row cannot be accepted, if it cannot.
pub(crate) fn objection(row: &OutboxRow, deliver_before: Timestamp) -> Option<String> {
    let dedup_key = row.dedup_key.as_deref();
    let checked = match row.about {
        None => row.event.check(dedup_key),
        Some(_) => row.event.check_own(dedup_key),
    };
    if let Err(error) = checked {
        return Some(error.to_string());
    }
    match row.deliver_after {
        Some(at) if at > deliver_before => Some(format!(
            "deliver_after ({at}) lies beyond the retention of events, which ends {deliver_before}"
        )),
        _ => None,
    }
}

/// The `seq` of rows whose key already occurred earlier in the batch.
pub(crate) fn repeated_in_batch(rows: &[OutboxRow]) -> HashSet<i64> {
    let mut seen = HashSet::new();
    rows.iter()
        .filter_map(|row| Some((row, row.dedup_key.as_deref()?)))
        .filter(|(row, key)| !seen.insert((row.event.account.as_str(), *key)))
        .map(|(row, _)| row.seq)
        .collect()
}

/// The deliveries of `rows`, in order, until the request's `max_deliveries` would be exceeded;
/// the first row is always covered.
pub(crate) fn plan(rows: &[OutboxRow], cache: &HookCache, request: &FanOutRequest) -> Plan {
    let (mut capacity, now) = (request.capacity.clone(), request.now);
    let mut plan = Plan::default();
    let mut keys = HashSet::new();
    for row in rows {
        let (matching, filter_problems) = matching(cache, row);
        let size = plan.deliveries.len() + matching.len();
        if plan.covered > 0 && size > request.max_deliveries as usize {
            break;
        }
        let due = row.deliver_after.map_or(now, |at| at.max(now));
        let key = row.event.ordering_key.as_deref();
        for hook in matching {
            let batching = batching_of(request.batches.as_ref(), hook);
            let starts = batching.is_none()
                && hook.status == HookStatus::Active
                && !hook.locked
                && !hook.is_gated()
                && due <= now
                && capacity.take(hook.id, 1) == 1;
            // Blocked by one of its key earlier in the plan; the lease sees to those before it.
            let is_blocked = hook.settings.ordered.is_some()
                && key.is_some_and(|key| !keys.insert((hook.id, key)));
            let state = match batching {
                _ if is_blocked => RowState::Blocked { due },
                Some(batching) => RowState::Batching {
                    from: due,
                    until: due + batching.window,
                },
                None => RowState::Waiting { at: due },
            };
            plan.deliveries.push(Planned {
                id: DeliveryId::of(row.event.id, hook.id),
                seq: row.seq,
                event: row.event.clone(),
                hook: hook.clone(),
                state,
                starts,
            });
        }
        plan.filter_problems += filter_problems;
        plan.covered += 1;
    }
    plan
}

/// The hooks that the event is for, and how many filters could not evaluate its payload. The
/// payload is parsed at most once, and only for a filter of a hook that matches otherwise.
fn matching<'a>(cache: &'a HookCache, row: &'a OutboxRow) -> (Vec<&'a Arc<Hook>>, u32) {
    let event = &row.event;
    let payload = LazyPayload::new(&event.payload);
    let mut problems = 0;
    let hooks = cache.matching(&event.account, &event.event_type);
    let hooks = hooks.filter(|hook| row.about != Some(hook.id));
    let bytes = event.payload.as_str().len();
    let hooks = hooks.filter(|hook| {
        let max = hook.settings.max_payload_bytes;
        max.is_none_or(|max| bytes <= max as usize)
    });
    let wanted = hooks.filter(|hook| match &hook.settings.filter {
        None => true,
        Some(filter) => filter.matches(&payload).unwrap_or_else(|_| {
            problems += 1;
            false
        }),
    });
    (wanted.collect(), problems)
}
