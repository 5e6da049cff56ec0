//! The metrics of a worker process.

use crate::error::Result;
use anyhow::Context;
use std::collections::HashMap;
use std::time::Duration;

/// How long a worker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The metrics of a worker at one moment, by series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape(HashMap<String, f64>);

impl Scrape {
    /// Reads the metrics of the worker that serves them at `url`, as in `http://127.0.0.1:9464`.
    pub async fn of(client: &reqwest::Client, url: &str) -> Result<Self> {
        let request = client.get(format!("{url}/metrics")).timeout(TIMEOUT);
        let answer = request
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        let text = answer
            .context("a worker did not answer on /metrics")?
            .text();
        Ok(Self::parse(&text.await?))
    }

    fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = series.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(pairs.collect())
    }

    /// The value of a series; 0 when it does not exist.
    pub fn value(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_default()
    }

    /// Number of store calls for `operation` since `earlier`, and the seconds they took together.
    pub fn store_calls(&self, earlier: &Self, operation: &str) -> (f64, f64) {
        let grown = |part: &str| {
            let series = format!("postrider_store_seconds_{part}{{operation=\"{operation}\"}}");
            self.value(&series) - earlier.value(&series)
        };
        (grown("count"), grown("sum"))
    }

    /// Number of all store calls since `earlier`.
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
    fn calls_are_counted_between_two_scrapes() {
        let scrape = |leases, seconds, peeks| {
            Scrape::parse(&format!(
                "# TYPE postrider_store_seconds histogram\n\
                 postrider_store_seconds_bucket{{operation=\"lease\",le=\"0.001\"}} 7\n\
                 postrider_store_seconds_sum{{operation=\"lease\"}} {seconds}\n\
                 postrider_store_seconds_count{{operation=\"lease\"}} {leases}\n\
                 postrider_store_seconds_count{{operation=\"peek\"}} {peeks}\n"
            ))
        };
        let (before, after) = (scrape(10, 0.5, 3), scrape(14, 1.5, 4));
        assert_eq!(after.store_calls(&before, "lease"), (4.0, 1.0));
        assert_eq!(after.store_calls(&before, "settle"), (0.0, 0.0));
        assert_eq!(after.all_store_calls(&before), 5.0);
    }
}
