//! How long history is kept, and what went when it was over.
//!
//! History goes by whole days, the days of fan-out: a day goes when the last moment of it is
//! past its retention, so that nothing is kept for less than was asked for.

use chrono::NaiveDate;
use postrider_core::{EventId, Timestamp};
use std::time::Duration;

/// How much longer than its event is told what became of a delivery that was not delivered.
const ENDED_LONGER: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Events, and with them everything that refers to them.
    pub events: Duration,
    /// Attempts; no longer than their events, whatever stands here.
    pub attempts: Duration,
}

/// What pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The days whose events went, oldest first.
    pub days: Vec<NaiveDate>,
    /// The days whose attempts went before their events, oldest first.
    pub attempts: Vec<NaiveDate>,
    /// Deliveries that had not ended and were ended as expired.
    pub expired: u64,
    /// Deduplication keys and rejected rows that went.
    pub forgotten: u64,
    /// Why something that is past its retention is still there, and what it waits for.
    pub waiting: Option<String>,
}

impl Pruned {
    /// Something has to wait; the first reason is told.
    pub(crate) fn waits(&mut self, reason: impl Into<String>) {
        self.waiting.get_or_insert_with(|| reason.into());
    }
}

/// What erasing did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events whose payload and headers were erased now.
    pub events: u32,
    /// Events that were taken out of the outbox.
    pub queued: u32,
    /// Rejected rows whose payload and headers were erased.
    pub rejected: u32,
    /// Deliveries that waited and were cancelled.
    pub cancelled: u32,
    /// Attempts whose response was erased.
    pub responses: u32,
    /// Events that are still as they were, because a delivery of theirs is being attempted.
    pub in_flight: Vec<EventId>,
}

/// The first days that are kept, and the moments behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Events of earlier days go.
    pub(crate) events: NaiveDate,
    /// What was rejected before this moment goes.
    pub(crate) events_at: Timestamp,
    /// Attempts of earlier days go, when they were all made before `attempts_at`.
    pub(crate) attempts: NaiveDate,
    /// See `attempts`.
    pub(crate) attempts_at: Timestamp,
    /// What ended on earlier days goes, when all of it ended before `ended_at`.
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

fn before(at: Timestamp, span: Duration) -> Timestamp {
    let span = chrono::TimeDelta::from_std(span).unwrap_or(chrono::TimeDelta::MAX);
    at.checked_sub_signed(span).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Why events of days past their retention stay for now.
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
}
