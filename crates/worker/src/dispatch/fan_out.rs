//! Fans out new events, and queues what was leased.

use super::Dispatcher;
use super::sizes::{BATCH_BYTES, fan_out_size};
use super::state::StepResult;
use postrider_core::LeaseToken;
use postrider_store::{FanOutRequest, HookRequest, Peek, Result};
use std::collections::HashMap;
use std::time::Instant;

impl Dispatcher {
    /// Fans out one batch of each slot that has rows.
    pub(super) async fn fan_out(&mut self, peek: &Peek, found: &mut StepResult) -> Result<()> {
        if peek.outbox.is_empty() {
            return Ok(());
        }
        // Events are left in the outbox while the senders have enough to do: there they cost
        // nothing. But not for long, because the queue may be full of one hook only.
        let low = self.admission.is_low();
        let (now, every) = (self.monotonic.instant(), self.tuning.fan_out_every);
        if low {
            self.state.fanned_out.reset();
        }
        if !self.state.fanned_out.passed(now, every) {
            found.more = true;
            return Ok(());
        }
        self.state.turn = self.state.turn.wrapping_add(1);
        let slots = peek.outbox.len();
        let begin = self.state.turn;
        for n in 0..slots {
            let slot = peek.outbox[begin.wrapping_add(n) % slots];
            // If this one fails, the next round begins after it.
            self.state.turn = begin.wrapping_add(n);
            self.fan_out_slot(slot, low, found).await?;
        }
        self.state.turn = begin;
        Ok(())
    }

    /// Fans out one batch of a slot; `low` says whether the queue was low before.
    async fn fan_out_slot(&mut self, slot: i16, low: bool, found: &mut StepResult) -> Result<()> {
        let now = self.clock.now();
        let capacity = self.admission.capacity(now);
        let (max_events, max_deliveries) =
            fan_out_size(low, capacity.total(), self.state.deliveries_per_event);
        let request = FanOutRequest {
            slot,
            now,
            token: LeaseToken::draw(now),
            until: now + self.settings.lease.get(),
            capacity,
            max_events,
            max_bytes: BATCH_BYTES,
            max_deliveries,
            deliver_before: now + self.keep_events,
            batches: self.batches.clone(),
        };
        let began = self.monotonic.instant();
        let fanned_out = self.timed("fan_out", self.store.fan_out(request)).await?;
        self.metrics.observe_fan_out(&fanned_out);
        if fanned_out.events > 0 {
            self.state.deliveries_per_event = fanned_out.deliveries.div_ceil(fanned_out.events);
        }
        // What did not fit into the capacity is leased by this very step, if it is still there.
        for hook in &fanned_out.waiting {
            self.note_due(slot, *hook, now);
        }
        for (hook, until) in &fanned_out.batching {
            self.note_due(slot, *hook, *until);
        }
        found.work += fanned_out.events + fanned_out.duplicates + fanned_out.rejected;
        found.more |= fanned_out.more;
        self.queue(fanned_out.started, began).await
    }

    /// Queues what a call of the store leased that began at `began`.
    ///
    /// The hooks of the deliveries are those of the beginning of the call. While a long call
    /// runs, another worker may back a hook off, and a queue full of its deliveries would start
    /// at once. So after a long call the hooks are read once more, and the deliveries of those
    /// that have become gated are given back.
    pub(super) async fn queue(&mut self, leased: Vec<HookRequest>, began: Instant) -> Result<()> {
        let took = self.monotonic.instant() - began;
        if leased.is_empty() || took <= self.tuning.current_within {
            self.admission.push(leased);
            return Ok(());
        }
        // If this fails the deliveries are leased all the same: they go on with the hooks known.
        let peeked = self.timed("peek", self.store.peek()).await.map(|_| ());
        let cache = self.store.hook_cache();
        let owned = self.admission.startable_gates(self.clock.now());
        let mut startable = HashMap::new();
        let (current, outdated): (Vec<_>, Vec<_>) = leased.into_iter().partition(|leased| {
            let hook = leased.hook.id;
            *startable.entry(hook).or_insert_with(|| {
                let known = cache.get(hook);
                known.is_some_and(|known| !known.is_gated() || owned.contains(&hook))
            })
        });
        if !outdated.is_empty() {
            self.settler.give_back(outdated).await;
        }
        self.admission.push(current);
        peeked
    }
}
