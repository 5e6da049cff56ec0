//! `idle`: the cost of a worker that has nothing to do.

use crate::environment::Environment;
use crate::error::Result;
use crate::figures::{Figure, Measurement, Meter};
use crate::options::Plan;
use std::time::{Duration, Instant};

const SECONDS: u64 = 10;
/// A worker polls more often just after its start; this time is not measured.
const WARM_UP: Duration = Duration::from_secs(3);

/// Measures an idle worker.
pub async fn run(plan: &Plan) -> Result<Vec<Measurement>> {
    Environment::run(plan, async |env| measure(env, plan).await).await
}

async fn measure(env: &Environment, plan: &Plan) -> Result<Vec<Measurement>> {
    env.hooks(plan.shape()?, ([127, 0, 0, 1], 1).into()).await?;
    let worker = env.worker().await?;
    tokio::time::sleep(WARM_UP).await;
    let workers = vec![worker];
    let meter = Meter::start(&workers);
    let (cpu, _) = workers[0].cost();
    let calls = workers[0].scrape().await?;
    let transactions = env.database.transactions().await?;
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(plan.seconds(SECONDS))).await;
    let took = begun.elapsed().as_secs_f64();
    let share = (workers[0].cost().0 - cpu) / took;
    let calls = workers[0].scrape().await?.all_store_calls(&calls) / took;
    let after = env.database.transactions().await?;
    let cost = meter.stop(&workers, 0);
    for worker in workers {
        worker.stop().await?;
    }
    let mut figures = vec![
        Figure::new("share of one core, the worker", share * 100.0, "%"),
        // Nearly every store call of an idle worker is one statement.
        Figure::new("statements of the worker", calls, "/s"),
    ];
    if let (Some(before), Some(after)) = (transactions, after) {
        let rate = after.saturating_sub(before) as f64 / took;
        figures.push(Figure::new("transactions of the database", rate, "/s"));
    }
    Ok(vec![Measurement { figures, cost }])
}
