//! How much waits and how the database is, as a sample that all processes show.
//!
//! One process at a time takes a sample, whoever asks first when it is time, and keeps it in
//! `postrider_gauges`; all others read it there. So the cost is the same however many run, and
//! every process tells the same.

use chrono::TimeDelta;
use postrider_core::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Nothing is counted further than this: a count that has reached it says "at least".
pub const GAUGES_COUNTED: u32 = 10_000;

/// How old a sample is when the next one is taken, unless taking it is costly.
const EVERY: Duration = Duration::from_secs(10);

/// A sample is followed by a pause of so many times of what it took.
const PAUSE_TIMES: u32 = 20;

/// How long taking a sample may last.
pub(crate) const TAKING_MAX: Duration = Duration::from_secs(30);

/// Whoever takes a sample and vanishes keeps others from it for so long.
const CLAIM: TimeDelta = TimeDelta::seconds(60);

/// A time for the next sample that lies further ahead than any pause was written before the
/// clock was set back.
const FURTHEST: TimeDelta = TimeDelta::minutes(15);

/// A sample, and when it was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct GaugeSample {
    /// When it was taken, by the clock of whoever took it.
    pub at: Timestamp,
    /// What it says.
    pub gauges: Gauges,
}

/// How much waits and how the database is. Counts end at [`GAUGES_COUNTED`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gauges {
    /// Outbox rows not yet fanned out.
    pub outbox: Waiting,
    /// Deliveries that any worker may start now.
    pub due: Waiting,
    /// Deliveries whose time has come, of hooks that are backed off, ramping up or limited.
    pub gated: Waiting,
    /// Deliveries of hooks that are paused or disabled, whatever their time.
    pub held: Waiting,
    /// Deliveries of active hooks whose time has not come.
    pub scheduled: u32,
    /// Deliveries that are leased.
    pub leased: u32,
    /// Hooks by how they stand.
    pub hooks: HookCounts,
    /// The size of the whole database.
    pub database_bytes: u64,
    /// The size of our tables, each with its indexes; empty where the database does not tell.
    pub tables: Vec<TableGauge>,
    /// Who holds vacuum back; nothing where there is no vacuum.
    pub snapshot: Option<SnapshotGauge>,
    /// How long ago the oldest day of history began, in seconds; 0 without history.
    pub history_seconds: f64,
    /// Partitions of history; empty where there are none.
    pub partitions: Vec<PartitionGauge>,
}

/// How much waits, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// How many.
    pub count: u32,
    /// For how long the first of them has been waiting, in seconds; 0 when none is.
    pub oldest_seconds: f64,
}

/// Hooks by how they stand; deleted ones are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookCounts {
    /// Active ones, held back or not.
    pub active: u32,
    /// Paused by a person.
    pub paused: u32,
    /// Disabled, by Postrider or by a person.
    pub disabled: u32,
    /// Active ones that are backed off.
    pub backed_off: u32,
    /// Active ones that ramp up again.
    pub ramping: u32,
}

/// What a table takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableGauge {
    /// Its name.
    pub table: String,
    /// Its size with its indexes and partitions.
    pub bytes: u64,
    /// Rows that vacuum has not taken away yet; nothing for tables that are only inserted into.
    pub dead_rows: Option<u64>,
}

/// The oldest snapshot or transaction that keeps vacuum from taking rows away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotGauge {
    /// How long ago it began, in seconds. Transactions of other roles are told only to members
    /// of `pg_read_all_stats`, and replication slots not at all.
    pub seconds: f64,
    /// How many transactions have begun since, of whomever it is.
    pub transactions: u64,
}

/// The partitions of a table of history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionGauge {
    /// Its name.
    pub table: String,
    /// How many there are.
    pub count: u32,
    /// How many days after today have one; negative when today has none.
    pub days_ahead: i32,
}

/// How many connections of a pool there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolGauge {
    /// Which pool: of few names.
    pub pool: &'static str,
    /// Connections in use.
    pub used: u32,
    /// Open connections that nobody uses.
    pub idle: u32,
    /// How many there may be.
    pub max: u32,
}

impl PoolGauge {
    pub(crate) fn of<DB: sqlx::Database>(pool: &'static str, connections: &sqlx::Pool<DB>) -> Self {
        let idle = u32::try_from(connections.num_idle()).unwrap_or(u32::MAX);
        Self {
            pool,
            used: connections.size().saturating_sub(idle),
            idle,
            max: connections.options().get_max_connections(),
        }
    }
}

impl Waiting {
    /// So many, the first of them since then.
    pub(crate) fn since(count: i64, first: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            count: capped(count),
            oldest_seconds: first.map_or(0.0, |first| (now - first).as_seconds_f64().max(0.0)),
        }
    }
}

/// A count as it is told.
pub(crate) fn capped(count: i64) -> u32 {
    u32::try_from(count.max(0)).map_or(GAUGES_COUNTED, |count| count.min(GAUGES_COUNTED))
}

/// Whether the next sample, which is due then, is to be taken now.
pub(crate) fn is_due(due_at: Timestamp, now: Timestamp) -> bool {
    due_at <= now || due_at > now + FURTHEST
}

/// Until when whoever begins a sample now keeps others from it.
pub(crate) fn claimed_until(now: Timestamp) -> Timestamp {
    now + CLAIM
}

/// The latest time for the next sample that is believed.
pub(crate) fn furthest(now: Timestamp) -> Timestamp {
    now + FURTHEST
}

/// When the sample after one that was begun at `now` and took this long is due.
pub(crate) fn next_at(now: Timestamp, took: Duration) -> Timestamp {
    now + EVERY.max(took * PAUSE_TIMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).expect("a moment")
    }

    #[test]
    fn a_sample_is_taken_when_its_time_has_come_or_cannot_be_meant() {
        assert!(is_due(at(0), at(0)));
        assert!(!is_due(at(60), at(0)));
        assert!(is_due(at(3_600), at(0)), "the clock was set back");
        let costliest = next_at(at(0), TAKING_MAX);
        assert!(!is_due(costliest, at(0)), "a costly sample is paused after");
    }

    #[test]
    fn a_costly_sample_is_taken_less_often() {
        assert_eq!(next_at(at(0), Duration::from_millis(5)), at(10));
        assert_eq!(next_at(at(0), Duration::from_secs(3)), at(60));
    }

    #[test]
    fn counts_end_and_ages_are_not_negative() {
        assert_eq!((capped(-1), capped(7), capped(1 << 40)), (0, 7, 10_000));
        let future = Waiting::since(1, Some(at(5)), at(0));
        assert_eq!(future.oldest_seconds, 0.0);
        assert_eq!(Waiting::since(2, Some(at(0)), at(5)).oldest_seconds, 5.0);
    }

    #[test]
    fn what_another_version_wrote_can_be_read() {
        let text = r#"{"due":{"count":3},"something_new":1}"#;
        let gauges: Gauges = serde_json::from_str(text).expect("a sample");
        assert_eq!((gauges.due.count, gauges.held.count), (3, 0));
    }
}
