//! `idle`: what a worker costs that has nothing to do.

use super::lab::Lab;
use super::report::Finding;
use crate::failure::Result;
use std::time::Duration;

/// Watches an idle worker for so many seconds.
pub async fn run(url: &str, seconds: u64) -> Result<Vec<Finding>> {
    Lab::run(url, async |lab| measure(lab, seconds).await).await
}

async fn measure(lab: &Lab, seconds: u64) -> Result<Vec<Finding>> {
    let worker = lab.worker().await?;
    tokio::time::sleep(SETTLE_DOWN).await;
    let (cpu, _) = worker.cost();
    let transactions = lab.transactions().await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let share = (worker.cost().0 - cpu) / seconds as f64;
    let after = lab.transactions().await?;
    worker.stop().await?;
    let mut findings = vec![Finding::new("share of one core", share * 100.0, "%")];
    if let (Some(before), Some(after)) = (transactions, after) {
        let rate = after.saturating_sub(before) as f64 / seconds as f64;
        findings.push(Finding::new("transactions", rate, "/s"));
    }
    Ok(findings)
}

/// A worker that has just started looks around more often.
const SETTLE_DOWN: Duration = Duration::from_secs(3);
