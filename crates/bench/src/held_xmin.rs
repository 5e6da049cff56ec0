//! `held-xmin`: whether a transaction that is left open slows delivering down (PostgreSQL).
//!
//! While a snapshot is held no dead row can be vacuumed, and a queue leaves dead rows behind every
//! delivery. The load is a share of the peak that producers and a worker reached together just
//! before, so that the machine can keep up with it and any slowdown is visible.

use crate::environment::Environment;
use crate::error::Result;
use crate::figures::{Figure, Measurement, Meter};
use crate::load::{Load, Producers};
use crate::options::Plan;
use crate::output::notice;
use crate::processes::{ReceiverProcess, WorkerProcess};
use crate::received::{Counts, Watch};
use crate::scrape::Scrape;
use crate::steady::{SteadyLoad, sustain};
use anyhow::Context;
use std::time::{Duration, Instant};

const SECONDS: u64 = 600;
/// How long the peak is measured.
const PEAK_SECONDS: u64 = 20;
/// The load, as a share of the peak.
const SHARE: f64 = 0.8;
const PRODUCERS: u32 = 2;
/// Events in one transaction.
const ROWS: u32 = 50;
/// The most deliveries that are inserted and have not arrived. When the machine cannot keep up, the
/// producers insert less.
const BACKLOG: u64 = 50_000;
/// Time under load before the snapshot is taken; at most a tenth of the measurement.
const WARM_UP: Duration = Duration::from_secs(10);
/// Disk sproducer_load of a delivery in bytes, in addition to its payload, which is written twice.
const ROW_BYTES: f64 = 700.0;
const PEAK: &str = "peak: producers and a worker together";
const OPERATIONS: [(&str, &str); 3] = [
    ("fan_out", "fan out, mean"),
    ("lease", "lease, mean"),
    ("settle", "settle, mean"),
];

/// The counters at one moment.
struct Sample {
    at: Instant,
    counts: Counts,
    scrape: Scrape,
    dead_rows: u64,
}

/// Measures the peak, then holds a snapshot under a share of it.
pub async fn run(plan: &Plan, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let shape = plan.shape()?;
    notice(format_args!("  {PEAK}"));
    let seconds = plan.seconds(SECONDS);
    let work = SteadyLoad {
        rows: ROWS,
        rate: None,
        seconds: PEAK_SECONDS.min(seconds),
    };
    let peak = Environment::run(plan, async |env| sustain(env, plan, receiver, work).await).await?;
    let found = Measurement {
        figures: vec![Figure::new(PEAK, peak.rate, "/s")],
        cost: peak.cost,
    };
    let load = match plan.rate {
        Some(events) => f64::from(events) * f64::from(shape.fan_out),
        None => peak.rate * SHARE,
    };
    let disk = load * seconds as f64 * (2.0 * f64::from(shape.payload) + ROW_BYTES);
    notice(format_args!(
        "  a snapshot held for {seconds} s under {load:.0} deliveries/s, which needs about \
         {:.0} GiB of disk",
        disk / 1_073_741_824.0
    ));
    let held = async |env: &Environment| measure(env, plan, receiver, load).await;
    Ok(vec![found, Environment::run(plan, held).await?])
}

async fn measure(
    env: &Environment,
    plan: &Plan,
    receiver: &mut ReceiverProcess,
    load: f64,
) -> Result<Measurement> {
    let (shape, fan_out) = (plan.shape()?, u64::from(plan.shape()?.fan_out));
    let held_for = Duration::from_secs(plan.seconds(SECONDS));
    let warm_up = WARM_UP.min(held_for / 10);
    env.hooks(shape, receiver.address).await?;
    let expected = (load * (warm_up + held_for).as_secs_f64()) as u64;
    receiver.watch(&Watch::count(expected)).await?;
    let workers = vec![env.worker().await?];
    let producer_load = Load {
        producers: PRODUCERS,
        rows: ROWS,
        rate: Some(load / f64::from(shape.fan_out)),
        backlog_max: BACKLOG.max(u64::from(ROWS) * 10 * fan_out),
        lasts: warm_up + held_for,
        every: 0,
    };
    let meter = Meter::start(&workers);
    let mut producers = Producers::start(env, receiver, shape, producer_load).await?;
    producers.until(warm_up, receiver).await?;
    let snapshot = env
        .database
        .hold_snapshot()
        .await?
        .context("SQLite has no snapshot to hold")?;
    let mut samples = Vec::new();
    for tenths in [0, 1, 9, 10] {
        let counts = producers
            .until(warm_up + held_for * tenths / 10, receiver)
            .await?;
        samples.push(sample(env, &workers[0], counts).await?);
    }
    snapshot
        .release()
        .await
        .context("the snapshot was not held to the end")?;
    let (produced, _) = producers.finish(receiver).await?;
    let expected = produced.events * fan_out;
    receiver.until(expected).await?;
    let mut cost = meter.stop(&workers, expected);
    cost.repeats = env.finish(receiver, workers).await?;
    let mut figures = vec![Figure::new("requested load", load, "/s").beside(PEAK)];
    if let [first, first_end, last, last_end] = &samples[..] {
        figures.extend(compared(first, first_end, last, last_end));
    }
    Ok(Measurement { figures, cost })
}

async fn sample(env: &Environment, worker: &WorkerProcess, counts: Counts) -> Result<Sample> {
    let at = Instant::now();
    Ok(Sample {
        at,
        counts,
        scrape: worker.scrape().await?,
        dead_rows: env.database.dead_rows().await?.unwrap_or_default(),
    })
}

/// The first tenth of the time, and the last with its ratio to the first.
fn compared(first: &Sample, first_end: &Sample, last: &Sample, last_end: &Sample) -> Vec<Figure> {
    let pair = |what: &str, unit, of: &dyn Fn(&Sample, &Sample) -> f64| {
        let start = format!("first tenth: {what}");
        let end = Figure::new(format!("last tenth: {what}"), of(last, last_end), unit);
        let end = end.beside(&start);
        [Figure::new(start, of(first, first_end), unit), end]
    };
    let mut pairs = vec![pair("delivered", "/s", &|from, to| {
        (to.counts.unique - from.counts.unique) as f64 / (to.at - from.at).as_secs_f64()
    })];
    for (operation, what) in OPERATIONS {
        // 0 when there was no call.
        pairs.push(pair(what, "ms", &|from, to| {
            let (calls, seconds) = to.scrape.store_calls(&from.scrape, operation);
            seconds * 1e3 / calls.max(1.0)
        }));
    }
    pairs.push(pair("dead rows at its end", "rows", &|_, to| {
        to.dead_rows as f64
    }));
    pairs.concat()
}
