//! What is queued for one hook, and whether it may start.

use crate::gate::{Ended, Gate};
use crate::profiles::Policy;
use postrider_core::Hook;
use postrider_store::HookRequest;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest window of one hook.
const WINDOW_MAX: u32 = 2048;
/// A hook that takes half of its window within this time may queue more.
const QUICKLY: Duration = Duration::from_millis(250);
/// A hook with all its places taken that has answered nothing for so long is stalled.
const STALLED_AFTER: Duration = Duration::from_millis(100);
/// What is in flight to a hook that has answered nothing for so long waits elsewhere.
const ELSEWHERE_AFTER: Duration = Duration::from_millis(25);
/// A hook to which so many requests were started since it last answered is slow …
const SLOW_AFTER_STARTED: u32 = 4;
/// … and so is one that leaves any unanswered for so long.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// A hook that has shown nothing and gives no answer for so long is no longer taken for dead.
const SILENT_AFTER: Duration = Duration::from_millis(500);

/// The queue of one hook.
#[derive(Debug)]
pub(super) struct HookQueue {
    pub(super) waiting: VecDeque<HookRequest>,
    pub(super) in_flight: u32,
    /// In flight at most.
    pub(super) cap: u32,
    pub(super) has_turn: bool,
    /// It has something to start and waits until slow hooks hold fewer places.
    pub(super) parked: bool,
    /// Its places count as those of slow hooks.
    pub(super) slow: bool,
    /// Nothing more starts before the hook is known as of this version: it was backed off.
    pub(super) shut: Option<i64>,
    pub(super) window: u32,
    /// For how many more there was capacity at the latest look.
    pub(super) offered: u32,
    /// When it took all that it was offered, until half of its window is empty again.
    filled: Option<Instant>,
    /// When an attempt last ended, or the first of those in flight was started.
    pub(super) moved: Instant,
    /// Requests started since the receiver last answered.
    started: u32,
    /// It took a delivery, and has not failed often enough since to be backed off.
    pub(super) proven: bool,
    /// It has answered nothing for a while, which is no failure yet.
    silent: bool,
    /// Attempts that failed in a row, as far as this process knows.
    failed: u32,
    /// Attempts that failed and are not recorded yet.
    unrecorded: u32,
    /// The receiver said that it is busy, which is not recorded yet.
    busy: bool,
    /// So many failures in a row make it wait until they are recorded.
    back_off_after: u32,
}

impl HookQueue {
    pub(super) fn new(cap: u32, proven: bool) -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: 0,
            cap,
            has_turn: false,
            parked: false,
            slow: false,
            shut: None,
            window: 0,
            offered: 2 * cap,
            filled: None,
            moved: Instant::now(),
            started: 0,
            proven,
            silent: false,
            failed: 0,
            unrecorded: 0,
            busy: false,
            back_off_after: u32::MAX,
        }
    }

    /// Takes one more.
    pub(super) fn push(&mut self, delivery: HookRequest, back_off_after: u32) {
        self.back_off_after = Policy::back_off_after(&delivery.hook, back_off_after);
        self.waiting.push_back(delivery);
        self.offered = self.offered.saturating_sub(1);
        if self.offered == 0 {
            self.filled.get_or_insert_with(Instant::now);
        }
    }

    /// Whether the next one waits for nothing but its turn. What has just failed keeps its
    /// place until it is recorded, or something is taken: it may be what backs the hook off.
    pub(super) fn may_start(&self) -> bool {
        let failing = self.failed.min(self.unrecorded);
        let places = match self.proven || self.silent {
            true => self.cap,
            false => self.cap.min(self.back_off_after),
        };
        !self.waiting.is_empty()
            && self.in_flight + failing < places
            && self.shut.is_none()
            && failing < self.back_off_after
            && !self.busy
            && !self.has_turn
            && !self.parked
    }

    /// The next one, in flight from here on.
    pub(super) fn start(&mut self) -> Option<HookRequest> {
        let delivery = self.waiting.pop_front()?;
        if self.in_flight == 0 {
            self.moved = Instant::now();
        }
        self.in_flight += 1;
        self.started = self.started.saturating_add(1);
        Some(delivery)
    }

    /// Whether one more started would make it slow.
    pub(super) fn is_about_to_be_slow(&self, gate: Option<&Gate>) -> bool {
        self.started + 1 >= SLOW_AFTER_STARTED || gate.is_some_and(Gate::is_backed_off)
    }

    /// Whether something has been in flight for long without any answer.
    pub(super) fn keeps_waiting(&self) -> bool {
        self.in_flight > 0 && self.moved.elapsed() > SLOW_AFTER
    }

    /// Whether what is in flight keeps none of our processors busy.
    pub(super) fn waits_elsewhere(&self) -> bool {
        self.moved.elapsed() > ELSEWHERE_AFTER
    }

    /// Whether all its places are taken and none comes free.
    pub(super) fn is_stalled(&self) -> bool {
        self.in_flight >= self.cap && self.moved.elapsed() > STALLED_AFTER
    }

    /// Gives a hook that keeps us waiting all of its places; whether that is news.
    pub(super) fn fall_silent(&mut self) -> bool {
        let news = !self.proven
            && !self.silent
            && self.failed == 0
            && self.in_flight > 0
            && self.moved.elapsed() > SILENT_AFTER;
        self.silent |= news;
        news
    }

    /// An attempt has ended.
    pub(super) fn ended(&mut self, ended: Ended) {
        self.in_flight -= 1;
        self.moved = Instant::now();
        self.silent = false;
        if ended.is_answer() {
            self.started = 0;
        }
        match ended {
            Ended::Accepted => {
                self.failed = 0;
                self.proven = true;
                self.widen();
                return;
            }
            Ended::Refused | Ended::Silent | Ended::Throttled => {
                self.failed = self.failed.saturating_add(1);
                self.proven &= self.failed < self.back_off_after;
                self.unrecorded += 1;
                self.busy |= ended == Ended::Throttled;
            }
            Ended::Unsent => {}
        }
        self.window = 0;
        self.filled = None;
    }

    fn widen(&mut self) {
        if let Some(filled) = self.filled
            && self.held() <= self.window() / 2
        {
            if filled.elapsed() <= QUICKLY {
                self.window = (self.window() * 2).min(WINDOW_MAX);
            }
            self.filled = None;
        }
    }

    /// So many failures were recorded.
    pub(super) fn recorded(&mut self, failures: u32) {
        self.unrecorded = self.unrecorded.saturating_sub(failures);
        self.busy = false;
    }

    /// How much of the hook may be here.
    pub(super) fn window(&self) -> u32 {
        self.window.max(2 * self.cap)
    }

    /// What is here of the hook: queued or in flight.
    pub(super) fn held(&self) -> u32 {
        self.waiting.len() as u32 + self.in_flight
    }

    /// Whether nothing is known of the hook that is worth keeping.
    pub(super) fn is_idle(&self) -> bool {
        self.held() == 0
            && self.window == 0
            && self.unrecorded == 0
            && self.shut.is_none()
            && !self.has_turn
            && !self.parked
    }

    /// What waits is for the hook as it is now.
    pub(super) fn follow(&mut self, hook: &Arc<Hook>) {
        for delivery in &mut self.waiting {
            delivery.hook = hook.clone();
        }
    }
}
