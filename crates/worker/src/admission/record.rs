//! How the recent record of a hook limits what may be started for it.
//!
//! A receiver that is down must cost as few requests as it takes to back its hook off, in each
//! worker, and not the whole cap. So a hook is *proven* when it serves a request, and unproven again
//! when its latest requests show an outage ([`RecentRequests::shows_an_outage`], the rule by which
//! the store backs hooks off). While unproven it has no more in flight than the failures that back it
//! off, and when as many are unrecorded nothing starts until they are recorded. From then on the gate
//! of the hook decides.
//!
//! A failure keeps its place until it is recorded or the next request is served. So no more than the
//! cap of a hook is in flight or failed in a row without a record, also when a receiver with a long
//! good record dies. A receiver that fails sometimes gives the places back at once.

use super::attempt_end::AttemptEnd;
use super::blocked::Blocked;
use postrider_core::RecentRequests;
use std::time::Instant;

/// The recent record of one hook in this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentRecord {
    /// The failures that back the hook off; at least 1.
    back_off_after: u32,
    recent: RecentRequests,
    /// The hook served a request, and its latest requests have not shown an outage since.
    proven: bool,
    /// Requests that were not served since the last one that was.
    failed_in_a_row: u32,
    /// Requests that were not served and are not recorded yet.
    unrecorded: u32,
    /// The receiver throttles us, which is not recorded yet.
    throttled: bool,
}

impl RecentRecord {
    /// The record of a hook of which no more is known than whether it is proven.
    pub(super) fn new(proven: bool) -> Self {
        Self {
            back_off_after: u32::MAX,
            recent: RecentRequests::default(),
            proven,
            failed_in_a_row: 0,
            unrecorded: 0,
            throttled: false,
        }
    }

    /// Sets the failures that back the hook off.
    pub(super) fn back_off_after(&mut self, failures: u32) {
        self.back_off_after = failures;
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Deliveries in flight at most while the hook is unproven.
    pub(super) fn start_limit(&self) -> Option<u32> {
        (!self.proven).then_some(self.back_off_after)
    }

    /// Whether every failure is recorded.
    pub(super) fn is_recorded(&self) -> bool {
        self.unrecorded == 0
    }

    /// Whether the latest requests show an outage, by as many failures as back the hook off.
    fn shows_an_outage(&self) -> bool {
        self.failed_in_a_row >= self.back_off_after
            && self.recent.shows_an_outage(self.back_off_after)
    }

    /// An attempt has ended.
    pub(super) fn ended(&mut self, end: AttemptEnd) {
        match end {
            AttemptEnd::Served => {
                self.failed_in_a_row = 0;
                self.proven = true;
                self.recent.record(true);
            }
            AttemptEnd::Failed | AttemptEnd::Silent | AttemptEnd::Throttled => {
                self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
                self.recent.record(false);
                self.proven &= !self.shows_an_outage();
                self.unrecorded += 1;
                self.throttled |= end == AttemptEnd::Throttled;
            }
            AttemptEnd::LocalFault | AttemptEnd::Unsent => {}
        }
    }

    /// This many requests that were not served were recorded.
    pub(super) fn recorded(&mut self, unserved: u32) {
        self.unrecorded = self.unrecorded.saturating_sub(unserved);
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
        // Those before the last one that was served are no reason to stop.
        let failing = self.failed_in_a_row.min(self.unrecorded);
        if failing >= self.back_off_after && self.shows_an_outage() {
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
        use AttemptEnd::{Failed, Served, Silent, Throttled, Unsent};
        let now = monotonic_now();
        let unproven = |until| Err(Blocked::Unproven { until });
        let table: [(&[AttemptEnd], u32, Result<(), Blocked>); 15] = [
            (&[], 2, Ok(())),
            (&[], 3, unproven(Some(now))),
            (&[Unsent], 3, unproven(Some(now))),
            (&[Failed], 1, Ok(())),
            (&[Failed], 2, unproven(None)),
            (&[Silent, Failed], 0, Ok(())),
            (
                &[Silent, Failed, Silent],
                0,
                Err(Blocked::FailuresUnrecorded),
            ),
            (&[Throttled], 0, Err(Blocked::Throttled)),
            (&[Served], 9, Ok(())),
            (&[Served], 10, Err(Blocked::HookCap)),
            (&[Served, Failed], 8, Ok(())),
            (&[Served, Failed], 9, Err(Blocked::HookCap)),
            (&[Failed, Failed, Served], 9, Ok(())),
            (&[Served, Silent, Silent, Silent], 6, Ok(())),
            (&[Served, Silent, Silent, Silent], 7, Err(Blocked::HookCap)),
        ];
        for (ends, in_flight, expected) in table {
            let answer = record(ends).may_start(in_flight, 10, now, now);
            assert_eq!(answer, expected, "{ends:?}, {in_flight} in flight");
        }
    }

    #[test]
    fn a_hook_that_dies_is_unproven_when_nine_of_ten_were_not_served() {
        let now = monotonic_now();
        let mut record = record(&[AttemptEnd::Served; 2]);
        for failure in 1..=18 {
            assert!(record.is_proven(), "before failure {failure}");
            record.ended(AttemptEnd::Silent);
            record.recorded(1);
        }
        assert!(!record.is_proven());
        assert_eq!(record.may_start(2, 64, now, now), Ok(()));
        let unproven = Err(Blocked::Unproven { until: None });
        assert_eq!(record.may_start(3, 64, now, now), unproven);
    }

    #[test]
    fn every_second_failure_costs_no_place() {
        let now = monotonic_now();
        let mut record = record(&[AttemptEnd::Served]);
        for n in 0..1_000 {
            record.ended(match n % 2 {
                0 => AttemptEnd::Failed,
                _ => AttemptEnd::Served,
            });
            assert_eq!(record.may_start(62, 64, now, now), Ok(()), "{n}");
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
