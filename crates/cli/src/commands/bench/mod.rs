//! `postrider bench`: what this machine makes of Postrider, beside the bare HTTP clients.

mod backlog;
mod environment;
mod figures;
mod held_xmin;
mod idle;
mod isolation;
mod latency;
mod load;
mod machine;
mod options;
mod processes;
mod progress;
mod publish;
mod received;
mod receiver;
mod report;
mod retention;
mod scrape;
mod steady;
mod throughput;
mod workers;

use crate::cli::Globals;
use crate::failure::{Misuse, Result, Silent, sentence};
use crate::output::notice;
use clap::{Args, ValueEnum};
use environment::Stopped;
use options::{Options, Stage};
use postrider_store::Backend;
use processes::ReceiverProcess;
use report::Row;
use serde::Serialize;

/// Measure this machine: deliveries a second, beside bare HTTP clients.
///
/// Starts a receiver process of its own and worker processes in the default configuration, on
/// a database made for it and dropped at the end: a temporary SQLite file, or with --database
/// postgres://… a new database on that server (its role must be allowed to create one). What
/// is compared is measured in turn in the same run; every delivery is checked to have arrived.
/// docs/benchmarks.md says what each scenario does and which options it heeds.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider bench
  postrider bench all --quick
  postrider bench --database postgres://postgres@localhost/postgres --runs 5
  postrider bench throughput --events 100000 --payload 4096 --hooks 100 --fan-out 10 --json")]
pub struct Bench {
    /// What to measure
    #[arg(value_enum, default_value_t = Scenario::Throughput)]
    scenario: Scenario,
    #[command(flatten)]
    options: Options,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Draining a backlog, to one hook and to ten, beside bare HTTP clients
    Throughput,
    /// Producers that insert while workers deliver
    Steady,
    /// Events published one by one through the API, and delivered meanwhile
    Publish,
    /// From the commit, and from a request to the API, to the receiver, at 50 events a second
    Latency,
    /// A million deliveries that wait: whether the last go out as fast as the first
    Backlog,
    /// Healthy hooks beside some that hang, refuse or fail
    Isolation,
    /// A transaction left open for ten minutes under load (PostgreSQL)
    HeldXmin,
    /// A day of history that goes under load, beside a long reader (PostgreSQL)
    Retention,
    /// 1, 2 and 4 worker processes on one database (PostgreSQL)
    Workers,
    /// A worker with nothing to do
    Idle,
    /// Each of the above, one after the other
    All,
    /// The receiver process of the others
    #[value(hide = true)]
    Receiver,
}

/// What `all` prints as JSON.
#[derive(Serialize)]
struct Document {
    version: &'static str,
    machine: String,
    database: String,
    payload: u32,
    rows: Vec<Row>,
    failed: Vec<Failed>,
}

/// A scenario that could not be measured.
#[derive(Serialize)]
struct Failed {
    scenario: String,
    error: String,
}

impl Bench {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        if self.scenario == Scenario::Receiver {
            return receiver::run().await;
        }
        // Not what is configured: a benchmark must never touch a database in use by accident.
        let url = globals.database.as_deref().unwrap_or("sqlite://bench");
        let stage = Stage::new(url, &self.options)?;
        let database = postrider_store::describe_server(url).await?;
        let head = format!(
            "Postrider {} on {database}; {}; payloads of {} bytes, runs: {}.",
            env!("CARGO_PKG_VERSION"),
            machine::describe(),
            self.options.payload(),
            self.options.runs()
        );
        match globals.json {
            true => notice(head),
            false => globals.output().text(head)?,
        }
        match self.scenario {
            Scenario::All => self.all(globals, &stage, &database).await,
            scenario => {
                let rows = self.measure(scenario, &stage, &database).await?;
                print(globals, &rows)?;
                scenario.judge(&rows)
            }
        }
    }

    /// All runs of one scenario.
    async fn measure(&self, scenario: Scenario, stage: &Stage, database: &str) -> Result<Vec<Row>> {
        if let Some(reason) = scenario.refusal(stage.backend) {
            return Err(Misuse::new(reason));
        }
        let mut process = ReceiverProcess::start().await?;
        let receiver = &mut process;
        let mut runs = Vec::new();
        for run in 1..=self.options.runs() {
            notice(format_args!("Run {run} of {}", self.options.runs()));
            runs.push(match scenario {
                Scenario::Throughput => throughput::run(stage, receiver).await?,
                Scenario::Steady => steady::run(stage, receiver).await?,
                Scenario::Publish => publish::run(stage, receiver).await?,
                Scenario::Latency => latency::run(stage, receiver).await?,
                Scenario::Backlog => backlog::run(stage, receiver).await?,
                Scenario::Isolation => isolation::run(stage, receiver).await?,
                Scenario::HeldXmin => held_xmin::run(stage, receiver).await?,
                Scenario::Retention => retention::run(stage, receiver).await?,
                Scenario::Workers => workers::run(stage, receiver).await?,
                Scenario::Idle => idle::run(stage).await?,
                Scenario::All | Scenario::Receiver => Vec::new(),
            });
        }
        Ok(report::rows(&scenario.name(), database, runs))
    }

    /// Every scenario that the database allows; one that fails does not keep the others.
    async fn all(&self, globals: &Globals, stage: &Stage, database: &str) -> Result<()> {
        let mut document = Document {
            version: env!("CARGO_PKG_VERSION"),
            machine: machine::describe(),
            database: database.to_owned(),
            payload: self.options.payload(),
            rows: Vec::new(),
            failed: Vec::new(),
        };
        for scenario in Scenario::EACH {
            if let Some(reason) = scenario.refusal(stage.backend) {
                notice(format_args!("Without {}: {reason}", scenario.name()));
                continue;
            }
            notice(format_args!("{}:", scenario.name()));
            let measured = async {
                let rows = self.measure(scenario, stage, database).await?;
                if !globals.json {
                    globals
                        .output()
                        .text(format_args!("\n{}", scenario.name()))?;
                    print(globals, &rows)?;
                }
                let judged = scenario.judge(&rows);
                document.rows.extend(rows);
                judged
            };
            if let Err(error) = measured.await {
                if error.is::<Stopped>() {
                    return Err(error);
                }
                notice(format_args!("{}: {}", scenario.name(), sentence(&error)));
                document.failed.push(Failed {
                    scenario: scenario.name(),
                    error: sentence(&error),
                });
            }
        }
        if globals.json {
            globals.output().lines(std::slice::from_ref(&document))?;
        }
        match document.failed.is_empty() {
            true => Ok(()),
            false => Err(Silent.into()),
        }
    }
}

impl Scenario {
    /// What `all` measures, in this order.
    const EACH: [Self; 10] = [
        Self::Throughput,
        Self::Steady,
        Self::Publish,
        Self::Latency,
        Self::Backlog,
        Self::Isolation,
        Self::HeldXmin,
        Self::Retention,
        Self::Workers,
        Self::Idle,
    ];

    /// As it is given on the command line.
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Why it cannot be measured on such a database, if it cannot.
    fn refusal(self, backend: Backend) -> Option<&'static str> {
        match (self, backend) {
            (Self::Workers, Backend::Sqlite) => Some(
                "SQLite takes one worker process for each file: measure several with \
                 --database postgres://…",
            ),
            (Self::HeldXmin, Backend::Sqlite) => Some(
                "SQLite has no dead rows that an open transaction could hold up: measure it with \
                 --database postgres://…",
            ),
            (Self::Retention, Backend::Sqlite) => Some(
                "SQLite has no partitions that a reader could keep: measure it with \
                 --database postgres://…",
            ),
            _ => None,
        }
    }

    /// Whether what was measured is as it must be.
    fn judge(self, rows: &[Row]) -> Result<()> {
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

fn print(globals: &Globals, rows: &[Row]) -> Result<()> {
    if globals.json {
        globals.output().lines(rows)?;
    } else {
        globals.output().text(report::text(rows))?;
    }
    for remark in report::remarks(rows) {
        notice(remark);
    }
    Ok(())
}
