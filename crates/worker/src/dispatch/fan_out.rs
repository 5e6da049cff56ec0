//! Fans out new events.

use super::Dispatcher;
use super::sizes::{BATCH_BYTES, fan_out_size};
use super::state::StepResult;
use postrider_core::LeaseToken;
use postrider_store::{FanOutRequest, Peek, Result};

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
        self.admission.push(fanned_out.started);
        Ok(())
    }
}
