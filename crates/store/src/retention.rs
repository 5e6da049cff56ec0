//! Retention: how long history is kept, and which days are past.
//!
//! History is deleted by whole days, the days of fan-out: a day is past when its last moment is
//! past the retention, so that nothing is kept for less time than configured. Deletion cannot be
//! undone, so a clock that has moved far since the last run is not trusted for a day.

use chrono::{NaiveDate, TimeDelta};
use postrider_core::{EventId, Timestamp};
use std::time::Duration;

/// How much longer than its event the record of a delivery is kept that ended otherwise than
/// delivered.
const ENDED_LONGER: Duration = Duration::from_secs(7 * 24 * 3600);

/// A clock that has moved further since the last run is not trusted at once.
const TRUSTED: TimeDelta = TimeDelta::days(1);

/// How long it is not trusted: the time that people have to correct it.
const DOUBTED_FOR: TimeDelta = TimeDelta::days(1);

/// How long history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The retention of events and of everything that refers to them.
    pub events: Duration,
    /// The retention of attempts; they are kept no longer than their events.
    pub attempts: Duration,
}

/// The result of a run of pruning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The days whose events were deleted, oldest first.
    pub days: Vec<NaiveDate>,
    /// The days whose attempts were deleted before their events, oldest first.
    pub attempts: Vec<NaiveDate>,
    /// Deliveries that had not ended and were ended as expired.
    pub expired: u64,
    /// Deduplication keys and rejected rows that were deleted.
    pub forgotten: u64,
    /// The first reason why something past its retention could not be deleted yet.
    pub waiting: Option<String>,
}

impl Pruned {
    /// Records a reason to wait; the first one is kept.
    pub(crate) fn waits(&mut self, reason: impl Into<String>) {
        self.waiting.get_or_insert_with(|| reason.into());
    }
}

/// The result of an erasure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events whose payload and headers were erased by this call.
    pub events: u32,
    /// Events that were deleted from the outbox.
    pub queued: u32,
    /// Rejected rows whose payload and headers were erased.
    pub rejected: u32,
    /// Deliveries that waited and were cancelled.
    pub cancelled: u32,
    /// Attempts whose response was erased.
    pub responses: u32,
    /// Events that are still as they were, because a delivery of theirs is being attempted; each
    /// once, by id.
    pub in_flight: Vec<EventId>,
}

impl Erased {
    /// Adds what another call has done.
    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.queued += other.queued;
        self.rejected += other.rejected;
        self.cancelled += other.cancelled;
        self.responses += other.responses;
        self.in_flight.extend(other.in_flight);
    }
}

/// The first days that are kept, and the times they follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Events of earlier days are deleted.
    pub(crate) events: NaiveDate,
    /// Rows rejected before this time are deleted.
    pub(crate) events_at: Timestamp,
    /// Attempts of an earlier day are deleted if all of them were made before `attempts_at`.
    pub(crate) attempts: NaiveDate,
    /// See `attempts`.
    pub(crate) attempts_at: Timestamp,
    /// Records of an earlier day are deleted if all its deliveries ended before `ended_at`.
    pub(crate) ended: NaiveDate,
    /// See `ended`.
    pub(crate) ended_at: Timestamp,
}

impl Bounds {
    pub(crate) fn of(keep: &Retention, now: Timestamp) -> Self {
        let events_at = before(now, keep.events);
        let attempts_at = before(now, keep.attempts.min(keep.events));
        Self {
            events: events_at.date_naive(),
            events_at,
            attempts: attempts_at.date_naive(),
            attempts_at,
            ended: before(events_at, ENDED_LONGER).date_naive(),
            ended_at: before(now, ENDED_LONGER),
        }
    }
}

/// The time of the last run of pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PruneTimes {
    /// By the database's clock; `None` before the first run.
    pub(crate) last: Option<Timestamp>,
    /// The clock is not trusted: nothing is deleted before this time.
    pub(crate) doubted_until: Option<Timestamp>,
}

impl PruneTimes {
    /// The state after a run at `now`.
    ///
    /// A wrong clock cannot be told from a long time without workers, so both mean a day's delay. A
    /// clock that went back deletes nothing that should be kept.
    pub(crate) fn after(self, now: Timestamp) -> Self {
        let went = self.last.map_or(TimeDelta::zero(), |last| now - last);
        let doubted_until = if went > TRUSTED {
            now.checked_add_signed(DOUBTED_FOR)
        } else if went < -TRUSTED {
            None
        } else {
            self.doubted_until.filter(|until| now < *until)
        };
        Self {
            last: Some(now),
            doubted_until,
        }
    }

    /// Why nothing is deleted for now; `None` if the clock is trusted.
    pub(crate) fn doubt(&self) -> Option<String> {
        let until = self.doubted_until?;
        Some(format!(
            "the database's clock has gone forward by more than a day since what is past was last \
             looked for. If it is wrong, set it right: by this clock nothing goes before {}. If \
             no worker ran for so long, all is well",
            until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        ))
    }
}

fn before(at: Timestamp, span: Duration) -> Timestamp {
    let span = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
    at.checked_sub_signed(span).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Why events past their retention are not deleted yet.
pub(crate) fn in_flight(count: u64) -> String {
    format!(
        "{count} deliveries of events past their retention are being attempted: the events go \
         when these have ended"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_goes_when_its_last_moment_is_past() {
        let keep = Retention {
            events: 30 * DAY,
            attempts: 7 * DAY,
        };
        for (now, events, attempts, ended) in [
            (
                "2026-03-31T00:00:00Z",
                "2026-03-01",
                "2026-03-24",
                "2026-02-22",
            ),
            (
                "2026-03-31T23:59:59Z",
                "2026-03-01",
                "2026-03-24",
                "2026-02-22",
            ),
            (
                "2026-04-01T00:00:00Z",
                "2026-03-02",
                "2026-03-25",
                "2026-02-23",
            ),
        ] {
            let bounds = Bounds::of(&keep, now.parse().unwrap());
            assert_eq!(bounds.events, day(events), "{now}");
            assert_eq!(bounds.attempts, day(attempts), "{now}");
            assert_eq!(bounds.ended, day(ended), "{now}");
        }
    }

    #[test]
    fn attempts_are_kept_no_longer_than_events() {
        let keep = Retention {
            events: 7 * DAY,
            attempts: 30 * DAY,
        };
        let bounds = Bounds::of(&keep, "2026-03-31T10:00:00Z".parse().unwrap());
        assert_eq!(bounds.attempts, bounds.events);
    }

    #[test]
    fn what_is_to_be_kept_for_ever_is() {
        let keep = Retention {
            events: Duration::MAX,
            attempts: Duration::MAX,
        };
        let bounds = Bounds::of(&keep, "2026-03-31T10:00:00Z".parse().unwrap());
        assert_eq!(bounds.events, day("1970-01-01"));
    }

    #[test]
    fn a_clock_that_has_gone_far_is_doubted_for_a_day() {
        // Hours since the run before, and whether something may go then.
        for (hours, expected) in [
            (&[0, 1, 24, 24][..], &[true, true, true, true][..]),
            (&[0, 25, 23, 1], &[true, false, false, true]),
            (&[0, 365 * 24, 1, -365 * 24], &[true, false, false, true]),
            (&[0, 365 * 24, 23, 25], &[true, false, false, false]),
            (&[0, -48, 1, 48], &[true, true, true, false]),
            (&[0, 30, -1, 24, 1], &[true, false, false, false, true]),
        ] {
            let (mut times, mut now) = (
                PruneTimes::default(),
                "2026-03-31T10:00:00Z".parse().unwrap(),
            );
            let mut seen = Vec::new();
            for hours in hours {
                now += TimeDelta::hours(*hours);
                times = times.after(now);
                seen.push(times.doubt().is_none());
            }
            assert_eq!(seen, expected, "{hours:?}");
        }
    }
}
