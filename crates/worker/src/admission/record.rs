//! How the recent record of a hook limits what may be started for it.
//!
//! A hook that refuses everything must cost as few requests as it takes to back it off, in each
//! worker, and not its whole cap. So a hook is *proven* when it accepts a delivery, and
//! unproven again when it fails as often in a row as backs it off. While unproven it has no more
//! in flight than that number. A failure keeps its place until it is recorded, because it may be
//! the one that backs the hook off. When as many in a row are unrecorded as back it off, nothing
//! starts until they are recorded. From then on the gate of the hook decides.
//!
//! In admission, only this file judges a hook by its failures in a row. A rule by its share of
//! failures would replace this file and nothing else.

use super::attempt_end::AttemptEnd;
use super::blocked::Blocked;
use std::time::Instant;

/// The recent record of one hook in this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentRecord {
    /// The failures in a row that back the hook off; at least 1.
    back_off_after: u32,
    /// The hook accepted a delivery, and has not failed `back_off_after` times in a row since.
    proven: bool,
    /// Attempts that failed since the last one that was accepted.
    failed_in_a_row: u32,
    /// Attempts that failed and are not recorded yet.
    unrecorded: u32,
    /// The receiver throttles us, which is not recorded yet.
    throttled: bool,
}

impl RecentRecord {
    /// The record of a hook of which no more is known than whether it is proven.
    pub(super) fn new(proven: bool) -> Self {
        Self {
            back_off_after: u32::MAX,
            proven,
            failed_in_a_row: 0,
            unrecorded: 0,
            throttled: false,
        }
    }

    /// Sets the failures in a row that back the hook off.
    pub(super) fn back_off_after(&mut self, failures: u32) {
        self.back_off_after = failures;
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whether every failure is recorded.
    pub(super) fn is_recorded(&self) -> bool {
        self.unrecorded == 0
    }

    /// An attempt has ended.
    pub(super) fn ended(&mut self, end: AttemptEnd) {
        match end {
            AttemptEnd::Accepted => {
                self.failed_in_a_row = 0;
                self.proven = true;
            }
            AttemptEnd::Refused | AttemptEnd::Silent | AttemptEnd::Throttled => {
                self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
                self.proven &= self.failed_in_a_row < self.back_off_after;
                self.unrecorded += 1;
                self.throttled |= end == AttemptEnd::Throttled;
            }
            AttemptEnd::Unsent => {}
        }
    }

    /// This many failures were recorded.
    pub(super) fn recorded(&mut self, failures: u32) {
        self.unrecorded = self.unrecorded.saturating_sub(failures);
        self.throttled = false;
    }

    /// Whether one more may start beside `in_flight`, where the hook's cap is `cap`. A hook
    /// whose requests are all unanswered at `silent_at` is slow rather than dead, and then has
    /// its cap although it is unproven.
    pub(super) fn may_start(
        &self,
        in_flight: u32,
        cap: u32,
        silent_at: Instant,
        now: Instant,
    ) -> Result<(), Blocked> {
        if self.throttled {
            return Err(Blocked::Throttled);
        }
        // Those before the last success are no reason to stop.
        let failing = self.failed_in_a_row.min(self.unrecorded);
        if failing >= self.back_off_after {
            return Err(Blocked::FailuresUnrecorded);
        }
        let taken = in_flight + failing;
        if taken >= cap {
            return Err(Blocked::HookCap);
        }
        if !self.proven && taken >= self.back_off_after {
            let until = (self.failed_in_a_row == 0).then_some(silent_at);
            if until.is_none_or(|until| now <= until) {
                return Err(Blocked::Unproven { until });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::monotonic_now;
    use std::time::Duration;

    fn record(ends: &[AttemptEnd]) -> RecentRecord {
        let mut record = RecentRecord::new(false);
        record.back_off_after(3);
        ends.iter().for_each(|end| record.ended(*end));
        record
    }

    #[test]
    fn the_record_of_a_hook_limits_what_may_start() {
        use AttemptEnd::{Accepted, Refused, Silent, Throttled, Unsent};
        let now = monotonic_now();
        let unproven = |until| Err(Blocked::Unproven { until });
        let table: [(&[AttemptEnd], u32, Result<(), Blocked>); 14] = [
            (&[], 2, Ok(())),
            (&[], 3, unproven(Some(now))),
            (&[Unsent], 3, unproven(Some(now))),
            (&[Refused], 1, Ok(())),
            (&[Refused], 2, unproven(None)),
            (&[Silent, Refused], 0, Ok(())),
            (
                &[Silent, Refused, Silent],
                0,
                Err(Blocked::FailuresUnrecorded),
            ),
            (&[Throttled], 0, Err(Blocked::Throttled)),
            (&[Accepted], 9, Ok(())),
            (&[Accepted], 10, Err(Blocked::HookCap)),
            (&[Accepted, Refused], 8, Ok(())),
            (&[Accepted, Refused], 9, Err(Blocked::HookCap)),
            (&[Refused, Refused, Accepted], 9, Ok(())),
            (
                &[Accepted, Silent, Silent, Silent],
                0,
                Err(Blocked::FailuresUnrecorded),
            ),
        ];
        for (ends, in_flight, expected) in table {
            let answer = record(ends).may_start(in_flight, 10, now, now);
            assert_eq!(answer, expected, "{ends:?}, {in_flight} in flight");
        }
    }

    #[test]
    fn what_is_recorded_no_longer_stops_a_hook() {
        let now = monotonic_now();
        let mut record = record(&[AttemptEnd::Throttled; 3]);
        record.recorded(3);
        assert!(record.is_recorded() && !record.is_proven());
        assert_eq!(record.may_start(2, 10, now, now), Ok(()));
        let unproven = Err(Blocked::Unproven { until: None });
        assert_eq!(record.may_start(3, 10, now, now), unproven);
    }

    #[test]
    fn an_unproven_hook_that_is_silent_has_its_cap() {
        let (silent_at, later) = (monotonic_now(), Duration::from_millis(1));
        let may_start = |now| record(&[]).may_start(3, 10, silent_at, now);
        assert!(may_start(silent_at).is_err());
        assert_eq!(may_start(silent_at + later), Ok(()));
    }
}
