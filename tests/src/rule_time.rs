//! What the alert rules make of a trouble: real processes are scraped while it lasts, and what
//! was measured is played to the rules, in their time, by `promtool test rules`.
//!
//! Rule time goes in steps of 15 s, as scrapes do. The trouble begins right after a scrape, which
//! is the worst moment. Before it stands an hour that is as the time before the trouble was
//! measured. As long as the trouble was measured, each step shows the latest real scrape. Behind
//! that it is taken to last as it was last seen: what still grew older goes on to, as fast as it
//! did since the trouble began, counters go on at their latest pace, everything else stays.

use crate::http::exchange;
use crate::program::Ended;
use crate::tools::{ended, project, prometheus};
use crate::wait::eventually;
use crate::{Process, rules};
use postrider_core::monotonic_now;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

/// How often processes are really scraped.
const EVERY: Duration = Duration::from_millis(250);

/// Seconds from one scrape to the next, and from one evaluation of the rules, in rule time.
const STEP: u32 = 15;

/// Steps before the trouble: an hour.
const BEFORE: u32 = 240;

/// Steps within which an alert must fire: two minutes.
const WITHIN: u32 = 8;

/// How much of the end of a record tells at which pace counters go.
const LATEST: Duration = Duration::from_secs(5);

/// Gauges that tell for how long something has been so.
const AGES: [&str; 4] = [
    "postrider_oldest_due_age_seconds",
    "postrider_outbox_lag_seconds",
    "postrider_stalled_seconds",
    "postrider_no_look_seconds",
];

/// Series by their names and labels, without those that Prometheus adds.
type Series = BTreeMap<String, f64>;

/// Scrapes processes while something happens to them. They are the instances `a`, `b` and so on
/// of the job `postrider`.
#[derive(Debug)]
pub struct Watch {
    records: Arc<Mutex<Vec<Record>>>,
    trouble: Option<Instant>,
    _scraping: AbortOnDropHandle<()>,
}

/// What was scraped of one process; nothing where it did not answer.
#[derive(Debug, Default)]
struct Record(Vec<(Instant, Option<Series>)>);

impl Watch {
    /// Begins, and waits until all of these processes show a whole sample of the database.
    ///
    /// # Panics
    /// When they never do.
    pub async fn of(processes: &[&Process]) -> Self {
        let mut addresses = Vec::new();
        for process in processes {
            addresses.push(process.address_of("metrics").await);
        }
        let watched: BTreeSet<String> = rules().iter().flat_map(crate::Rule::series).collect();
        let records: Vec<_> = addresses.iter().map(|_| Record::default()).collect();
        let records = Arc::new(Mutex::new(records));
        let kept = records.clone();
        let scraping = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                ticks.tick().await;
                for (n, address) in addresses.iter().enumerate() {
                    let scraped = scrape(address, &watched).await;
                    lock(&kept)[n].0.push((monotonic_now(), scraped));
                }
            }
        });
        let watch = Self {
            records,
            trouble: None,
            _scraping: AbortOnDropHandle::new(scraping),
        };
        let ahead = "postrider_db_partitions_ahead_days";
        watch.until(ahead, |days| days >= 1.0).await;
        watch
    }

    /// From now on there is trouble; returns when one more scrape has shown how it was before.
    ///
    /// # Panics
    /// When no process is scraped any more.
    pub async fn trouble_begins(&mut self) {
        let scrapes = || lock(&self.records).iter().map(|r| r.0.len()).min();
        let before = scrapes();
        eventually(async || match scrapes() > before {
            true => Ok(()),
            false => Err("no scrape".into()),
        })
        .await;
        self.trouble = Some(monotonic_now());
    }

    /// Waits until each process that answers shows this metric, and it holds for all of its
    /// series in the latest scrape.
    ///
    /// # Panics
    /// When it does not come to hold.
    pub async fn until(&self, name: &str, holds: impl Fn(f64) -> bool) {
        eventually(async || {
            let records = lock(&self.records);
            let scraped = records.iter().filter_map(|record| record.0.last());
            let series = scraped.filter_map(|(_, series)| series.as_ref());
            let latest: Vec<_> = series.map(|series| of_name(series, name)).collect();
            let holds = |values: &Vec<f64>| !values.is_empty() && values.iter().all(|v| holds(*v));
            match !latest.is_empty() && latest.iter().all(holds) {
                true => Ok(()),
                false => Err(format!("{name} is {latest:?}")),
            }
        })
        .await;
    }

    /// Waits until an age has grown twice since the trouble began, as a process shows it.
    ///
    /// # Panics
    /// When it does not.
    pub async fn until_it_grows(&self, name: &str) {
        eventually(async || {
            let records = lock(&self.records);
            let grown = records.iter().any(|record| {
                let values = record.changes(name, self.begun());
                matches!(values.as_slice(), [.., (_, a), (_, b), (_, c)] if a < b && b < c)
            });
            match grown {
                true => Ok(()),
                false => Err(format!("{name} does not grow")),
            }
        })
        .await;
    }

    /// Waits until a process does not answer.
    ///
    /// # Panics
    /// When all go on answering.
    pub async fn until_one_is_down(&self) {
        let down = |record: &Record| matches!(record.0.last(), Some((_, None)));
        eventually(async || match lock(&self.records).iter().any(down) {
            true => Ok(()),
            false => Err("all answer".into()),
        })
        .await;
    }

    /// Ends the record, and checks that exactly these alerts fire within two minutes of rule time
    /// from the beginning of the trouble, and that none did in the hour before it.
    ///
    /// # Panics
    /// When others do, or promtool fails.
    pub async fn fires(self, alerts: &[&str]) {
        let text = self.cases(alerts);
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("incident.yml");
        std::fs::write(&file, &text).expect("write the case");
        let mut promtool = prometheus("promtool");
        let tested: Ended = ended(promtool.args(["test", "rules"]).arg(&file)).await;
        assert!(tested.status.success(), "{tested}\n{text}");
    }

    fn begun(&self) -> Instant {
        self.trouble.expect("there has been no trouble")
    }

    /// A file of `promtool test rules`.
    fn cases(&self, alerts: &[&str]) -> String {
        let begun = self.begun();
        let mut text = format!(
            "rule_files: ['{}']\nevaluation_interval: {STEP}s\n\
             group_eval_order: [postrider-records, postrider-alerts]\n\
             tests:\n- interval: {STEP}s\n  input_series:\n",
            project("grafana/alerts.yml").display()
        );
        for (record, instance) in lock(&self.records).iter().zip('a'..) {
            for (series, values) in record.played(begun) {
                let (name, labels) = series.split_once('{').unwrap_or((&series, "}"));
                let added = format!("job=\"postrider\", instance=\"{instance}\"");
                let comma = if labels == "}" { "" } else { ", " };
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  - series: '{name}{{{added}{comma}{labels}'");
                let _ = writeln!(text, "    values: '{}'", values.join(" "));
            }
        }
        let (before, after) = (BEFORE * STEP, (BEFORE + WITHIN) * STEP);
        let fired = "count_over_time(ALERTS{alertstate=\"firing\"}";
        let expected: Vec<_> = alerts
            .iter()
            .map(|alert| format!("{{labels: '{{alertname=\"{alert}\"}}', value: 1}}"))
            .collect();
        let _ = write!(
            text,
            "  promql_expr_test:\n\
             \x20 - expr: '{fired}[1h])'\n    eval_time: {before}s\n    exp_samples: []\n\
             \x20 - expr: 'group by (alertname) ({fired}[{}s]))'\n    eval_time: {after}s\n\
             \x20   exp_samples: [{}]\n",
            WITHIN * STEP,
            expected.join(", ")
        );
        text
    }
}

impl Record {
    /// The values of each series in rule time, `up` among them.
    fn played(&self, begun: Instant) -> BTreeMap<String, Vec<String>> {
        let mut played = BTreeMap::from([("up".to_owned(), Vec::new())]);
        let all = self.0.iter().filter_map(|(_, series)| series.as_ref());
        let names: BTreeSet<_> = all.flat_map(BTreeMap::keys).collect();
        for name in names {
            let line = Line::of(self, name, begun);
            let steps = (0..=BEFORE + WITHIN).map(|step| {
                let since = (i64::from(step) - i64::from(BEFORE)) * i64::from(STEP);
                line.at(since)
            });
            let shown = steps.map(|value| value.map_or("stale".into(), |value| value.to_string()));
            played.insert(name.clone(), shown.collect());
        }
        let answered = |step: u32| {
            let at = begun + Duration::from_secs((step * STEP).into());
            let scraped = self.0.iter().rfind(|(scraped, _)| *scraped <= at);
            scraped.is_none_or(|(_, series)| series.is_some())
        };
        let up = (0..=BEFORE + WITHIN).map(|step| match step.checked_sub(BEFORE) {
            Some(step) if !answered(step) => "0".to_owned(),
            _ => "1".to_owned(),
        });
        played.insert("up".into(), up.collect());
        played
    }

    /// What one series showed since a moment, without repetitions.
    fn changes(&self, name: &str, since: Instant) -> Vec<(Instant, f64)> {
        let mut changes: Vec<(Instant, f64)> = Vec::new();
        for (at, series) in self.0.iter().filter(|(at, _)| *at > since) {
            let value = series.as_ref().and_then(|series| series.get(name));
            if let Some(value) = value
                && changes.last().is_none_or(|(_, last)| last != value)
            {
                changes.push((*at, *value));
            }
        }
        changes
    }
}

/// One series as it was measured, and how it goes on.
struct Line {
    /// Its values by the seconds since the trouble began; nothing where it was not there.
    measured: Vec<(f64, Option<f64>)>,
    /// By how much a second it grew before the trouble, and at the end of the record.
    paces: (f64, f64),
}

impl Line {
    fn of(record: &Record, name: &str, begun: Instant) -> Self {
        let seconds = |at: Instant| match at.checked_duration_since(begun) {
            Some(after) => after.as_secs_f64(),
            None => -(begun - at).as_secs_f64(),
        };
        let scrapes = record.0.iter();
        let measured = scrapes.map(|(at, series)| {
            let value = series.as_ref().and_then(|series| series.get(name).copied());
            (seconds(*at), value)
        });
        let measured: Vec<_> = measured.collect();
        let there = measured
            .iter()
            .filter_map(|(at, value)| Some((*at, (*value)?)));
        let there: Vec<_> = there.collect();
        let metric = name.split('{').next().unwrap_or_default();
        let paces = if metric.ends_with("_total") {
            let before: Vec<_> = there.iter().filter(|(at, _)| *at <= 0.0).copied().collect();
            let end = there
                .last()
                .map_or(0.0, |(at, _)| *at - LATEST.as_secs_f64());
            let latest: Vec<_> = there.iter().filter(|(at, _)| *at >= end).copied().collect();
            (pace(&before), pace(&latest))
        } else if AGES.contains(&metric) {
            let beginning = there.iter().rfind(|(at, _)| *at <= 0.0);
            let latest = match record.changes(name, begun).as_slice() {
                [.., (_, before), (at, value)] if before < value => Some((seconds(*at), *value)),
                _ => None,
            };
            let ends: Vec<_> = beginning.copied().into_iter().chain(latest).collect();
            (0.0, pace(&ends))
        } else {
            (0.0, 0.0)
        };
        Self { measured, paces }
    }

    /// Its value so many seconds after the trouble began, or before.
    fn at(&self, since: i64) -> Option<f64> {
        let since = since as f64;
        let (before, latest) = self.paces;
        // As much as keeps a counter above 0 an hour ago.
        let raised = before * f64::from(BEFORE * STEP);
        let at_or_before = |moment: f64| self.measured.iter().rfind(|(at, _)| *at <= moment);
        let (_, at_beginning) = at_or_before(0.0)?;
        if since <= 0.0 {
            return at_beginning.map(|value| raised + value + before * since);
        }
        let (_, value) = at_or_before(since)?;
        let (end, _) = self.measured.last()?;
        value.map(|value| raised + value + latest * (since - end).max(0.0))
    }
}

/// By how much a second values grew from the first to the last.
fn pace(values: &[(f64, f64)]) -> f64 {
    match values {
        [(from, first), .., (to, last)] if to > from => (last - first) / (to - from),
        _ => 0.0,
    }
}

/// What a process shows of these metrics; nothing if it does not answer.
async fn scrape(address: &str, watched: &BTreeSet<String>) -> Option<Series> {
    let request = format!("GET /metrics HTTP/1.0\r\nhost: {address}\r\n\r\n");
    let reply = exchange(address, request.as_bytes()).await.ok()?;
    let lines = reply.body.lines().filter(|line| !line.starts_with('#'));
    let series = lines.filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let name = series.split('{').next()?;
        let value = value.parse().ok()?;
        watched.contains(name).then(|| (series.to_owned(), value))
    });
    Some(series.collect())
}

/// The values of all series of this metric.
fn of_name(series: &Series, name: &str) -> Vec<f64> {
    let of = |series: &str| series.split('{').next() == Some(name);
    let found = series.iter().filter(|(series, _)| of(series));
    found.map(|(_, value)| *value).collect()
}

fn lock(records: &Mutex<Vec<Record>>) -> MutexGuard<'_, Vec<Record>> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_shown_and_goes_on_as_it_was() {
        let first = monotonic_now();
        let begun = first + Duration::from_secs(10);
        let scrapes = (0..=30).map(|second| {
            let at = first + Duration::from_secs(second);
            let age = second.saturating_sub(10) as f64;
            let series = [
                ("postrider_stalled_seconds", age),
                ("postrider_a_total", 2.0 * second as f64),
                ("postrider_b", age),
            ];
            let named = series.map(|(name, value)| (name.to_owned(), value));
            (at, Some(Series::from(named)))
        });
        let mut record = Record(scrapes.collect());
        let shown = |record: &Record, name| {
            let line = Line::of(record, name, begun);
            [-15, 0, 15, 30, 45].map(|since| line.at(since))
        };
        let stalled = shown(&record, "postrider_stalled_seconds");
        assert_eq!(stalled, [0.0, 0.0, 15.0, 30.0, 45.0].map(Some));
        // For the hour before it counts on at 2 a second, as it did when it was measured.
        let counted = [7_190.0, 7_220.0, 7_250.0, 7_280.0, 7_310.0].map(Some);
        assert_eq!(shown(&record, "postrider_a_total"), counted);
        let other = [0.0, 0.0, 15.0, 20.0, 20.0].map(Some);
        assert_eq!(shown(&record, "postrider_b"), other);

        record.0.push((first + Duration::from_secs(31), None));
        let gone = [Some(0.0), Some(0.0), Some(15.0), None, None];
        assert_eq!(shown(&record, "postrider_b"), gone);
        let up = record.played(begun)["up"].clone();
        assert!(up.ends_with(&["1", "1", "0", "0", "0", "0", "0", "0", "0"].map(str::to_owned)));
    }
}
