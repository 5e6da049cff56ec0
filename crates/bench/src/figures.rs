//! The result of one measurement: its figures and their cost.

use crate::machine::Cpu;
use crate::processes::WorkerProcess;
use serde::Serialize;

/// One figure of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured; unique among the figures of a scenario.
    pub name: String,
    /// The value, in `unit`.
    pub value: f64,
    /// The unit, such as `/s` or `ms`.
    pub unit: &'static str,
    /// The name of the figure to which its ratio is reported.
    pub beside: Option<String>,
}

impl Figure {
    /// A figure without a ratio.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            beside: None,
        }
    }

    /// The same figure, with its ratio to the figure `name`.
    #[must_use]
    pub fn beside(mut self, name: impl Into<String>) -> Self {
        self.beside = Some(name.into());
        self
    }
}

/// What a measurement cost, and how quiet the machine was during it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Processor seconds of the whole machine per 10,000 deliveries; `None` without deliveries.
    pub cpu_per_10k: Option<f64>,
    /// Processor seconds of the worker processes per 10,000 deliveries; `None` without workers.
    pub worker_cpu_per_10k: Option<f64>,
    /// The most memory held by one worker process, in bytes; `None` without workers.
    pub peak_memory: Option<u64>,
    /// Number of repeated arrivals.
    pub repeats: u64,
    /// Share of processor time taken by other machines on the host, from 0 to 1.
    pub steal: f64,
}

/// One measurement of one run.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Its figures.
    pub figures: Vec<Figure>,
    /// Their common cost.
    pub cost: Cost,
}

/// Measures the cost between its start and its stop.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    machine: Cpu,
    workers: f64,
}

impl Meter {
    /// Starts to measure. Workers started later are measured from their start.
    pub fn start(workers: &[WorkerProcess]) -> Self {
        Self {
            machine: Cpu::now(),
            workers: cpu_of(workers),
        }
    }

    /// The cost since the start, shared among `deliveries` deliveries.
    pub fn stop(self, workers: &[WorkerProcess], deliveries: u64) -> Cost {
        let cpu = Cpu::now().since(self.machine);
        let per_10k = |seconds: f64| (deliveries > 0).then(|| seconds * 1e4 / deliveries as f64);
        Cost {
            cpu_per_10k: per_10k(cpu.busy),
            worker_cpu_per_10k: match workers.is_empty() {
                true => None,
                false => per_10k(cpu_of(workers) - self.workers),
            },
            peak_memory: workers.iter().map(|worker| worker.cost().1).max(),
            repeats: 0,
            steal: cpu.steal(),
        }
    }
}

fn cpu_of(workers: &[WorkerProcess]) -> f64 {
    workers.iter().map(|worker| worker.cost().0).sum()
}

/// The smallest of the sorted values that at least `percent` of them do not exceed; 0 of none.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(0.0)
}

/// The median; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Rate per second of `count` things, the first of which came at `from` and the last at `to`.
pub fn rate(count: u64, from: f64, to: f64) -> f64 {
    count.saturating_sub(1) as f64 / (to - from).max(SHORTEST)
}

/// The shortest time that a rate is taken over, in seconds: arrivals at the same moment have no
/// infinite rate.
const SHORTEST: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 50), 100.0);
        assert_eq!(percentile(&values, 99), 198.0);
        assert_eq!(percentile(&values[..1], 99), 1.0);
        assert_eq!(percentile(&[], 99), 0.0);
    }

    #[test]
    fn a_rate_counts_the_intervals() {
        assert_eq!(rate(11, 1.0, 3.0), 5.0);
        assert_eq!(rate(1, 1.0, 1.0), 0.0);
        assert!(rate(2, 1.0, 1.0).is_finite());
    }

    #[test]
    fn the_median_of_an_even_number_of_values_is_their_mean() {
        assert_eq!(median(vec![4.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
