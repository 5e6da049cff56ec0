//! The descriptions of all metrics: a metric cannot be registered without one.
//!
//! [`describe`] renders them as `docs/metrics.md`. Tests check dashboards, alert rules and
//! documents against them.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Opts, Registry,
};
use std::fmt::Write;

/// The description of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricEntry {
    /// The name, without the suffixes of the series of a histogram.
    pub name: String,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// Whether each process counts its own.
    pub of: MetricScope,
    /// The labels, each with the values it may have, as far as they are known beforehand.
    pub labels: Vec<(&'static str, Vec<String>)>,
    /// One sentence, as served under `# HELP`.
    pub help: String,
}

/// How the values of a metric change and are shown.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets with these upper bounds.
    Histogram(Vec<f64>),
}

/// What a metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricScope {
    /// This process: add the values of all processes.
    Process,
    /// The database, the same from every process: take the largest, not the sum.
    Database,
}

impl MetricEntry {
    /// The unit of the values, by the end of the name; empty for plain numbers.
    pub fn unit(&self) -> &'static str {
        let base = self.name.strip_suffix("_total").unwrap_or(&self.name);
        ["seconds", "bytes", "days"]
            .into_iter()
            .find(|unit| base.strip_suffix(unit).is_some_and(|r| r.ends_with('_')))
            .unwrap_or("")
    }

    /// The names of its series.
    pub fn series(&self) -> Vec<String> {
        match self.kind {
            MetricKind::Histogram(_) => {
                { ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", self.name)) }.into()
            }
            _ => vec![self.name.clone()],
        }
    }
}

/// Registers metrics and remembers what they are.
#[derive(Debug, Default)]
pub(super) struct Registrar {
    pub(super) registry: Registry,
    pub(super) entries: Vec<MetricEntry>,
}

/// Labels with the values they may have.
pub(super) type Labels<'a> = &'a [(&'static str, &'a [&'a str])];

impl Registrar {
    fn describe(
        &mut self,
        name: &str,
        kind: MetricKind,
        of: MetricScope,
        labels: Labels<'_>,
        help: &str,
    ) {
        let text = |value: &&str| (*value).to_owned();
        self.entries.push(MetricEntry {
            name: name.to_owned(),
            kind,
            of,
            labels: labels
                .iter()
                .map(|(label, values)| (*label, values.iter().map(text).collect()))
                .collect(),
            help: help.to_owned(),
        });
    }

    /// Registers a metric of this catalogue. Names and labels are constants and each is used
    /// once, which the tests check; so this cannot fail at run time.
    fn register<M: Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("the catalogue's names and labels are valid");
        self.registry
            .register(Box::new(metric.clone()))
            .expect("the catalogue's names are unique");
        metric
    }

    /// Registers a foreign collector. Its metrics are counters if their names say so, else gauges.
    /// On a system that does not support it, its metrics are missing.
    pub(super) fn collector(&mut self, collector: impl Collector + 'static) {
        for metric in collector.desc() {
            let kind = match metric.fq_name.ends_with("_total") {
                true => MetricKind::Counter,
                false => MetricKind::Gauge,
            };
            self.describe(
                &metric.fq_name,
                kind,
                MetricScope::Process,
                &[],
                &metric.help,
            );
        }
        if let Err(problem) = self.registry.register(Box::new(collector)) {
            tracing::debug!("There are no metrics of the process: {problem}");
        }
    }
}

pub(super) fn counter(r: &mut Registrar, name: &str, help: &str) -> IntCounter {
    r.describe(name, MetricKind::Counter, MetricScope::Process, &[], help);
    r.register(IntCounter::new(name, help))
}

pub(super) fn gauge(r: &mut Registrar, name: &str, help: &str) -> IntGauge {
    r.describe(name, MetricKind::Gauge, MetricScope::Process, &[], help);
    r.register(IntGauge::new(name, help))
}

pub(super) fn float_gauge(r: &mut Registrar, name: &str, help: &str) -> Gauge {
    r.describe(name, MetricKind::Gauge, MetricScope::Process, &[], help);
    r.register(Gauge::new(name, help))
}

pub(super) fn histogram(r: &mut Registrar, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    r.describe(
        name,
        MetricKind::Histogram(buckets.into()),
        MetricScope::Process,
        &[],
        help,
    );
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    r.register(Histogram::with_opts(options))
}

/// Counters of one label, all at 0.
pub(super) fn counters(
    r: &mut Registrar,
    name: &str,
    help: &str,
    label: &'static str,
    values: &[&str],
) -> IntCounterVec {
    let metric = counters_of(r, name, help, &[(label, values)]);
    for value in values {
        metric.with_label_values(&[value]);
    }
    metric
}

/// Counters of several labels; the caller creates those that exist at 0.
pub(super) fn counters_of(
    r: &mut Registrar,
    name: &str,
    help: &str,
    labels: Labels<'_>,
) -> IntCounterVec {
    r.describe(
        name,
        MetricKind::Counter,
        MetricScope::Process,
        labels,
        help,
    );
    let names: Vec<_> = labels.iter().map(|(label, _)| *label).collect();
    r.register(IntCounterVec::new(Opts::new(name, help), &names))
}

/// Histograms of some labels; the caller creates those that exist from the start.
pub(super) fn histograms_of(
    r: &mut Registrar,
    name: &str,
    help: &str,
    labels: Labels<'_>,
    buckets: &[f64],
) -> HistogramVec {
    r.describe(
        name,
        MetricKind::Histogram(buckets.into()),
        MetricScope::Process,
        labels,
        help,
    );
    let names: Vec<_> = labels.iter().map(|(label, _)| *label).collect();
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    r.register(HistogramVec::new(options, &names))
}

/// Gauges that exist once they are set.
pub(super) fn gauges_of(
    r: &mut Registrar,
    of: MetricScope,
    name: &str,
    help: &str,
    labels: Labels<'_>,
) -> GaugeVec {
    r.describe(name, MetricKind::Gauge, of, labels, help);
    let names: Vec<_> = labels.iter().map(|(label, _)| *label).collect();
    r.register(GaugeVec::new(Opts::new(name, help), &names))
}

/// The beginning of `docs/metrics.md`.
const INTRODUCTION: &str = "\
# Metrics

Every process serves these on `metrics.listen` under `/metrics`, in the text format of Prometheus.
`postrider metrics` prints this page; a test compares the two.

Labels are few and bounded: never a hook, an account or a URL. `postrider hook show` and
`postrider delivery list` show a single hook. Counters and histograms exist at 0 from the
start.
";

/// The introduction to the metrics of a process.
const OF_PROCESS: &str = "
## Of each process

Each process counts its own: add them up over all instances (`sum by (job) (rate(…))`).
";

/// The introduction to the metrics of the database.
const OF_DATABASE: &str = "
## Of the database

One process takes a sample every ten seconds, and all processes show it: take the largest over all
instances (`max by (job) (…)`), never the sum. Counts end at 10,000, so that they stay cheap. Until
the first sample, and when the latest is older than five minutes, these series do not exist. Those of tables, snapshots and partitions exist on PostgreSQL only. To see how long
transactions of other roles have been open, the role that Postrider connects as must be a member of
`pg_read_all_stats`.
";

/// The catalogue as a document.
pub(super) fn describe(entries: &[MetricEntry]) -> String {
    let mut text = INTRODUCTION.to_owned();
    for (of, introduction) in [
        (MetricScope::Process, OF_PROCESS),
        (MetricScope::Database, OF_DATABASE),
    ] {
        text.push_str(introduction);
        text.push_str("\n| name | kind | unit | labels | meaning |\n");
        text.push_str("| --- | --- | --- | --- | --- |\n");
        for entry in entries.iter().filter(|entry| entry.of == of) {
            let kind = match entry.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram(_) => "histogram",
            };
            let labels: Vec<_> = entry.labels.iter().map(label).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| `{}` | {kind} | {} | {} | {} |",
                entry.name,
                entry.unit(),
                labels.join("; "),
                entry.help
            );
        }
    }
    text.push_str("\n## Buckets\n\n| histogram | upper bounds |\n| --- | --- |\n");
    for entry in entries {
        if let MetricKind::Histogram(buckets) = &entry.kind {
            let bounds: Vec<_> = buckets.iter().map(f64::to_string).collect();
            let _ = writeln!(text, "| `{}` | {} |", entry.name, bounds.join(", "));
        }
    }
    text
}

fn label((name, values): &(&'static str, Vec<String>)) -> String {
    match values.as_slice() {
        [] => format!("`{name}`"),
        values => format!("`{name}`: {}", values.join(", ")),
    }
}
