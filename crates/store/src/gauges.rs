//! The backlog and the state of the database, as a sample that all processes show.
//!
//! The first process that asks when a sample is due takes it and keeps it in `postrider_gauges`;
//! all others read it there. The cost does not grow with the number of processes, and all show
//! the same numbers.

use crate::Result;
use crate::count::count;
use crate::stored_row::StoredRow;
use async_trait::async_trait;
use chrono::TimeDelta;
use postrider_core::{Timestamp, monotonic_now};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The limit of all counts: a count that has reached it means "at least".
pub const GAUGES_COUNTED: u32 = 10_000;

/// The interval between samples, unless a sample takes long.
const EVERY: Duration = Duration::from_secs(10);

/// A sample is followed by a pause of this many times its duration.
const PAUSE_TIMES: u32 = 20;

/// The longest time that taking a sample may last.
pub(crate) const TAKING_MAX: Duration = Duration::from_secs(30);

/// How long a process that vanished while it took a sample keeps others from taking one.
const CLAIM: TimeDelta = TimeDelta::seconds(60);

/// The time of the next sample cannot lie further in the future: it was then written before the
/// clock was set back.
const FURTHEST: TimeDelta = TimeDelta::minutes(15);

/// A sample and its age.
#[derive(Clone, Debug, PartialEq)]
pub struct GaugeSample {
    /// When it was taken, by the clock of the process that took it.
    pub at: Timestamp,
    /// The values.
    pub gauges: Gauges,
}

/// The backlog and the state of the database. Counts end at [`GAUGES_COUNTED`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gauges {
    /// Outbox rows that have not been fanned out.
    pub outbox: Waiting,
    /// Deliveries that any worker may start now.
    pub due: Waiting,
    /// Due deliveries of hooks that are backed off, ramping or limited.
    pub gated: Waiting,
    /// Deliveries of hooks that are paused or disabled, due or not.
    pub held: Waiting,
    /// Deliveries of active hooks that are not due yet.
    pub scheduled: u32,
    /// Leased deliveries.
    pub leased: u32,
    /// Hooks by their status.
    pub hooks: HookCounts,
    /// The size of the whole database.
    pub database_bytes: u64,
    /// The sizes of the tables with their indexes; empty on SQLite.
    pub tables: Vec<TableGauge>,
    /// What holds vacuum back; `None` on SQLite.
    pub snapshot: Option<SnapshotGauge>,
    /// The age of the oldest day of history, in seconds; 0 without history.
    pub history_seconds: f64,
    /// Partitions of history; empty on SQLite.
    pub partitions: Vec<PartitionGauge>,
}

/// A number of waiting rows, and the age of the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// Rows, counted up to [`GAUGES_COUNTED`].
    pub count: u32,
    /// How long the first has been waiting, in seconds; 0 if there is none.
    pub oldest_seconds: f64,
}

/// Hooks by their status; deleted ones are not counted.
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
    /// Rows that vacuum has not removed yet; `None` for tables that are only inserted into.
    pub dead_rows: Option<u64>,
}

/// The oldest snapshot or transaction that keeps vacuum from removing rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotGauge {
    /// How long ago it began, in seconds. Transactions of other roles are visible only to members
    /// of `pg_read_all_stats`; the age of replication slots is not known.
    pub seconds: f64,
    /// How many transactions of all roles have begun since.
    pub transactions: u64,
}

/// The partitions of a history table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionGauge {
    /// The name of the table.
    pub table: String,
    /// Their number.
    pub count: u32,
    /// The number of days after today with a partition; negative when today has none.
    pub days_ahead: i32,
}

/// The connections of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolGauge {
    /// The name of the pool.
    pub pool: &'static str,
    /// Connections in use.
    pub used: u32,
    /// Open connections that are not in use.
    pub idle: u32,
    /// The largest number of open connections.
    pub max: u32,
    /// For how long the longest call in progress has been waiting for the database's answer;
    /// zero without a call, and always on SQLite.
    pub longest: Duration,
}

/// The latest sample as it is kept in `postrider_gauges`.
pub(crate) struct KeptSample {
    /// When the next sample is due.
    due_at: Timestamp,
    at: Option<Timestamp>,
    /// `None` also for a sample that this version cannot read.
    gauges: Option<Gauges>,
}

/// Waiting deliveries of one kind of hooks, counted up to [`GAUGES_COUNTED`].
pub(crate) struct WaitingRow {
    /// `held`, `gated` or `free`.
    kind: String,
    /// When the first of those that are due became due.
    first_at: Option<Timestamp>,
    due: i64,
    later: i64,
}

/// How a database keeps the sample.
#[async_trait]
pub(crate) trait GaugeStatements: Send + Sync {
    /// The row of the latest sample; `None` before the first.
    async fn kept(&self) -> Result<Option<KeptSample>>;

    /// Moves the time of the next sample to `until`, unless another process did. It did if that
    /// time lies after `now`, but not after `furthest`.
    async fn claim(&self, now: Timestamp, until: Timestamp, furthest: Timestamp) -> Result<bool>;

    async fn sample(&self, now: Timestamp) -> Result<Gauges>;

    /// Keeps a sample taken at `now`; the next is due at `next`.
    async fn keep(&self, now: Timestamp, next: Timestamp, gauges: &Gauges) -> Result<()>;
}

/// The latest sample. Takes one if it is due and no other process takes it.
pub(crate) async fn current(
    store: &impl GaugeStatements,
    now: Timestamp,
) -> Result<Option<GaugeSample>> {
    let kept = store.kept().await?;
    let due = kept.as_ref().is_none_or(|kept| is_due(kept.due_at, now));
    if !due || !store.claim(now, now + CLAIM, now + FURTHEST).await? {
        return Ok(kept.and_then(KeptSample::sample));
    }
    let begun = monotonic_now();
    let gauges = store.sample(now).await?;
    store
        .keep(now, next_at(now, monotonic_now() - begun), &gauges)
        .await?;
    Ok(Some(GaugeSample { at: now, gauges }))
}

impl PoolGauge {
    pub(crate) fn of<DB: sqlx::Database>(pool: &'static str, connections: &sqlx::Pool<DB>) -> Self {
        let idle = count(connections.num_idle());
        Self {
            pool,
            used: connections.size().saturating_sub(idle),
            idle,
            max: connections.options().get_max_connections(),
            longest: Duration::ZERO,
        }
    }
}

impl KeptSample {
    pub(crate) fn read(row: &impl StoredRow) -> sqlx::Result<Self> {
        let sample = row.text_or_null("sample")?;
        Ok(Self {
            due_at: row.time("due_at")?,
            at: row.time_or_null("sampled_at")?,
            gauges: sample.and_then(|sample| serde_json::from_str(&sample).ok()),
        })
    }

    fn sample(self) -> Option<GaugeSample> {
        Some(GaugeSample {
            at: self.at?,
            gauges: self.gauges?,
        })
    }
}

impl WaitingRow {
    pub(crate) fn read(row: &impl StoredRow) -> sqlx::Result<Self> {
        Ok(Self {
            kind: row.text("kind")?,
            first_at: row.time_or_null("first_at")?,
            due: row.number("due")?,
            later: row.number("later")?,
        })
    }
}

impl Gauges {
    pub(crate) fn set_waiting(&mut self, rows: Vec<WaitingRow>, now: Timestamp) {
        let mut scheduled = 0;
        for row in rows {
            match row.kind.as_str() {
                "held" => self.held = Waiting::since(row.due + row.later, row.first_at, now),
                "gated" => {
                    self.gated = Waiting::since(row.due, row.first_at, now);
                    scheduled += row.later;
                }
                _ => {
                    self.due = Waiting::since(row.due, row.first_at, now);
                    scheduled += row.later;
                }
            }
        }
        self.scheduled = capped(scheduled);
    }
}

impl HookCounts {
    /// The statement that counts them, in the SQL of both databases.
    pub(crate) const STATEMENT: &str = "-- postrider: gauges_hooks
        SELECT count(*) FILTER (WHERE h.status = 'active') AS active,
               count(*) FILTER (WHERE h.status = 'paused') AS paused,
               count(*) FILTER (WHERE h.status = 'disabled') AS disabled,
               count(*) FILTER (WHERE h.status = 'active' AND health.phase = 'backed_off')
                   AS backed_off,
               count(*) FILTER (WHERE h.status = 'active' AND health.phase = 'ramping') AS ramping
        FROM postrider_hooks AS h
        LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
        WHERE h.deleted_at IS NULL";

    pub(crate) fn read(row: &impl StoredRow) -> sqlx::Result<Self> {
        Ok(Self {
            active: row.count("active")?,
            paused: row.count("paused")?,
            disabled: row.count("disabled")?,
            backed_off: row.count("backed_off")?,
            ramping: row.count("ramping")?,
        })
    }
}

impl Waiting {
    /// `count` rows, the first of which has been waiting since `first`.
    pub(crate) fn since(count: i64, first: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            count: capped(count),
            oldest_seconds: first.map_or(0.0, |first| (now - first).as_seconds_f64().max(0.0)),
        }
    }
}

/// A count as it is reported.
pub(crate) fn capped(count: i64) -> u32 {
    u32::try_from(count.max(0)).map_or(GAUGES_COUNTED, |count| count.min(GAUGES_COUNTED))
}

/// Whether the next sample is taken now.
fn is_due(due_at: Timestamp, now: Timestamp) -> bool {
    due_at <= now || due_at > now + FURTHEST
}

/// When the sample after one that was begun at `now` and took this long is due.
fn next_at(now: Timestamp, took: Duration) -> Timestamp {
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
