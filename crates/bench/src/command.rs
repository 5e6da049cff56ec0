//! The command: which scenarios run, how often, and what is printed.

use crate::bench_database::describe_server;
use crate::environment::Stopped;
use crate::error::{Result, Unusable};
use crate::machine;
use crate::options::{Options, Plan};
use crate::output::{self, notice};
use crate::processes::ReceiverProcess;
use crate::receiver;
use crate::report::{self, Row};
use crate::scenario::Scenario;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Measure deliveries per second on this machine, beside bare HTTP clients.
///
/// Starts a receiver process and worker processes in the default configuration. The database is
/// created for the benchmark and dropped at the end: a temporary SQLite file, or with --database
/// postgres://… a new database on that server (its role must be allowed to create one). Figures
/// that are compared are measured one after the other in the same run, and every delivery is
/// checked to have arrived. docs/benchmarks.md describes each scenario and its options.
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

/// What the program that contains the benchmark provides.
#[derive(Clone, Debug)]
pub struct Host {
    /// The executable to measure: the one with the commands `serve` and `bench`.
    pub program: PathBuf,
    /// URL of a database; on its server the benchmark creates databases of its own. A temporary
    /// SQLite file is used if `None`.
    pub database: Option<String>,
    /// Print results as JSON instead of tables.
    pub json: bool,
    /// The text of an error as the program prints it.
    pub describe: fn(&anyhow::Error) -> String,
}

/// How a benchmark ended that was not stopped by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Every scenario was measured.
    Complete,
    /// Some scenarios of `all` failed; their errors have been printed.
    Partial,
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
    /// Measures and prints the results.
    ///
    /// # Errors
    /// [`Unusable`] for options that cannot be used; any other error for a measurement that failed.
    pub async fn run(self, host: &Host) -> Result<Completion> {
        if self.scenario == Scenario::Receiver {
            receiver::run().await?;
            return Ok(Completion::Complete);
        }
        // Never the configured database: a benchmark must not load a database in use by accident.
        let url = host.database.as_deref().unwrap_or("sqlite://bench");
        let plan = Plan::new(url, &host.program, &self.options)?;
        let database = describe_server(url).await?;
        let head = format!(
            "Postrider {} on {database}; {}; payloads of {} bytes, runs: {}.",
            env!("CARGO_PKG_VERSION"),
            machine::describe(),
            self.options.payload(),
            self.options.runs()
        );
        match host.json {
            true => notice(head),
            false => output::text(head)?,
        }
        match self.scenario {
            Scenario::All => self.all(host, &plan, &database).await,
            scenario => {
                let rows = self.measure(scenario, &plan, &database).await?;
                print(host, &rows)?;
                scenario.check(&rows)?;
                Ok(Completion::Complete)
            }
        }
    }

    /// All runs of one scenario.
    async fn measure(&self, scenario: Scenario, plan: &Plan, database: &str) -> Result<Vec<Row>> {
        if let Some(reason) = scenario.unsupported(plan.backend) {
            return Err(Unusable::new(reason));
        }
        let mut receiver = ReceiverProcess::start(&plan.program).await?;
        let mut runs = Vec::new();
        for run in 1..=self.options.runs() {
            notice(format_args!("Run {run} of {}", self.options.runs()));
            runs.push(scenario.run(plan, &mut receiver).await?);
        }
        Ok(report::rows(&scenario.name(), database, runs))
    }

    /// Every scenario that the database supports. The others still run after one has failed.
    async fn all(&self, host: &Host, plan: &Plan, database: &str) -> Result<Completion> {
        let mut document = Document {
            version: env!("CARGO_PKG_VERSION"),
            machine: machine::describe(),
            database: database.to_owned(),
            payload: self.options.payload(),
            rows: Vec::new(),
            failed: Vec::new(),
        };
        for scenario in Scenario::EACH {
            if let Some(reason) = scenario.unsupported(plan.backend) {
                notice(format_args!("Skipped {}: {reason}", scenario.name()));
                continue;
            }
            notice(format_args!("{}:", scenario.name()));
            let measured = async {
                let rows = self.measure(scenario, plan, database).await?;
                if !host.json {
                    output::text(format_args!("\n{}", scenario.name()))?;
                    print(host, &rows)?;
                }
                let checked = scenario.check(&rows);
                document.rows.extend(rows);
                checked
            };
            if let Err(error) = measured.await {
                if error.is::<Stopped>() {
                    return Err(error);
                }
                let text = (host.describe)(&error);
                notice(format_args!("{}: {text}", scenario.name()));
                document.failed.push(Failed {
                    scenario: scenario.name(),
                    error: text,
                });
            }
        }
        if host.json {
            output::json(std::slice::from_ref(&document))?;
        }
        Ok(match document.failed.is_empty() {
            true => Completion::Complete,
            false => Completion::Partial,
        })
    }
}

fn print(host: &Host, rows: &[Row]) -> Result<()> {
    match host.json {
        true => output::json(rows)?,
        false => output::text(report::text(rows))?,
    }
    for remark in report::remarks(rows) {
        notice(remark);
    }
    Ok(())
}
