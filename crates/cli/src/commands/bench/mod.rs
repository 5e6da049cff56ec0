//! `postrider bench`: what this machine makes of Postrider, beside the bare HTTP clients.

mod lab;
mod machine;
mod receiver;
mod report;
mod throughput;

use crate::cli::Globals;
use crate::failure::Result;
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
    /// Events of one run
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    events: u64,
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
    /// Draining a backlog, to one hook and to ten
    Throughput,
    /// The receiver process of the others
    #[value(hide = true)]
    Receiver,
}

impl Bench {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        match self.scenario {
            Scenario::Receiver => receiver::run().await,
            Scenario::Throughput => self.throughput(globals).await,
        }
    }

    async fn throughput(self, globals: &Globals) -> Result<()> {
        // Not what is configured: a benchmark must never touch a database in use by accident.
        let url = globals.database.as_deref().unwrap_or("sqlite://bench");
        let name = lab::name_of(url)?;
        notice(format_args!(
            "Postrider {} on {name}, {}; {} events of {} bytes, {} runs.",
            env!("CARGO_PKG_VERSION"),
            machine::describe(),
            self.events,
            self.payload,
            self.runs
        ));
        let mut receiver = ReceiverProcess::start().await?;
        let (mut hyper, mut reqwest) = (Vec::new(), Vec::new());
        let (mut one, mut ten) = (Vec::new(), Vec::new());
        let bytes = self.payload;
        for run in 1..=self.runs {
            notice(format_args!("Run {run} of {}", self.runs));
            hyper.push(throughput::bare(Bare::Hyper, &mut receiver, self.events, bytes).await?);
            one.push(throughput::drain(url, &mut receiver, self.events, 1, bytes).await?);
            reqwest.push(throughput::bare(Bare::Reqwest, &mut receiver, self.events, bytes).await?);
            ten.push(
                throughput::drain(url, &mut receiver, self.events.div_ceil(10), 10, bytes).await?,
            );
        }
        let hyper = Row::of("bare hyper-util loop", hyper);
        let rows = [
            Row::of("bare reqwest loop", reqwest).beside(&hyper),
            Row::of(format!("{name}, one hook"), one).beside(&hyper),
            Row::of(format!("{name}, ten hooks"), ten).beside(&hyper),
        ];
        let rows = [vec![hyper.clone()], rows.to_vec()].concat();
        if globals.json {
            return globals.output().lines(&rows);
        }
        globals.output().text(report::rows(&rows))?;
        if rows.iter().any(|row| row.quiet_runs == 0) {
            notice(
                "No quiet run: other machines took more than 5 % of the processors. Repeat it when the host is calmer.",
            );
        }
        Ok(())
    }
}
