//! Gauges of the queue and the database: one sample for all processes.
//!
//! The first process that asks when a sample is due takes it and stores it in `postrider_gauges`; all
//! others read it there. The cost does not grow with the number of processes, and all report the
//! same values.

use chrono::TimeDelta;
use postrider_core::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The largest count. A count that has reached it means "at least".
pub const GAUGES_COUNTED: u32 = 10_000;

/// The time between two samples, unless they are expensive.
const EVERY: Duration = Duration::from_secs(10);

/// The shortest pause after a sample, in multiples of the time that it took.
const PAUSE_TIMES: u32 = 20;

/// The time limit of a sample.
pub(crate) const TAKING_MAX: Duration = Duration::from_secs(30);

/// How long a process that takes a sample and dies keeps others from taking one.
const CLAIM: TimeDelta = TimeDelta::seconds(60);

/// A due time further ahead than any pause was written before the clock was set back.
const FURTHEST: TimeDelta = TimeDelta::minutes(15);

/// A sample and its age.
#[derive(Clone, Debug, PartialEq)]
pub struct GaugeSample {
    /// The time of the sample by the clock of the process that took it.
    pub at: Timestamp,
    /// The values.
    pub gauges: Gauges,
}

/// Values of the queue and the database. Counts end at [`GAUGES_COUNTED`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gauges {
    /// Outbox rows that have not been fanned out.
    pub outbox: Waiting,
    /// Deliveries that any worker may start now.
    pub due: Waiting,
    /// Due deliveries of hooks that are backed off, ramping or limited.
    pub gated: Waiting,
    /// Deliveries of paused or disabled hooks, due or not.
    pub held: Waiting,
    /// Deliveries of active hooks that are not due yet.
    pub scheduled: u32,
    /// Leased deliveries.
    pub leased: u32,
    /// Hooks by status and phase.
    pub hooks: HookCounts,
    /// The size of the whole database.
    pub database_bytes: u64,
    /// The sizes of the tables of Postrider; empty for SQLite, which does not report them.
    pub tables: Vec<TableGauge>,
    /// The oldest snapshot that holds vacuum back; `None` for SQLite.
    pub snapshot: Option<SnapshotGauge>,
    /// The age of the oldest day of history, in seconds; 0 without history.
    pub history_seconds: f64,
    /// Partitions of the history tables; empty for SQLite.
    pub partitions: Vec<PartitionGauge>,
}

/// The number of waiting rows and the age of the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// At most [`GAUGES_COUNTED`].
    pub count: u32,
    /// The waiting time of the oldest row, in seconds; 0 when no row waits.
    pub oldest_seconds: f64,
}

/// Hooks by status and phase, without deleted hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookCounts {
    /// Active hooks in any phase.
    pub active: u32,
    /// Hooks that a person paused.
    pub paused: u32,
    /// Hooks that Postrider or a person disabled.
    pub disabled: u32,
    /// Active hooks that are backed off.
    pub backed_off: u32,
    /// Active hooks that are ramping.
    pub ramping: u32,
}

/// The size of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableGauge {
    /// The name of the table.
    pub table: String,
    /// The size with indexes and partitions.
    pub bytes: u64,
    /// Rows that vacuum has not removed yet; `None` for tables without updates and deletes.
    pub dead_rows: Option<u64>,
}

/// The oldest snapshot or transaction that keeps vacuum from removing rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotGauge {
    /// The age in seconds. PostgreSQL shows transactions of other roles to members of
    /// `pg_read_all_stats` only, and no times of replication slots.
    pub seconds: f64,
    /// The number of transactions that have begun since.
    pub transactions: u64,
}

/// The partitions of a history table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionGauge {
    /// The name of the table.
    pub table: String,
    /// The number of partitions.
    pub count: u32,
    /// The number of days after today with a partition; negative when today has none.
    pub days_ahead: i32,
}

/// The connections of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolGauge {
    /// The name of the pool, one of a few.
    pub pool: &'static str,
    /// Connections in use.
    pub used: u32,
    /// Open connections that are not in use.
    pub idle: u32,
    /// The largest number of connections.
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
    /// `count` rows, the oldest of which has been waiting since `first`.
    pub(crate) fn since(count: i64, first: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            count: capped(count),
            oldest_seconds: first.map_or(0.0, |first| (now - first).as_seconds_f64().max(0.0)),
        }
    }
}

/// A count, at most [`GAUGES_COUNTED`].
pub(crate) fn capped(count: i64) -> u32 {
    u32::try_from(count.max(0)).map_or(GAUGES_COUNTED, |count| count.min(GAUGES_COUNTED))
}

/// Whether the sample that is due at `due_at` must be taken now.
pub(crate) fn is_due(due_at: Timestamp, now: Timestamp) -> bool {
    due_at <= now || due_at > now + FURTHEST
}

/// Until when a process that begins a sample now keeps others from taking one.
pub(crate) fn claimed_until(now: Timestamp) -> Timestamp {
    now + CLAIM
}

/// The latest plausible due time of the next sample.
pub(crate) fn furthest(now: Timestamp) -> Timestamp {
    now + FURTHEST
}

/// The due time after a sample that was begun at `now` and took `took`.
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
