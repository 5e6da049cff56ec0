//! `held-xmin`: whether a transaction that is left open slows everything down (PostgreSQL).
//!
//! While a snapshot is held no dead row can be vacuumed, and a queue makes dead rows for every
//! delivery. The load is a share of what producers and a worker reached together just before, so
//! that the machine can keep up with it, and what grows slower shows.

use super::environment::Lab;
use super::figures::{Figure, Measurement, Meter};
use super::load::{Pace, Producers};
use super::options::Stage;
use super::processes::{ReceiverProcess, WorkerProcess};
use super::received::{Seen, Watch};
use super::scrape::Scrape;
use super::steady::{Work, sustain};
use crate::failure::Result;
use crate::output::notice;
use anyhow::Context;
use postrider_core::monotonic_now;
use std::time::{Duration, Instant};

const SECONDS: u64 = 600;
/// For how long the peak is looked for.
const PEAK_SECONDS: u64 = 20;
/// The load, as a share of the peak.
const SHARE: f64 = 0.8;
const PRODUCERS: u32 = 2;
/// Events in one transaction.
const ROWS: u32 = 50;
/// Deliveries that have been inserted and not arrived, at most: where the machine cannot keep
/// up with the load and its producers together, the load gives way.
const BACKLOG: u64 = 50_000;
/// Under load for so long, or for a tenth of the time, before the snapshot is taken.
const WARM_UP: Duration = Duration::from_secs(10);
/// What a delivery leaves on the disk beside its payload, which is written twice; in bytes.
const TRACES: f64 = 700.0;
const PEAK: &str = "peak: producers and a worker together";
const OPERATIONS: [(&str, &str); 3] = [
    ("fan_out", "fan out, mean"),
    ("lease", "lease, mean"),
    ("settle", "settle, mean"),
];

/// What was seen at one moment.
struct Look {
    at: Instant,
    seen: Seen,
    scrape: Scrape,
    dead_rows: u64,
}

/// Finds the peak, and holds a snapshot under a share of it.
pub async fn run(stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let shape = stage.shape()?;
    notice(format_args!("  {PEAK}"));
    let seconds = stage.seconds(SECONDS);
    let work = Work {
        rows: ROWS,
        rate: None,
        seconds: PEAK_SECONDS.min(seconds),
    };
    let peak = Lab::run(stage, async |lab| sustain(lab, stage, receiver, work).await).await?;
    let found = Measurement {
        figures: vec![Figure::new(PEAK, peak.rate, "/s")],
        cost: peak.cost,
    };
    let load = match stage.rate {
        Some(events) => f64::from(events) * f64::from(shape.fan_out),
        None => peak.rate * SHARE,
    };
    let disk = load * seconds as f64 * (2.0 * f64::from(shape.payload) + TRACES);
    notice(format_args!(
        "  a snapshot held for {seconds} s under {load:.0} deliveries a second, which takes about \
         {:.0} GiB of disk",
        disk / 1_073_741_824.0
    ));
    let held = async |lab: &Lab| measure(lab, stage, receiver, load).await;
    Ok(vec![found, Lab::run(stage, held).await?])
}

async fn measure(
    lab: &Lab,
    stage: &Stage,
    receiver: &mut ReceiverProcess,
    load: f64,
) -> Result<Measurement> {
    let (shape, fan_out) = (stage.shape()?, u64::from(stage.shape()?.fan_out));
    let held_for = Duration::from_secs(stage.seconds(SECONDS));
    let warm_up = WARM_UP.min(held_for / 10);
    lab.hooks(shape, receiver.address).await?;
    let expected = (load * (warm_up + held_for).as_secs_f64()) as u64;
    receiver.watch(&Watch::count(expected)).await?;
    let workers = vec![lab.worker().await?];
    let pace = Pace {
        producers: PRODUCERS,
        rows: ROWS,
        rate: Some(load / f64::from(shape.fan_out)),
        backlog_max: BACKLOG.max(u64::from(ROWS) * 10 * fan_out),
        lasts: warm_up + held_for,
        every: 0,
    };
    let meter = Meter::start(&workers);
    let mut producers = Producers::start(lab, receiver, shape, pace).await?;
    producers.until(warm_up, receiver).await?;
    let snapshot = lab
        .scratch
        .hold_snapshot()
        .await?
        .context("this database has no snapshots that hold anything up")?;
    let mut looks = Vec::new();
    for tenths in [0, 1, 9, 10] {
        let seen = producers
            .until(warm_up + held_for * tenths / 10, receiver)
            .await?;
        looks.push(look(lab, &workers[0], seen).await?);
    }
    snapshot
        .release()
        .await
        .context("the snapshot was not held to the end")?;
    let (produced, _) = producers.finish(receiver).await?;
    let expected = produced.events * fan_out;
    receiver.until(expected).await?;
    let mut cost = meter.stop(&workers, expected);
    cost.repeats = lab.finish(receiver, workers).await?;
    let mut figures = vec![Figure::new("load that is asked for", load, "/s").beside(PEAK)];
    if let [first, first_end, last, last_end] = &looks[..] {
        figures.extend(compared(first, first_end, last, last_end));
    }
    Ok(Measurement { figures, cost })
}

async fn look(lab: &Lab, worker: &WorkerProcess, seen: Seen) -> Result<Look> {
    let at = monotonic_now();
    Ok(Look {
        at,
        seen,
        scrape: worker.scrape().await?,
        dead_rows: lab.scratch.dead_rows().await?.unwrap_or_default(),
    })
}

/// The first tenth of the time, and the last beside it.
fn compared(first: &Look, first_end: &Look, last: &Look, last_end: &Look) -> Vec<Figure> {
    let pair = |what: &str, unit, of: &dyn Fn(&Look, &Look) -> f64| {
        let start = format!("first tenth: {what}");
        let end = Figure::new(format!("last tenth: {what}"), of(last, last_end), unit);
        let end = end.beside(&start);
        [Figure::new(start, of(first, first_end), unit), end]
    };
    let mut pairs = vec![pair("delivered", "/s", &|from, to| {
        (to.seen.unique - from.seen.unique) as f64 / (to.at - from.at).as_secs_f64()
    })];
    for (operation, what) in OPERATIONS {
        // 0 where no call was needed.
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
