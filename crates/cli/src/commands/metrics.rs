//! `postrider metrics`: the catalogue of the metrics under `/metrics`.

use crate::failure::Result;
use crate::globals::Globals;
use clap::Args;
use postrider_worker::{Entry, Kind, MetricOf, Metrics};
use serde::Serialize;
use std::collections::BTreeMap;

/// List all metrics: name, kind, unit, labels and meaning.
///
/// Prints the document docs/metrics.md; with --json one object for each metric. Needs no
/// database.
#[derive(Debug, Args)]
pub struct MetricsCommand {}

#[derive(Serialize)]
struct MetricLine<'a> {
    name: &'a str,
    kind: &'static str,
    unit: &'static str,
    /// Labels, each with its fixed values.
    labels: BTreeMap<&'static str, &'a [String]>,
    /// Whether every process shows the same value, which must not be summed.
    of_database: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    buckets: Option<&'a [f64]>,
    help: &'a str,
}

impl MetricsCommand {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let metrics = Metrics::new();
        let output = globals.output();
        match output.is_json() {
            true => {
                let entries: Vec<_> = metrics.catalogue().iter().map(described).collect();
                output.lines(&entries)
            }
            false => output.text(metrics.describe().trim_end()),
        }
    }
}

fn described(entry: &Entry) -> MetricLine<'_> {
    let (kind, buckets) = match &entry.kind {
        Kind::Counter => ("counter", None),
        Kind::Gauge => ("gauge", None),
        Kind::Histogram(buckets) => ("histogram", Some(buckets.as_slice())),
    };
    let labels = entry.labels.iter();
    MetricLine {
        name: &entry.name,
        kind,
        unit: entry.unit(),
        labels: labels
            .map(|(name, values)| (*name, values.as_slice()))
            .collect(),
        of_database: entry.of == MetricOf::Database,
        buckets,
        help: &entry.help,
    }
}
