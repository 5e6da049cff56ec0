//! How much of one hook may be in this process, queued or in flight.
//!
//! A lease runs out in the queue, so the window is no larger than what the hook has lately
//! taken quickly. It begins at twice the hook's cap. It doubles when the hook has
//! filled it and takes half of it in a moment, and falls back when the hook shows an outage or is
//! throttled.

use crate::tuning::AdmissionTuning;
use std::time::Instant;

/// The window of one hook.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseWindow {
    /// What the hook has earned; what counts is never less than twice its cap.
    earned: u32,
    /// What was left of the window when it was last offered to the dispatcher.
    offered: u32,
    /// When the hook filled its window; `None` until then, and again once half is empty.
    filled_at: Option<Instant>,
}

impl LeaseWindow {
    pub(super) fn new(cap: u32) -> Self {
        Self {
            earned: 0,
            offered: 2 * cap,
            filled_at: None,
        }
    }

    /// Deliveries that may be here, where the hook's cap is `cap`.
    pub(super) fn size(&self, cap: u32) -> u32 {
        self.earned.max(2 * cap)
    }

    /// What the hook has earned; 0 until it has earned more than twice its cap.
    pub(super) fn earned(&self) -> u32 {
        self.earned
    }

    /// The dispatcher may lease `left` more.
    pub(super) fn offer(&mut self, left: u32) {
        self.offered = left;
    }

    /// One more was queued.
    pub(super) fn queued(&mut self, now: Instant) {
        self.offered = self.offered.saturating_sub(1);
        if self.offered == 0 {
            self.filled_at.get_or_insert(now);
        }
    }

    /// An attempt has ended, which leaves `held` here.
    pub(super) fn ended(&mut self, held: u32, cap: u32, now: Instant, tuning: &AdmissionTuning) {
        let size = self.size(cap);
        if let Some(filled_at) = self.filled_at
            && held <= size / 2
        {
            if now.saturating_duration_since(filled_at) <= tuning.window_grows_within {
                self.earned = (size * 2).min(tuning.window_max);
            }
            self.filled_at = None;
        }
    }

    /// The hook takes nothing quickly any more.
    pub(super) fn fall_back(&mut self) {
        self.earned = 0;
        self.filled_at = None;
    }
}
