//! What one measurement says: its figures, and what they cost.

use super::machine::Cpu;
use super::processes::WorkerProcess;
use serde::Serialize;

/// One figure of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured; different for every figure of a scenario.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// The name of the figure that it is divided by.
    pub beside: Option<String>,
}

impl Figure {
    /// A figure.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            beside: None,
        }
    }

    /// The same, compared with the figure of that name.
    #[must_use]
    pub fn beside(mut self, name: impl Into<String>) -> Self {
        self.beside = Some(name.into());
        self
    }
}

/// What a measurement cost, and how calm the machine was meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Processor seconds of the whole machine for 10,000 deliveries; `None` without any.
    pub cpu_per_10k: Option<f64>,
    /// Processor seconds of the worker processes for 10,000 deliveries.
    pub worker_cpu_per_10k: Option<f64>,
    /// The most memory a worker process held, in bytes.
    pub peak_memory: Option<u64>,
    /// Deliveries that arrived more than once.
    pub repeats: u64,
    /// The share of processor time that other machines took, from 0 to 1.
    pub steal: f64,
}

/// What one measurement of one run says.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The figures.
    pub figures: Vec<Figure>,
    /// What they cost together.
    pub cost: Cost,
}

/// Watches what a measurement costs, from now until it is stopped.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    machine: Cpu,
    workers: f64,
}

impl Meter {
    /// Begins; workers that are started later are watched from their start.
    pub fn start(workers: &[WorkerProcess]) -> Self {
        Self {
            machine: Cpu::now(),
            workers: cpu_of(workers),
        }
    }

    /// Ends, after so many deliveries.
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

/// The value below which `percent` of the sorted values lie; 0 when there are none.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0.0)
}

/// The middle of the values; 0 when there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// How many things of which the first came at `from` and the last at `to` came in a second.
pub fn rate(count: u64, from: f64, to: f64) -> f64 {
    count.saturating_sub(1) as f64 / (to - from).max(SHORTEST)
}

/// Two arrivals in the same microsecond are not an infinite rate.
const SHORTEST: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 50), 100.0);
        assert_eq!(percentile(&values, 99), 198.0);
        assert_eq!(percentile(&values[..1], 99), 1.0);
        assert_eq!(percentile(&[], 99), 0.0);
    }

    #[test]
    fn a_rate_counts_the_spaces_between() {
        assert_eq!(rate(11, 1.0, 3.0), 5.0);
        assert_eq!(rate(1, 1.0, 1.0), 0.0);
        assert!(rate(2, 1.0, 1.0).is_finite());
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between() {
        assert_eq!(median(vec![4.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
