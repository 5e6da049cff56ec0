//! The options of the command and the defaults of each scenario.

use crate::error::{Result, Unusable};
use clap::Args;
use postrider_core::NewEvent;
use postrider_store::Backend;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest a measurement may take in addition to `--seconds`.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The options of the command; `docs/benchmarks.md` says which scenario uses which.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Deliveries in one run; an event to ten hooks makes ten [default: 100000; backlog 1000000;
    /// isolation 100000 due to the hanging hook; retention 200000 on the pruned day]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(20..=100_000_000))]
    events: Option<u64>,
    /// Duration of one run in seconds [default: latency, idle 10; steady 20; each part of
    /// retention 20; isolation 30; held-xmin 600]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Size of each payload in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1_024,
          value_parser = clap::value_parser!(u32).range(16..=524_288))]
    payload: u32,
    /// Number of registered hooks [default: the value of --fan-out, or 1; isolation 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    hooks: Option<u32>,
    /// Number of hooks that receive each event [default: all of them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    fan_out: Option<u32>,
    /// Most requests in flight in each worker process (worker.concurrency) [default: the
    /// worker's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    concurrency: Option<u32>,
    /// Events per second [default: latency 50; isolation 200; retention 5000; steady as fast as
    /// they are delivered; held-xmin 80 % of the peak]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Number of runs [default: 3; 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// Run everything on a small scale, to see that it works; the figures mean nothing
    #[arg(long)]
    quick: bool,
}

/// The checked options of one benchmark.
#[derive(Clone, Debug)]
pub struct Plan {
    /// URL of the database on whose server the benchmark creates its own.
    pub url: String,
    /// The kind of that database.
    pub backend: Backend,
    /// The executable to measure.
    pub program: PathBuf,
    /// Most requests in flight in each worker process; the worker's default if `None`.
    pub concurrency: Option<u32>,
    /// Events per second; the scenario's default if `None`.
    pub rate: Option<u32>,
    options: Options,
}

/// The hooks of a measurement and the events they receive.
///
/// Hooks form groups of `fan_out` hooks, and each group has an event type of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Number of hooks.
    pub hooks: u32,
    /// Number of hooks that receive each event.
    pub fan_out: u32,
    /// Size of each payload in bytes.
    pub payload: u32,
}

impl Options {
    /// Number of runs.
    pub fn runs(&self) -> u32 {
        self.runs.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// Size of each payload in bytes.
    pub fn payload(&self) -> u32 {
        self.payload
    }
}

impl Plan {
    /// Checks the options of a benchmark of `program` beside the database at `url`.
    ///
    /// # Errors
    /// [`Unusable`] when the URL names no database or the options contradict each other.
    pub fn new(url: &str, program: &Path, options: &Options) -> Result<Self> {
        let plan = Self {
            url: url.to_owned(),
            backend: Backend::of(url).map_err(|error| Unusable::new(error.to_string()))?,
            program: program.to_owned(),
            concurrency: options.concurrency,
            rate: options.rate,
            options: options.clone(),
        };
        plan.shape()?;
        Ok(plan)
    }

    /// Deliveries in one run: `--events`, or `default`.
    pub fn events(&self, default: u64) -> u64 {
        self.options.events.unwrap_or(self.small(default, 300))
    }

    /// Duration of one run in seconds: `--seconds`, or `default`.
    pub fn seconds(&self, default: u64) -> u64 {
        self.options.seconds.unwrap_or(self.small(default, 1))
    }

    /// Number of hooks: `--hooks`, or `default`, or `quick` with `--quick`.
    pub fn hooks(&self, default: u32, quick: u32) -> u32 {
        self.options.hooks.unwrap_or(self.small(default, quick))
    }

    /// Whether `--hooks` or `--fan-out` is given.
    pub fn has_shape(&self) -> bool {
        self.options.hooks.is_some() || self.options.fan_out.is_some()
    }

    /// The shape of `--hooks` and `--fan-out`; one hook if neither is given.
    ///
    /// # Errors
    /// [`Unusable`] when the hooks cannot be divided into groups of the fan-out.
    pub fn shape(&self) -> Result<Shape> {
        let Options { hooks, fan_out, .. } = self.options;
        let hooks = hooks.or(fan_out).unwrap_or(1);
        let shape = self.shape_of(hooks, fan_out.unwrap_or(hooks));
        if !shape.hooks.is_multiple_of(shape.fan_out) {
            return Err(Unusable::new(format!(
                "{hooks} hooks cannot be divided into groups of {}: make --hooks a multiple of \
                 --fan-out",
                shape.fan_out
            )));
        }
        Ok(shape)
    }

    /// A shape of `hooks` hooks, `fan_out` of which receive each event.
    pub fn shape_of(&self, hooks: u32, fan_out: u32) -> Shape {
        Shape {
            hooks,
            fan_out,
            payload: self.options.payload,
        }
    }

    /// A measurement that takes longer than this has failed.
    pub fn time_limit(&self) -> Duration {
        LONGEST + Duration::from_secs(self.options.seconds.unwrap_or_default())
    }

    /// One of two, the second with `--quick`.
    pub fn small<T>(&self, default: T, quick: T) -> T {
        match self.options.quick {
            true => quick,
            false => default,
        }
    }
}

impl Shape {
    /// Number of events that make at least `deliveries` deliveries.
    pub fn events_of(self, deliveries: u64) -> u64 {
        deliveries.div_ceil(u64::from(self.fan_out))
    }

    /// Number of groups of hooks.
    pub fn groups(self) -> u32 {
        self.hooks / self.fan_out
    }

    /// One event for each group.
    pub fn events(self) -> Result<Vec<NewEvent>> {
        let payload = payload(self.payload);
        (0..self.groups())
            .map(|group| Ok(NewEvent::from_json(event_type(group), payload.clone())?))
            .collect()
    }

    /// The hooks in words, as in `10 hooks`.
    pub fn name(self) -> String {
        match (self.hooks, self.fan_out) {
            (1, _) => "one hook".into(),
            (hooks, fan_out) if hooks == fan_out => format!("{hooks} hooks"),
            (hooks, fan_out) => format!("{hooks} hooks, each event to {fan_out}"),
        }
    }
}

/// The event type of a group of hooks.
pub fn event_type(group: u32) -> String {
    format!("bench.{group}")
}

/// A JSON object of `bytes` bytes, or as few as an object takes.
pub fn payload(bytes: u32) -> String {
    let frame = r#"{"fill":""}"#.len();
    format!(
        r#"{{"fill":"{}"}}"#,
        "x".repeat((bytes as usize).saturating_sub(frame))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn plan(arguments: &[&str]) -> Result<Plan> {
        let line = Line::try_parse_from([&["bench"], arguments].concat())?;
        Plan::new("sqlite://bench", Path::new("postrider"), &line.options)
    }

    #[test]
    fn hooks_form_groups_of_the_fan_out() {
        let table: [(&[&str], u32, u32); 4] = [
            (&[], 1, 1),
            (&["--hooks", "10"], 10, 1),
            (&["--fan-out", "10"], 10, 1),
            (&["--hooks", "10", "--fan-out", "2"], 10, 5),
        ];
        for (arguments, hooks, groups) in table {
            let shape = plan(arguments).unwrap().shape().unwrap();
            assert_eq!(
                (shape.hooks, shape.groups()),
                (hooks, groups),
                "{arguments:?}"
            );
            assert_eq!(shape.events().unwrap().len(), groups as usize);
        }
        let odd = plan(&["--hooks", "10", "--fan-out", "3"]).unwrap_err();
        assert!(odd.to_string().contains("a multiple of --fan-out"), "{odd}");
        assert!(plan(&["--events", "1"]).is_err());
    }

    #[test]
    fn quick_is_small_unless_an_option_is_given() {
        assert_eq!(plan(&[]).unwrap().events(7_000), 7_000);
        assert_eq!(plan(&["--quick"]).unwrap().events(7_000), 300);
        let asked = plan(&["--quick", "--events", "50"]).unwrap();
        assert_eq!((asked.events(7_000), asked.seconds(9)), (50, 1));
    }

    #[test]
    fn a_payload_has_the_requested_size() {
        assert_eq!(payload(1_024).len(), 1_024);
        assert_eq!(payload(1), r#"{"fill":""}"#);
    }
}
