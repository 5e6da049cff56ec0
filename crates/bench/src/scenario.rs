//! The scenarios: their names, which databases support them, and how each one is run.

use crate::error::Result;
use crate::figures::Measurement;
use crate::options::Plan;
use crate::processes::ReceiverProcess;
use crate::report::Row;
use crate::{
    backlog, held_xmin, idle, isolation, latency, publish, retention, sick, steady, throughput,
    workers,
};
use clap::ValueEnum;
use postrider_store::Backend;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A backlog drained to one hook and to ten, beside bare HTTP clients
    Throughput,
    /// Producers that insert while workers deliver
    Steady,
    /// Events published one at a time through the API and delivered by the same process
    Publish,
    /// Time from the commit, and from a request to the API, to the receiver, at 50 events/s
    Latency,
    /// A backlog of a million due deliveries: whether the last are as fast as the first
    Backlog,
    /// Healthy hooks beside hooks that hang, refuse connections or fail
    Isolation,
    /// One hook whose receiver fails sometimes, or is dead for a while
    Sick,
    /// A transaction left open for ten minutes under load (PostgreSQL)
    HeldXmin,
    /// A day of history pruned under load, beside a long-running reader (PostgreSQL)
    Retention,
    /// 1, 2 and 4 worker processes on one database (PostgreSQL)
    Workers,
    /// A worker with nothing to do
    Idle,
    /// Each of the above, one after the other
    All,
    /// The receiver process of the other scenarios
    #[value(hide = true)]
    Receiver,
}

impl Scenario {
    /// The scenarios of `all`, in the order they are run.
    pub const EACH: [Self; 11] = [
        Self::Throughput,
        Self::Steady,
        Self::Publish,
        Self::Latency,
        Self::Backlog,
        Self::Isolation,
        Self::Sick,
        Self::HeldXmin,
        Self::Retention,
        Self::Workers,
        Self::Idle,
    ];

    /// Its name on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Why it cannot be measured on this kind of database; `None` if it can.
    pub fn unsupported(self, backend: Backend) -> Option<&'static str> {
        match (self, backend) {
            (Self::Workers, Backend::Sqlite) => Some(
                "SQLite takes one worker process for each file: measure several with \
                 --database postgres://…",
            ),
            (Self::HeldXmin, Backend::Sqlite) => Some(
                "SQLite has no dead rows that an open transaction could keep from being \
                 vacuumed: measure it with --database postgres://…",
            ),
            (Self::Retention, Backend::Sqlite) => Some(
                "SQLite has no partitions that a reader could keep from being dropped: measure \
                 it with --database postgres://…",
            ),
            _ => None,
        }
    }

    /// Runs it once.
    pub async fn run(
        self,
        plan: &Plan,
        receiver: &mut ReceiverProcess,
    ) -> Result<Vec<Measurement>> {
        match self {
            Self::Throughput => throughput::run(plan, receiver).await,
            Self::Steady => steady::run(plan, receiver).await,
            Self::Publish => publish::run(plan, receiver).await,
            Self::Latency => latency::run(plan, receiver).await,
            Self::Backlog => backlog::run(plan, receiver).await,
            Self::Isolation => isolation::run(plan, receiver).await,
            Self::Sick => sick::run(plan, receiver).await,
            Self::HeldXmin => held_xmin::run(plan, receiver).await,
            Self::Retention => retention::run(plan, receiver).await,
            Self::Workers => workers::run(plan, receiver).await,
            Self::Idle => idle::run(plan).await,
            // The command runs these two itself.
            Self::All | Self::Receiver => Ok(Vec::new()),
        }
    }

    /// Checks the results of all runs.
    ///
    /// # Errors
    /// When a delivery arrived more than once although several workers ran and none failed.
    pub fn check(self, rows: &[Row]) -> Result<()> {
        let repeats: u64 = rows.iter().map(|row| row.cost.repeats).sum();
        if self == Self::Workers && repeats > 0 {
            anyhow::bail!(
                "{repeats} deliveries arrived more than once although no worker failed: several \
                 workers had leased them"
            );
        }
        Ok(())
    }
}
