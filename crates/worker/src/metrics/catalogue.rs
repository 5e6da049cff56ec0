//! What is known of every metric: it cannot be registered without being told here.
//!
//! [`describe`] makes `docs/metrics.md` of it, and tests hold dashboards, alert rules and
//! documents to it.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Opts, Registry,
};
use std::fmt::Write;

/// A metric as it is described.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name, without the endings that the series of a histogram have.
    pub name: String,
    /// What kind it is.
    pub kind: Kind,
    /// Whose it is.
    pub of: Of,
    /// Its labels, each with the values it may have, as far as they are known beforehand.
    pub labels: Vec<(&'static str, Vec<String>)>,
    /// What it tells, in a sentence.
    pub help: String,
}

/// The kind of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets with these upper bounds.
    Histogram(Vec<f64>),
}

/// Whose metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Each process counts its own: add them up.
    Process,
    /// Of the database, and the same from every process: take the largest, not the sum.
    Database,
}

impl Entry {
    /// The unit of its values, by the end of its name; nothing for plain numbers.
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
            Kind::Histogram(_) => {
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
    pub(super) entries: Vec<Entry>,
}

/// Labels with the values they may have.
pub(super) type Labels<'a> = &'a [(&'static str, &'a [&'a str])];

impl Registrar {
    fn tell(&mut self, name: &str, kind: Kind, of: Of, labels: Labels<'_>, help: &str) {
        let text = |value: &&str| (*value).to_owned();
        self.entries.push(Entry {
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
    /// once, which the tests show by making a catalogue; so this cannot fail at run time.
    fn register<M: Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("the catalogue's names and labels are valid");
        self.registry
            .register(Box::new(metric.clone()))
            .expect("the catalogue's names are unique");
        metric
    }

    /// A collector of someone else's metrics: counters if their names say so, else gauges. A
    /// system without them loses nothing else.
    pub(super) fn collector(&mut self, collector: impl Collector + 'static) {
        for metric in collector.desc() {
            let kind = match metric.fq_name.ends_with("_total") {
                true => Kind::Counter,
                false => Kind::Gauge,
            };
            self.tell(&metric.fq_name, kind, Of::Process, &[], &metric.help);
        }
        if let Err(problem) = self.registry.register(Box::new(collector)) {
            tracing::debug!("There are no metrics of the process: {problem}");
        }
    }
}

pub(super) fn counter(r: &mut Registrar, name: &str, help: &str) -> IntCounter {
    r.tell(name, Kind::Counter, Of::Process, &[], help);
    r.register(IntCounter::new(name, help))
}

pub(super) fn gauge(r: &mut Registrar, name: &str, help: &str) -> IntGauge {
    r.tell(name, Kind::Gauge, Of::Process, &[], help);
    r.register(IntGauge::new(name, help))
}

pub(super) fn float_gauge(r: &mut Registrar, name: &str, help: &str) -> Gauge {
    r.tell(name, Kind::Gauge, Of::Process, &[], help);
    r.register(Gauge::new(name, help))
}

pub(super) fn histogram(r: &mut Registrar, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    r.tell(
        name,
        Kind::Histogram(buckets.into()),
        Of::Process,
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

/// Counters of several labels; whoever asks for them makes those that are to be at 0.
pub(super) fn counters_of(
    r: &mut Registrar,
    name: &str,
    help: &str,
    labels: Labels<'_>,
) -> IntCounterVec {
    r.tell(name, Kind::Counter, Of::Process, labels, help);
    let names: Vec<_> = labels.iter().map(|(label, _)| *label).collect();
    r.register(IntCounterVec::new(Opts::new(name, help), &names))
}

/// Histograms of some labels; whoever asks for them makes those that are to be there at once.
pub(super) fn histograms_of(
    r: &mut Registrar,
    name: &str,
    help: &str,
    labels: Labels<'_>,
    buckets: &[f64],
) -> HistogramVec {
    r.tell(
        name,
        Kind::Histogram(buckets.into()),
        Of::Process,
        labels,
        help,
    );
    let names: Vec<_> = labels.iter().map(|(label, _)| *label).collect();
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    r.register(HistogramVec::new(options, &names))
}

/// Gauges that are there from when they are first set.
pub(super) fn gauges_of(
    r: &mut Registrar,
    of: Of,
    name: &str,
    help: &str,
    labels: Labels<'_>,
) -> GaugeVec {
    r.tell(name, Kind::Gauge, of, labels, help);
    let names: Vec<_> = labels.iter().map(|(label, _)| *label).collect();
    r.register(GaugeVec::new(Opts::new(name, help), &names))
}

/// How `docs/metrics.md` begins.
const INTRODUCTION: &str = "\
# Metrics

Every process serves these on `metrics.listen` under `/metrics`, in the text format of Prometheus.
This page is what `postrider metrics` prints; a test holds it to the program.

Labels are few and bounded: never a hook, an account or a URL. What concerns one hook is told by
`postrider hook show` and `postrider delivery list`. Counters and histograms exist at 0 from the
start.
";

/// What is said of the metrics of a process.
const OF_PROCESS: &str = "
## Of each process

Each process counts its own: add them up over all instances (`sum by (job) (rate(…))`).
";

/// What is said of the metrics of the database.
const OF_DATABASE: &str = "
## Of the database

A sample that one process takes every ten seconds, and all processes show: take the largest over all
instances (`max by (job) (…)`), never the sum. Counts end at 10,000, so that no backlog makes them
costly. Until the first sample, and when there has been none for five minutes, these series are not
there. Those of tables, snapshots and partitions exist on PostgreSQL only. To see how long
transactions of other roles have been open, the role that Postrider connects as must be a member of
`pg_read_all_stats`.
";

/// The catalogue as a document.
pub(super) fn describe(entries: &[Entry]) -> String {
    let mut text = INTRODUCTION.to_owned();
    for (of, introduction) in [(Of::Process, OF_PROCESS), (Of::Database, OF_DATABASE)] {
        text.push_str(introduction);
        text.push_str("\n| name | kind | unit | labels | what it tells |\n");
        text.push_str("| --- | --- | --- | --- | --- |\n");
        for entry in entries.iter().filter(|entry| entry.of == of) {
            let kind = match entry.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
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
        if let Kind::Histogram(buckets) = &entry.kind {
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
