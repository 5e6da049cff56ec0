//! `postrider bench`: what this machine makes of Postrider, beside the bare HTTP clients.

mod backlog;
mod idle;
mod isolation;
mod lab;
mod latency;
mod machine;
mod publish;
mod receiver;
mod report;
mod throughput;

use crate::cli::Globals;
use crate::failure::{Misuse, Result};
use crate::output::notice;
use clap::{Args, ValueEnum};
use lab::ReceiverProcess;
use report::Row;
use throughput::Bare;

/// Measure this machine: deliveries a second, beside bare HTTP clients.
///
/// Starts a receiver process of its own and worker processes in the default configuration, on
/// a database made for it and dropped at the end: a temporary SQLite file, or with --database
/// postgres://… a new database on that server (its role must be allowed to create one). What
/// is compared is measured in turn in the same run; every delivery is checked to have arrived.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider bench
  postrider bench --database postgres://postgres@localhost/postgres --runs 5
  postrider bench throughput --events 100000 --payload 4096 --json")]
pub struct Bench {
    /// What to measure
    #[arg(value_enum, default_value_t = Scenario::Throughput)]
    scenario: Scenario,
    /// Events of one run [default: 100000; backlog 1000000]
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// How long one run takes [default: 10; isolation 30]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Bytes of one payload
    #[arg(long, value_name = "BYTES", default_value_t = 1_024)]
    payload: usize,
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: u32,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Draining a backlog, to one hook and to ten, beside bare HTTP clients
    Throughput,
    /// Events published one by one through the API, and delivered meanwhile
    Publish,
    /// From the commit, and from a request to the API, to the receiver, at 50 events a second
    Latency,
    /// A million deliveries that wait: whether the last go out as fast as the first
    Backlog,
    /// Nine healthy hooks beside one that never answers
    Isolation,
    /// 1, 2 and 4 worker processes on one database (PostgreSQL)
    Workers,
    /// A worker with nothing to do
    Idle,
    /// The receiver process of the others
    #[value(hide = true)]
    Receiver,
}

impl Bench {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        if self.scenario == Scenario::Receiver {
            return receiver::run().await;
        }
        // Not what is configured: a benchmark must never touch a database in use by accident.
        let url = globals.database.as_deref().unwrap_or("sqlite://bench");
        let name = lab::name_of(url)?;
        notice(format_args!(
            "Postrider {} on {name}, {}; payloads of {} bytes, {} runs.",
            env!("CARGO_PKG_VERSION"),
            machine::describe(),
            self.payload,
            self.runs
        ));
        match self.scenario {
            Scenario::Throughput => self.throughput(globals, url, name).await,
            Scenario::Workers => self.workers(globals, url, name).await,
            Scenario::Publish => {
                let events = self.events.unwrap_or(EVENTS);
                print(
                    globals,
                    &publish::rows(url, name, self.runs, events, self.payload).await?,
                )
            }
            _ => self.figures(globals, url).await,
        }
    }

    async fn throughput(self, globals: &Globals, url: &str, name: &str) -> Result<()> {
        let mut receiver = ReceiverProcess::start().await?;
        let receiver = &mut receiver;
        let (mut hyper, mut reqwest) = (Vec::new(), Vec::new());
        let (mut one, mut ten) = (Vec::new(), Vec::new());
        let (bytes, events) = (self.payload, self.events.unwrap_or(EVENTS));
        for run in 1..=self.runs {
            notice(format_args!("Run {run} of {}", self.runs));
            hyper.push(throughput::bare(Bare::Hyper, receiver, events, bytes).await?);
            one.push(throughput::drain(url, receiver, events, 1, bytes, 1).await?);
            reqwest.push(throughput::bare(Bare::Reqwest, receiver, events, bytes).await?);
            ten.push(throughput::drain(url, receiver, events.div_ceil(10), 10, bytes, 1).await?);
        }
        let hyper = Row::of("bare hyper-util loop", hyper);
        let rows = [
            hyper.clone(),
            Row::of("bare reqwest loop", reqwest).beside(&hyper),
            Row::of(format!("{name}, one hook"), one).beside(&hyper),
            Row::of(format!("{name}, ten hooks"), ten).beside(&hyper),
        ];
        print(globals, &rows)
    }

    async fn workers(self, globals: &Globals, url: &str, name: &str) -> Result<()> {
        if name != "postgres" {
            return Err(Misuse::new(
                "SQLite takes one worker process for each file: measure several with \
                 --database postgres://…",
            ));
        }
        let mut receiver = ReceiverProcess::start().await?;
        let events = self.events.unwrap_or(EVENTS);
        let mut runs = WORKERS.map(|_| Vec::new());
        for run in 1..=self.runs {
            notice(format_args!("Run {run} of {}", self.runs));
            for (workers, runs) in WORKERS.iter().zip(&mut runs) {
                let receiver = &mut receiver;
                let drain = throughput::drain(url, receiver, events, 1, self.payload, *workers);
                runs.push(drain.await?);
            }
        }
        let rows: Vec<_> = WORKERS
            .iter()
            .zip(runs)
            .map(|(workers, runs)| Row::of(format!("{workers} worker processes"), runs))
            .collect();
        print(globals, &rows)
    }

    async fn figures(self, globals: &Globals, url: &str) -> Result<()> {
        let mut receiver = ReceiverProcess::start().await?;
        let receiver = &mut receiver;
        let bytes = self.payload;
        let seconds = |usual| self.seconds.unwrap_or(usual).max(1);
        let mut runs = Vec::new();
        for run in 1..=self.runs {
            notice(format_args!("Run {run} of {}", self.runs));
            runs.push(match self.scenario {
                Scenario::Latency => latency::run(url, receiver, seconds(10), bytes).await?,
                Scenario::Backlog => {
                    let count = self.events.unwrap_or(BACKLOG).max(20);
                    backlog::run(url, receiver, count, bytes).await?
                }
                Scenario::Isolation => {
                    let seconds = seconds(30);
                    let sick = isolation::run(url, receiver, seconds, bytes, true).await?;
                    let alone = isolation::run(url, receiver, seconds, bytes, false).await?;
                    [sick, alone].concat()
                }
                _ => idle::run(url, seconds(10)).await?,
            });
        }
        let summaries = report::findings(&runs);
        match globals.json {
            true => globals.output().lines(&summaries),
            false => globals.output().text(report::summaries(&summaries)),
        }
    }
}

const EVENTS: u64 = 100_000;
const BACKLOG: u64 = 1_000_000;
const WORKERS: [usize; 3] = [1, 2, 4];

fn print(globals: &Globals, rows: &[Row]) -> Result<()> {
    if globals.json {
        return globals.output().lines(rows);
    }
    globals.output().text(report::rows(rows))?;
    if rows.iter().any(|row| row.quiet_runs == 0) {
        notice(
            "No run was quiet: other machines took more than 5 % of the processors. Repeat it \
             when the host is calmer.",
        );
    }
    Ok(())
}
