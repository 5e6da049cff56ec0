//! What a worker says of itself on `/metrics`.

use crate::failure::Result;
use crate::http;
use anyhow::{Context, bail};
use std::collections::HashMap;
use std::time::Duration;

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The metrics of a worker at one moment, by series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape(HashMap<String, f64>);

impl Scrape {
    /// Asks the worker that serves them at `url`, as in `http://127.0.0.1:9464`.
    pub async fn of(url: &str) -> Result<Self> {
        let address = url.strip_prefix("http://").unwrap_or(url);
        let answer = tokio::time::timeout(PATIENCE, http::get(address, "/metrics"))
            .await
            .context("a worker did not answer on /metrics")??;
        match answer {
            (200, body) => Ok(Self::parse(&body)),
            _ => bail!("a worker refused to show its metrics"),
        }
    }

    fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = series.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(pairs.collect())
    }

    /// The value of a series; 0 when there is none.
    pub fn value(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_default()
    }

    /// How often the store was called for `operation` since `earlier`, and how long all those
    /// calls took, in seconds.
    pub fn store_calls(&self, earlier: &Self, operation: &str) -> (f64, f64) {
        let grown = |part: &str| {
            let series = format!("postrider_store_seconds_{part}{{operation=\"{operation}\"}}");
            self.value(&series) - earlier.value(&series)
        };
        (grown("count"), grown("sum"))
    }

    /// How often the store was called since `earlier`, whatever for.
    pub fn all_store_calls(&self, earlier: &Self) -> f64 {
        let count = |scrape: &Self| -> f64 {
            let calls = scrape
                .0
                .iter()
                .filter(|(series, _)| series.starts_with("postrider_store_seconds_count"));
            calls.map(|(_, value)| value).sum()
        };
        count(self) - count(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_between_two_looks() {
        let look = |leases, seconds, peeks| {
            Scrape::parse(&format!(
                "# TYPE postrider_store_seconds histogram\n\
                 postrider_store_seconds_bucket{{operation=\"lease\",le=\"0.001\"}} 7\n\
                 postrider_store_seconds_sum{{operation=\"lease\"}} {seconds}\n\
                 postrider_store_seconds_count{{operation=\"lease\"}} {leases}\n\
                 postrider_store_seconds_count{{operation=\"peek\"}} {peeks}\n"
            ))
        };
        let (before, after) = (look(10, 0.5, 3), look(14, 1.5, 4));
        assert_eq!(after.store_calls(&before, "lease"), (4.0, 1.0));
        assert_eq!(after.store_calls(&before, "settle"), (0.0, 0.0));
        assert_eq!(after.all_store_calls(&before), 5.0);
    }
}
