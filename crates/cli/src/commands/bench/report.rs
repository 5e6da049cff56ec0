//! What was measured, as a table and as JSON.

use super::machine::Cpu;
use crate::output::table;
use serde::Serialize;

/// A run during which other machines took more than this share of the processors is noisy.
const QUIET_STEAL: f64 = 0.05;

/// One run of one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Deliveries (or requests) a second, at the receiver.
    pub rate: f64,
    /// Processor seconds of the whole machine for 10,000 of them.
    pub cpu_per_10k: f64,
    /// Processor seconds of the worker processes for 10,000 of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_cpu_per_10k: Option<f64>,
    /// The most memory a worker process held, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// Deliveries that arrived more than once.
    pub repeats: u64,
    /// The share of processor time that other machines took.
    pub steal: f64,
}

impl Measured {
    /// A run of `count` deliveries.
    pub fn new(rate: f64, count: u64, cpu: Cpu) -> Self {
        Self {
            rate,
            cpu_per_10k: cpu.busy * 1e4 / count.max(1) as f64,
            worker_cpu_per_10k: None,
            peak_memory: None,
            repeats: 0,
            steal: cpu.steal(),
        }
    }
}

/// One figure of a scenario that measures more than a rate.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

impl Finding {
    /// A figure.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
        }
    }
}

/// The median of each figure over all runs, with the least and the most.
pub fn findings(runs: &[Vec<Finding>]) -> Vec<Summary> {
    let Some(first) = runs.first() else {
        return Vec::new();
    };
    let summary = |(place, finding): (usize, &Finding)| {
        let values: Vec<f64> = runs
            .iter()
            .filter_map(|run| Some(run.get(place)?.value))
            .collect();
        Summary {
            name: finding.name.clone(),
            unit: finding.unit,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            median: median(values),
        }
    };
    first.iter().enumerate().map(summary).collect()
}

/// One figure over all runs.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// What was measured.
    pub name: String,
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// Of what.
    pub unit: &'static str,
}

/// The figures for people.
pub fn summaries(rows: &[Summary]) -> String {
    let figure = |value: f64| match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    };
    table(
        ["MEASURED", "MEDIAN", "LEAST–MOST", "UNIT"],
        rows.iter().map(|row| {
            [
                row.name.clone(),
                figure(row.median),
                format!("{}–{}", figure(row.min), figure(row.max)),
                row.unit.to_owned(),
            ]
        }),
    )
}

/// The value below which `percent` of the sorted values lie; 0 when there are none.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0.0)
}

/// All runs of one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The median rate of the quiet runs, or of all when none was quiet.
    pub rate: f64,
    /// The slowest run.
    pub min: f64,
    /// The fastest run.
    pub max: f64,
    /// How many runs were quiet.
    pub quiet_runs: usize,
    /// The rate divided by that of the bare hyper-util loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_bare: Option<f64>,
    /// Every run.
    pub runs: Vec<Measured>,
}

impl Row {
    /// Sums up the runs.
    pub fn of(name: impl Into<String>, runs: Vec<Measured>) -> Self {
        let rates = |quiet: bool| {
            let chosen = runs.iter().filter(|run| !quiet || run.steal <= QUIET_STEAL);
            chosen.map(|run| run.rate).collect::<Vec<_>>()
        };
        let quiet = rates(true);
        let all = rates(false);
        Self {
            name: name.into(),
            rate: median(if quiet.is_empty() {
                all.clone()
            } else {
                quiet.clone()
            }),
            min: all.iter().copied().fold(f64::INFINITY, f64::min),
            max: all.iter().copied().fold(0.0, f64::max),
            quiet_runs: quiet.len(),
            to_bare: None,
            runs,
        }
    }

    /// The same beside the bare loop of the same session.
    #[must_use]
    pub fn beside(mut self, bare: &Self) -> Self {
        self.to_bare = Some(self.rate / bare.rate);
        self
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The rows for people.
pub fn rows(rows: &[Row]) -> String {
    table(
        [
            "MEASURED",
            "PER SECOND",
            "LEAST–MOST",
            "÷ BARE",
            "CPU S/10K",
            "WORKER",
            "MEMORY",
            "STEAL",
            "QUIET",
        ],
        rows.iter().map(|row| {
            let of = |f: &dyn Fn(&Measured) -> Option<f64>| {
                let values: Vec<_> = row.runs.iter().filter_map(f).collect();
                (!values.is_empty()).then(|| median(values))
            };
            let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
            [
                row.name.clone(),
                format!("{:.0}", row.rate),
                format!("{:.0}–{:.0}", row.min, row.max),
                or_dash(row.to_bare.map(|ratio| format!("{ratio:.2}"))),
                or_dash(of(&|run| Some(run.cpu_per_10k)).map(|s| format!("{s:.2}"))),
                or_dash(of(&|run| run.worker_cpu_per_10k).map(|s| format!("{s:.2}"))),
                or_dash(
                    of(&|run| run.peak_memory.map(|bytes| bytes as f64))
                        .map(|bytes| format!("{:.0} MiB", bytes / 1_048_576.0)),
                ),
                or_dash(of(&|run| Some(run.steal)).map(|share| format!("{:.0} %", share * 100.0))),
                format!("{}/{}", row.quiet_runs, row.runs.len()),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rate: f64, steal: f64) -> Measured {
        let cpu = Cpu {
            busy: 1.0,
            stolen: steal,
            total: 1.0,
        };
        Measured::new(rate, 10_000, cpu)
    }

    #[test]
    fn the_median_is_of_the_quiet_runs() {
        let row = Row::of(
            "a",
            vec![run(10.0, 0.0), run(30.0, 0.01), run(1_000.0, 0.3)],
        );
        assert_eq!((row.rate, row.quiet_runs), (20.0, 2));
        assert_eq!((row.min, row.max), (10.0, 1_000.0));
        assert_eq!(Row::of("a", vec![run(7.0, 0.5)]).rate, 7.0);
    }
}
