//! What can be set about a measurement, and what holds where nothing is set.

use crate::failure::{Misuse, Result};
use clap::Args;
use postrider_core::NewEvent;
use postrider_store::Backend;
use std::time::Duration;

/// The longest measurement, beside the time that is asked for.
const LONGEST: Duration = Duration::from_secs(3_600);

/// What can be set; which scenario makes use of what is in `docs/benchmarks.md`.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Deliveries of one run; an event to ten hooks makes ten [default: 100000; backlog
    /// 1000000; isolation 100000 that wait behind the hanging hook; retention
    /// 200000 of the day that goes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(20..=100_000_000))]
    events: Option<u64>,
    /// How long one run takes [default: latency, idle 10; steady 20; each part of retention 20;
    /// isolation 30; held-xmin 600]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Bytes of one payload
    #[arg(long, value_name = "BYTES", default_value_t = 1_024,
          value_parser = clap::value_parser!(u32).range(16..=524_288))]
    payload: u32,
    /// Hooks that are registered [default: as many as --fan-out, or 1; isolation 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    hooks: Option<u32>,
    /// Hooks that each event goes to [default: all of them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    fan_out: Option<u32>,
    /// Requests in flight at most, in each worker process (worker.concurrency) [default: the
    /// worker's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    concurrency: Option<u32>,
    /// Events a second [default: latency 50; isolation 200; retention 5000; steady as fast as
    /// they are delivered; held-xmin 80 % of the peak]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// How often everything is measured [default: 3; 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// Everything in small, to see that it works: the figures say nothing
    #[arg(long)]
    quick: bool,
}

/// What a scenario measures with.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The database beside which new ones are made.
    pub url: String,
    /// What that is.
    pub backend: Backend,
    /// Requests in flight at most, where that is not the default.
    pub concurrency: Option<u32>,
    /// Events a second, where that is said.
    pub rate: Option<u32>,
    options: Options,
}

/// The hooks of a measurement, and the events that go to them.
///
/// Hooks stand in groups of as many as each event goes to, and each group has an event type of
/// its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many hooks there are.
    pub hooks: u32,
    /// To how many of them each event goes.
    pub fan_out: u32,
    /// Bytes of a payload.
    pub payload: u32,
}

impl Options {
    /// How often everything is measured.
    pub fn runs(&self) -> u32 {
        self.runs.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// Bytes of a payload.
    pub fn payload(&self) -> u32 {
        self.payload
    }
}

impl Stage {
    /// What the options say of a measurement beside the database at `url`.
    pub fn new(url: &str, options: &Options) -> Result<Self> {
        let stage = Self {
            url: url.to_owned(),
            backend: Backend::of(url).map_err(|error| Misuse::new(error.to_string()))?,
            concurrency: options.concurrency,
            rate: options.rate,
            options: options.clone(),
        };
        stage.shape()?;
        Ok(stage)
    }

    /// How many deliveries one run has: `usual` unless something else is asked for.
    pub fn events(&self, usual: u64) -> u64 {
        self.options.events.unwrap_or(self.small(usual, 300))
    }

    /// How many seconds one run takes.
    pub fn seconds(&self, usual: u64) -> u64 {
        self.options.seconds.unwrap_or(self.small(usual, 1))
    }

    /// How many hooks there are, where one is not the usual number.
    pub fn hooks(&self, usual: u32, quick: u32) -> u32 {
        self.options.hooks.unwrap_or(self.small(usual, quick))
    }

    /// Whether hooks or fan-out are asked for.
    pub fn has_shape(&self) -> bool {
        self.options.hooks.is_some() || self.options.fan_out.is_some()
    }

    /// The hooks that are asked for; one if nothing is.
    ///
    /// # Errors
    /// When each event cannot go to as many hooks as is asked for.
    pub fn shape(&self) -> Result<Shape> {
        let Options { hooks, fan_out, .. } = self.options;
        let hooks = hooks.or(fan_out).unwrap_or(1);
        let shape = self.shape_of(hooks, fan_out.unwrap_or(hooks));
        if !shape.hooks.is_multiple_of(shape.fan_out) {
            return Err(Misuse::new(format!(
                "{hooks} hooks cannot be shared out so that each event goes to {}: make --hooks a \
                 multiple of --fan-out",
                shape.fan_out
            )));
        }
        Ok(shape)
    }

    /// So many hooks, of which each event goes to `fan_out`.
    pub fn shape_of(&self, hooks: u32, fan_out: u32) -> Shape {
        Shape {
            hooks,
            fan_out,
            payload: self.options.payload,
        }
    }

    /// A measurement that takes longer has failed.
    pub fn time_limit(&self) -> Duration {
        LONGEST + Duration::from_secs(self.options.seconds.unwrap_or_default())
    }

    fn small<T>(&self, usual: T, quick: T) -> T {
        match self.options.quick {
            true => quick,
            false => usual,
        }
    }
}

impl Shape {
    /// How many events make about so many deliveries.
    pub fn events_of(self, deliveries: u64) -> u64 {
        deliveries.div_ceil(u64::from(self.fan_out))
    }

    /// In how many groups the hooks stand.
    pub fn groups(self) -> u32 {
        self.hooks / self.fan_out
    }

    /// An event for each group.
    pub fn events(self) -> Result<Vec<NewEvent>> {
        let payload = payload(self.payload);
        (0..self.groups())
            .map(|group| Ok(NewEvent::from_json(event_type(group), payload.clone())?))
            .collect()
    }

    /// How many there are of what, as in `10 hooks`.
    pub fn name(self) -> String {
        match (self.hooks, self.fan_out) {
            (1, _) => "one hook".into(),
            (hooks, fan_out) if hooks == fan_out => format!("{hooks} hooks"),
            (hooks, fan_out) => format!("{hooks} hooks, each event to {fan_out}"),
        }
    }
}

/// The event type of a group.
pub fn event_type(group: u32) -> String {
    format!("bench.{group}")
}

/// A JSON object of about `bytes` bytes.
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

    fn stage(arguments: &[&str]) -> Result<Stage> {
        let line = Line::try_parse_from([&["bench"], arguments].concat())?;
        Stage::new("sqlite://bench", &line.options)
    }

    #[test]
    fn hooks_stand_in_groups() {
        let table: [(&[&str], u32, u32); 4] = [
            (&[], 1, 1),
            (&["--hooks", "10"], 10, 1),
            (&["--fan-out", "10"], 10, 1),
            (&["--hooks", "10", "--fan-out", "2"], 10, 5),
        ];
        for (arguments, hooks, groups) in table {
            let shape = stage(arguments).unwrap().shape().unwrap();
            assert_eq!(
                (shape.hooks, shape.groups()),
                (hooks, groups),
                "{arguments:?}"
            );
            assert_eq!(shape.events().unwrap().len(), groups as usize);
        }
        let odd = stage(&["--hooks", "10", "--fan-out", "3"]).unwrap_err();
        assert!(odd.to_string().contains("a multiple of --fan-out"), "{odd}");
        assert!(stage(&["--events", "1"]).is_err());
    }

    #[test]
    fn quick_is_small_unless_something_is_asked_for() {
        assert_eq!(stage(&[]).unwrap().events(7_000), 7_000);
        assert_eq!(stage(&["--quick"]).unwrap().events(7_000), 300);
        let asked = stage(&["--quick", "--events", "50"]).unwrap();
        assert_eq!((asked.events(7_000), asked.seconds(9)), (50, 1));
    }

    #[test]
    fn a_payload_has_the_bytes_that_are_asked_for() {
        assert_eq!(payload(1_024).len(), 1_024);
        assert_eq!(payload(1), r#"{"fill":""}"#);
    }
}
