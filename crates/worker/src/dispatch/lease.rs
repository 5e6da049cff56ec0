//! Leases due deliveries of the hooks that may start some.

use super::Dispatcher;
use super::sizes::{lease_size, share, take_turns};
use super::state::{StepResult, note};
use postrider_core::{HookId, HookStatus, LeaseToken};
use postrider_store::{LeaseRequest, Peek, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};

impl Dispatcher {
    /// Leases due deliveries of the hooks that have capacity, and shares it between them.
    pub(super) async fn lease(&mut self, peek: &Peek, found: &mut StepResult) -> Result<()> {
        let mut problem = Ok(());
        let candidates = self.candidates(peek);
        let waits = self.state.passed_over || self.may_start_any(&candidates);
        found.waits |= found.work > 0 || waits;
        for (slot, hooks) in candidates {
            let leased = self.lease_slot(slot, hooks).await;
            found.work += *leased.as_ref().unwrap_or(&0);
            note(&mut problem, leased.map(|_| ()))?;
        }
        problem
    }

    /// The hooks that have something due and may be sent to, by slot.
    fn candidates(&self, peek: &Peek) -> BTreeMap<i16, BTreeSet<HookId>> {
        let now = self.clock.now();
        let cache = self.store.hook_cache();
        let mut candidates: BTreeMap<i16, BTreeSet<HookId>> = BTreeMap::new();
        // The database has newer hooks than the cache: one that the cache lacks, or knows as
        // paused, may be active. The lease itself checks the hooks of the database.
        let cache_is_old = cache.version() < peek.hooks_version;
        let owned = self.admission.startable_gates(now);
        for (slot, hook, at) in self.state.due.first() {
            let may_run = match cache.get(hook) {
                Some(known) => {
                    let active = known.status == HookStatus::Active && !known.locked;
                    (active || cache_is_old) && (!known.is_gated() || owned.contains(&hook))
                }
                None => cache_is_old,
            };
            if at <= now && may_run {
                candidates.entry(slot).or_default().insert(hook);
            }
        }
        candidates
    }

    /// Whether this worker would start a delivery of any of these hooks: it has capacity for one,
    /// or for nothing at all, which the end of a request in flight changes.
    fn may_start_any(&self, candidates: &BTreeMap<i16, BTreeSet<HookId>>) -> bool {
        if candidates.is_empty() {
            return false;
        }
        let capacity = self.admission.capacity(self.clock.now());
        let mut hooks = candidates.values().flatten();
        capacity.total() == 0 || hooks.any(|hook| capacity.left(*hook) > 0)
    }

    /// Leases due deliveries of these hooks of one slot, up to the capacity. Returns how many.
    async fn lease_slot(&mut self, slot: i16, hooks: BTreeSet<HookId>) -> Result<u32> {
        let now = self.clock.now();
        let capacity = self.admission.capacity(now);
        let with_capacity_left = hooks.into_iter().filter(|hook| capacity.left(*hook) > 0);
        let last = self.state.leased_last.get(&slot).copied();
        let most = lease_size(self.state.payload_bytes);
        let in_turn = take_turns(with_capacity_left.collect(), last, most as usize);
        let wanted = share(&in_turn, capacity, most);
        let Some((last, _)) = wanted.last().copied() else {
            return Ok(0);
        };
        self.state.leased_last.insert(slot, last);
        let request = LeaseRequest {
            slot,
            now,
            token: LeaseToken::draw(now),
            until: now + self.settings.lease.get(),
            worker: self.worker,
            wanted: wanted.clone(),
            batches: self.batches.clone(),
        };
        let leased = self.timed("lease", self.store.lease(request)).await?;
        let mut got: HashMap<HookId, u32> = HashMap::new();
        for delivery in &leased {
            *got.entry(delivery.hook.id).or_default() += 1;
        }
        for (hook, limit) in wanted {
            // Fewer than asked for: nothing more is due.
            if got.get(&hook).copied().unwrap_or(0) < limit {
                self.state.due.leased_all(slot, hook, now);
            }
        }
        let count = leased.len() as u32;
        self.state.passed_over |= count == 0;
        self.metrics.observe_lease(&leased);
        self.state.note_sizes(&leased);
        self.admission.push(leased);
        Ok(count)
    }
}
