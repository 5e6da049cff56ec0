//! The runs of a scenario, summarised as a table and as JSON.
//!
//! Medians are taken over the quiet runs, or over all when none was quiet; minimum and maximum over
//! all. A ratio is computed within each run, and its median is taken afterwards.

use crate::figures::{Cost, Measurement, median};
use crate::output::table;
use serde::Serialize;

/// A run is noisy when other machines on the host took more than this share of the processors.
const QUIET_STEAL: f64 = 0.05;

/// One figure over all runs.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the scenario.
    pub scenario: String,
    /// The database, its version and the settings that matter.
    pub database: String,
    /// What was measured.
    pub name: String,
    /// The unit of the values.
    pub unit: &'static str,
    /// The median of the quiet runs, or of all when none was quiet.
    pub median: f64,
    /// The minimum of all runs.
    pub min: f64,
    /// The maximum of all runs.
    pub max: f64,
    /// Number of quiet runs.
    pub quiet_runs: usize,
    /// The ratio to another figure of the same run.
    pub ratio: Option<Ratio>,
    /// Medians of the costs of the runs; the maximum of memory, the sum of repeats.
    #[serde(flatten)]
    pub cost: Cost,
    /// Every run, in order.
    pub runs: Vec<Measured>,
}

/// One figure of one run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// The value, in the unit of the row.
    pub value: f64,
    /// The cost of the run.
    #[serde(flatten)]
    pub cost: Cost,
}

/// The ratio of a figure to another one of the same run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The name of the other figure.
    pub to: String,
    /// The median of the runs in which both were quiet, or of all when there are none.
    pub median: f64,
    /// The minimum of all runs.
    pub min: f64,
    /// The maximum of all runs.
    pub max: f64,
}

/// Summarises the runs of a scenario: one row for each name, in order of first appearance.
pub fn rows(scenario: &str, database: &str, runs: Vec<Vec<Measurement>>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut compared: Vec<(usize, String)> = Vec::new();
    for measurement in runs.into_iter().flatten() {
        let cost = measurement.cost;
        for figure in measurement.figures {
            let measured = Measured {
                value: figure.value,
                cost,
            };
            match rows.iter_mut().find(|row| row.name == figure.name) {
                Some(row) => row.runs.push(measured),
                None => {
                    compared.extend(figure.beside.map(|other| (rows.len(), other)));
                    rows.push(Row {
                        scenario: scenario.into(),
                        database: database.into(),
                        name: figure.name,
                        unit: figure.unit,
                        median: 0.0,
                        min: 0.0,
                        max: 0.0,
                        quiet_runs: 0,
                        ratio: None,
                        cost,
                        runs: vec![measured],
                    });
                }
            }
        }
    }
    for row in &mut rows {
        row.summarise();
    }
    for (index, other) in compared {
        let base = rows.iter().find(|row| row.name == other);
        let ratio = base.and_then(|base| Ratio::of(&rows[index].runs, base));
        rows[index].ratio = ratio;
    }
    rows
}

impl Row {
    fn summarise(&mut self) {
        let values = self.runs.iter().map(|run| (run.value, run.is_quiet()));
        (self.median, self.min, self.max) = spread(values);
        self.quiet_runs = self.runs.iter().filter(|run| run.is_quiet()).count();
        let middle = |of: fn(&Cost) -> Option<f64>| {
            let values = self
                .runs
                .iter()
                .filter_map(|run| Some((of(&run.cost)?, run.is_quiet())));
            let values: Vec<_> = values.collect();
            (!values.is_empty()).then(|| spread(values.into_iter()).0)
        };
        self.cost = Cost {
            cpu_per_10k: middle(|cost| cost.cpu_per_10k),
            worker_cpu_per_10k: middle(|cost| cost.worker_cpu_per_10k),
            peak_memory: self
                .runs
                .iter()
                .filter_map(|run| run.cost.peak_memory)
                .max(),
            repeats: self.runs.iter().map(|run| run.cost.repeats).sum(),
            steal: median(self.runs.iter().map(|run| run.cost.steal).collect()),
        };
    }
}

impl Measured {
    fn is_quiet(&self) -> bool {
        self.cost.steal <= QUIET_STEAL
    }
}

impl Ratio {
    /// Computed run by run; `None` when the other figure is 0 in all of them.
    fn of(runs: &[Measured], base: &Row) -> Option<Self> {
        let ratios: Vec<_> = runs
            .iter()
            .zip(&base.runs)
            .filter(|(_, base)| base.value > 0.0)
            .map(|(run, base)| (run.value / base.value, run.is_quiet() && base.is_quiet()))
            .collect();
        if ratios.is_empty() {
            return None;
        }
        let (median, min, max) = spread(ratios.into_iter());
        Some(Self {
            to: base.name.clone(),
            median,
            min,
            max,
        })
    }
}

/// The median of the quiet values, or of all when none is quiet; the minimum and maximum of all.
fn spread(values: impl Iterator<Item = (f64, bool)> + Clone) -> (f64, f64, f64) {
    let all = || values.clone().map(|(value, _)| value);
    let quiet: Vec<_> = values
        .clone()
        .filter(|(_, quiet)| *quiet)
        .map(|(value, _)| value)
        .collect();
    let middle = match quiet.is_empty() {
        true => median(all().collect()),
        false => median(quiet),
    };
    (
        middle,
        all().fold(f64::INFINITY, f64::min),
        all().fold(f64::NEG_INFINITY, f64::max),
    )
}

/// Warnings about the rows.
pub fn remarks(rows: &[Row]) -> Vec<String> {
    let mut remarks = Vec::new();
    if rows.iter().any(|row| row.quiet_runs == 0) {
        remarks.push(
            "No run was quiet in the rows with 0 under QUIET: other machines took more than 5 % of \
             the processors. Repeat the benchmark when the host is quieter."
                .into(),
        );
    }
    if rows.iter().any(|row| row.cost.repeats > 0) {
        remarks.push(
            "Deliveries arrived more than once in the rows with a number under TWICE.".into(),
        );
    }
    remarks
}

/// The rows as a table; a ratio names the number of the other row.
pub fn text(rows: &[Row]) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let number = |name: &str| {
        rows.iter()
            .position(|row| row.name == name)
            .map_or(0, |n| n + 1)
    };
    let cells = |row: &Row| {
        let cost = &row.cost;
        [
            number(&row.name).to_string(),
            row.name.clone(),
            figure(row.median),
            format!("{}–{}", figure(row.min), figure(row.max)),
            row.unit.to_owned(),
            or_dash(
                row.ratio
                    .as_ref()
                    .map(|ratio| format!("{:.2} to {}", ratio.median, number(&ratio.to))),
            ),
            or_dash(cost.cpu_per_10k.map(|s| format!("{s:.2}"))),
            or_dash(cost.worker_cpu_per_10k.map(|s| format!("{s:.2}"))),
            or_dash(
                cost.peak_memory
                    .map(|bytes| format!("{:.0} MiB", bytes as f64 / 1_048_576.0)),
            ),
            cost.repeats.to_string(),
            format!("{:.0} %", cost.steal * 100.0),
            format!("{}/{}", row.quiet_runs, row.runs.len()),
        ]
    };
    table(
        [
            "",
            "MEASURED",
            "MEDIAN",
            "LEAST–MOST",
            "UNIT",
            "RATIO",
            "CPU S/10K",
            "WORKER",
            "MEMORY",
            "TWICE",
            "STEAL",
            "QUIET",
        ],
        rows.iter().map(cells),
    )
}

fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figure;

    fn measurement(name: &str, value: f64, steal: f64) -> Measurement {
        let beside = (name != "base").then(|| "base".to_owned());
        Measurement {
            figures: vec![Figure {
                beside,
                ..Figure::new(name, value, "/s")
            }],
            cost: Cost {
                repeats: 1,
                steal,
                ..Cost::default()
            },
        }
    }

    #[test]
    fn the_median_is_taken_over_quiet_runs_and_the_range_over_all() {
        let runs = [(10.0, 0.0), (30.0, 0.01), (1_000.0, 0.3)]
            .map(|(value, steal)| vec![measurement("base", value, steal)]);
        let row = rows("s", "d", runs.into()).remove(0);
        assert_eq!((row.median, row.quiet_runs), (20.0, 2));
        assert_eq!((row.min, row.max), (10.0, 1_000.0));
        assert_eq!((row.cost.repeats, row.cost.steal), (3, 0.01));
        assert_eq!(row.runs.len(), 3);

        let noisy = rows("s", "d", vec![vec![measurement("base", 7.0, 0.5)]]);
        assert_eq!((noisy[0].median, noisy[0].quiet_runs), (7.0, 0));
        assert!(remarks(&noisy)[0].starts_with("No run was quiet"));
    }

    #[test]
    fn a_ratio_is_taken_run_by_run() {
        let run = |base, other, steal| {
            vec![
                measurement("other", other, 0.0),
                measurement("base", base, steal),
            ]
        };
        let runs = vec![
            run(10.0, 5.0, 0.0),
            run(100.0, 10.0, 0.0),
            run(1.0, 9.0, 0.9),
        ];
        let rows = rows("s", "d", runs);
        let ratio = rows[0].ratio.as_ref().unwrap();
        assert!((ratio.median - 0.3).abs() < 1e-9, "{ratio:?}");
        assert_eq!((ratio.min, ratio.max), (0.1, 9.0));
        assert_eq!((ratio.to.as_str(), &rows[1].ratio), ("base", &None));
    }
}
