//! Which deliveries a batch of outbox rows makes, and which of them start at once.

use crate::batch::batching_of;
use crate::order::never;
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
    pub next_attempt_at: Timestamp,
    /// When it is due once its turn has come, if one of its key stands before it in the plan; from
    /// when on it may go with others, if it waits for some.
    pub turn_at: Option<Timestamp>,
    /// It waits for others to go with.
    pub gathers: bool,
    /// Leased to the caller in the same transaction.
    pub starts: bool,
}

/// What becomes of a batch of outbox rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// How many of the rows, from the first on, the plan covers; the rest stay.
    pub covered: usize,
    pub deliveries: Vec<Planned>,
    /// How often a filter could not be held against a payload: no delivery was made then.
    pub filter_problems: u32,
}

impl Plan {
    /// The hooks that could have taken more at once than there was capacity for, or that are gated.
    pub(crate) fn waiting(&self, now: Timestamp) -> Vec<HookId> {
        let waiting = self.deliveries.iter().filter(|planned| {
            !planned.starts
                && planned.next_attempt_at <= now
                && planned.hook.status == HookStatus::Active
                && !planned.hook.locked
        });
        let hooks: BTreeSet<_> = waiting.map(|planned| planned.hook.id).collect();
        hooks.into_iter().collect()
    }

    /// The hooks whose deliveries wait for others to go with, and until when the first does.
    pub(crate) fn gathering(&self) -> Vec<(HookId, Timestamp)> {
        let mut until = BTreeMap::new();
        for planned in self.deliveries.iter().filter(|planned| planned.gathers) {
            let first = until
                .entry(planned.hook.id)
                .or_insert(planned.next_attempt_at);
            *first = planned.next_attempt_at.min(*first);
        }
        until.into_iter().collect()
    }

    /// How many deliveries start at once.
    pub(crate) fn starting(&self) -> u32 {
        let starting = self.deliveries.iter().filter(|planned| planned.starts);
        u32::try_from(starting.count()).unwrap_or(u32::MAX)
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
            let gathers = batching_of(request.batches.as_ref(), hook);
            let starts = gathers.is_none()
                && hook.status == HookStatus::Active
                && !hook.locked
                && !hook.is_gated()
                && due <= now
                && capacity.take(hook.id);
            let behind = hook.settings.ordered.is_some()
                && key.is_some_and(|key| !keys.insert((hook.id, key)));
            let next_attempt_at = match gathers {
                _ if behind => never(),
                Some(batching) => due + batching.window,
                None => due,
            };
            plan.deliveries.push(Planned {
                id: DeliveryId::of(row.event.id, hook.id),
                seq: row.seq,
                event: row.event.clone(),
                hook: hook.clone(),
                next_attempt_at,
                turn_at: (behind || gathers.is_some()).then_some(due),
                gathers: gathers.is_some(),
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
