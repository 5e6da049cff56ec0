//! How much more may be leased, and the measurements that decide it.

use super::AdmissionState;
use postrider_core::Timestamp;
use postrider_store::{Capacity, HookRequest};
use std::time::{Duration, Instant};

impl AdmissionState {
    /// How much more may be leased now.
    pub(in crate::admission) fn capacity(&mut self, at: Timestamp, now: Instant) -> Capacity {
        self.measure(now);
        let tuning = &self.tuning.admission;
        let total = match self.queued_bytes < tuning.queue_max_bytes {
            true => tuning.queue_max.saturating_sub(self.queued),
            false => 0,
        };
        let mut capacity = Capacity::new(total, self.per_hook * 2);
        let (doubtful, most) = (
            self.doubtful_left(),
            tuning.queue_max / tuning.doubtful_part,
        );
        capacity.share_with_doubtful(doubtful);
        if doubtful < most / 2 {
            let quick = self.remembered.iter();
            let quick = quick.filter(|(_, answer)| answer.is_quick(now, tuning));
            quick.for_each(|(id, _)| capacity.set_quick(*id, self.per_hook * 2));
        }
        for (id, hook) in &mut self.hooks {
            let left = hook.capacity(at, tuning);
            match hook.is_quick(now, tuning) {
                true => capacity.set_quick(*id, left),
                false => capacity.set_doubtful(*id, left),
            }
        }
        self.unpark(now);
        capacity
    }

    /// Deliveries that doubtful hooks may have beside those that they had at the latest
    /// measurement.
    fn doubtful_left(&self) -> u32 {
        let tuning = &self.tuning.admission;
        match self.doubtful_bytes < tuning.queue_max_bytes / tuning.doubtful_part as usize {
            true => (tuning.queue_max / tuning.doubtful_part).saturating_sub(self.doubtful),
            false => 0,
        }
    }

    /// Takes out what doubtful hooks have queued beyond their caps, while they have more than
    /// their share of the queue: they were quick when it was leased.
    pub(in crate::admission) fn take_surplus(&mut self, now: Instant) -> Vec<HookRequest> {
        let mut surplus = Vec::new();
        if self.doubtful_left() > 0 {
            return surplus;
        }
        for hook in self.hooks.values_mut() {
            if !hook.is_quick(now, &self.tuning.admission) {
                surplus.extend(hook.waiting.take_after(hook.cap()));
            }
        }
        self.forget_queued(&surplus);
        surplus
    }

    /// Measures which hooks are slow, which are stalled and which wait remotely, and from these
    /// when the queue is low: at half of what the moving hooks may have here.
    fn measure(&mut self, now: Instant) {
        self.measure_remote(now);
        let tuning = &self.tuning.admission;
        let (mut stalled, mut windows) = (0, 0);
        (self.doubtful, self.doubtful_bytes) = (0, 0);
        for hook in self.hooks.values_mut() {
            if !hook.slow && hook.is_unanswered(now, tuning) {
                hook.slow = true;
                self.slow += hook.in_flight;
                let slow = hook.in_flight;
                self.places.change(&hook.account, |held| held.slow += slow);
            }
            if !hook.is_quick(now, tuning) {
                self.doubtful += hook.waiting.len();
                self.doubtful_bytes += hook.waiting.bytes();
            }
            if hook.is_stalled(now, tuning) {
                stalled += hook.waiting.len();
            } else if hook.held() > 0 {
                windows += hook.window_size();
            }
        }
        self.stalled = stalled;
        let most = tuning.low_water.max(self.per_hook);
        self.low_water = (windows / 2).clamp(self.per_hook, most);
        let drops = self
            .dropped_at
            .is_none_or(|at| now.saturating_duration_since(at) > tuning.trusted_for);
        if drops {
            self.dropped_at = Some(now);
            self.remembered
                .retain(|_, answer| answer.is_recent(now, tuning));
        }
    }

    fn measure_remote(&mut self, now: Instant) {
        let tuning = &self.tuning.admission;
        let hooks = self.hooks.values();
        let remote = hooks.filter(|hook| hook.waits_remotely(now, tuning));
        self.remote = remote.map(|hook| hook.in_flight).sum();
    }

    /// Weighs how long a task waited for its turn while more could have started; `true` while
    /// only the concurrency limit keeps hooks from starting.
    pub(in crate::admission) fn weigh(&mut self, waited: Duration, now: Instant) -> bool {
        if self.limit.weigh(waited) {
            self.measure_remote(now);
        }
        self.has_turns() && self.is_full()
    }
}
