//! `idle`: what a worker costs that has nothing to do.

use super::environment::Lab;
use super::figures::{Figure, Measurement, Meter};
use super::options::Stage;
use crate::failure::Result;
use postrider_core::monotonic_now;
use std::time::Duration;

const SECONDS: u64 = 10;
/// A worker that has just started looks around more often.
const SETTLE_DOWN: Duration = Duration::from_secs(3);

/// Watches an idle worker.
pub async fn run(stage: &Stage) -> Result<Vec<Measurement>> {
    Lab::run(stage, async |lab| measure(lab, stage).await).await
}

async fn measure(lab: &Lab, stage: &Stage) -> Result<Vec<Measurement>> {
    lab.hooks(stage.shape()?, ([127, 0, 0, 1], 1).into())
        .await?;
    let worker = lab.worker().await?;
    tokio::time::sleep(SETTLE_DOWN).await;
    let workers = vec![worker];
    let meter = Meter::start(&workers);
    let (cpu, _) = workers[0].cost();
    let calls = workers[0].scrape().await?;
    let transactions = lab.scratch.transactions().await?;
    let begun = monotonic_now();
    tokio::time::sleep(Duration::from_secs(stage.seconds(SECONDS))).await;
    let took = (monotonic_now() - begun).as_secs_f64();
    let share = (workers[0].cost().0 - cpu) / took;
    let calls = workers[0].scrape().await?.all_store_calls(&calls) / took;
    let after = lab.scratch.transactions().await?;
    let cost = meter.stop(&workers, 0);
    for worker in workers {
        worker.stop().await?;
    }
    let mut figures = vec![
        Figure::new("share of one core, the worker", share * 100.0, "%"),
        // Of an idle worker all but very few calls are one statement each.
        Figure::new("statements of the worker", calls, "/s"),
    ];
    if let (Some(before), Some(after)) = (transactions, after) {
        let rate = after.saturating_sub(before) as f64 / took;
        figures.push(Figure::new("transactions of the database", rate, "/s"));
    }
    Ok(vec![Measurement { figures, cost }])
}
