//! `steady`: producers insert into the outbox while workers deliver.
//!
//! Without a rate the producers keep a backlog of a few thousand deliveries, so that workers
//! never wait; what a delivery then takes is the time to work through that backlog.

use super::environment::Lab;
use super::figures::{Cost, Figure, Measurement, Meter};
use super::load::{Pace, Producers, milliseconds};
use super::options::Stage;
use super::processes::ReceiverProcess;
use super::received::Watch;
use super::throughput::drain;
use crate::failure::Result;
use crate::output::notice;
use postrider_core::monotonic_now;
use std::time::Duration;

const SECONDS: u64 = 20;
const PRODUCERS: u32 = 2;
/// Events in one transaction.
const ROWS: u32 = 10;
/// Deliveries that have been inserted and not arrived, at most, where no rate is set.
const BACKLOG: u64 = 5_000;
/// No machine of today delivers more a second: for how many arrivals memory is kept.
const RATE_MAX: u64 = 100_000;
/// Deliveries of the drain that it is compared with.
const DRAINED: u64 = 50_000;
const DRAIN: &str = "backlog drained, nothing inserted meanwhile";

/// A drain, and the same with producers at work.
pub async fn run(stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    notice(format_args!("  {DRAIN}"));
    let (rate, cost) = drain(stage, receiver, stage.shape()?, stage.events(DRAINED), 1).await?;
    let drained = Measurement {
        figures: vec![Figure::new(DRAIN, rate, "/s")],
        cost,
    };
    notice("  producers at work");
    let measured = Lab::run(stage, async |lab| measure(lab, stage, receiver).await).await?;
    Ok(vec![drained, measured])
}

/// How producers work beside workers.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Events in one transaction.
    pub rows: u32,
    /// Events a second; as many as are delivered if `None`.
    pub rate: Option<u32>,
    /// For how long.
    pub seconds: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Worked {
    /// Deliveries a second, after the first tenth of the time.
    pub rate: f64,
    /// How long each of those that are remembered took, sorted.
    pub waits: Vec<f64>,
    /// What it cost.
    pub cost: Cost,
}

async fn measure(lab: &Lab, stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Measurement> {
    let work = Work {
        rows: ROWS,
        rate: stage.rate,
        seconds: stage.seconds(SECONDS),
    };
    let worked = sustain(lab, stage, receiver, work).await?;
    let load = match stage.rate {
        Some(rate) => format!("{PRODUCERS} producers, {rate} events/s"),
        None => format!("{PRODUCERS} producers, as fast as it is delivered"),
    };
    let (rate, waits) = (worked.rate, worked.waits);
    Ok(Measurement {
        figures: vec![
            Figure::new(format!("{load}: delivered"), rate, "/s").beside(DRAIN),
            Figure::new(format!("{load}: p50"), milliseconds(&waits, 50), "ms"),
            Figure::new(format!("{load}: p99"), milliseconds(&waits, 99), "ms"),
        ],
        cost: worked.cost,
    })
}

/// Producers and a worker at work together on an empty database.
pub async fn sustain(
    lab: &Lab,
    stage: &Stage,
    receiver: &mut ReceiverProcess,
    work: Work,
) -> Result<Worked> {
    let shape = stage.shape()?;
    let fan_out = u64::from(shape.fan_out);
    lab.hooks(shape, receiver.address).await?;
    let rate_max = work.rate.map_or(RATE_MAX, |rate| u64::from(rate) * fan_out);
    let watch = Watch::moments(rate_max * work.seconds);
    receiver.watch(&watch).await?;
    let workers = vec![lab.worker().await?];
    let lasts = Duration::from_secs(work.seconds);
    let pace = Pace {
        producers: PRODUCERS,
        rows: work.rows,
        rate: work.rate.map(f64::from),
        backlog_max: match work.rate {
            Some(_) => u64::MAX,
            None => BACKLOG.max(10 * fan_out),
        },
        lasts,
        every: watch.every,
    };
    let meter = Meter::start(&workers);
    let mut producers = Producers::start(lab, receiver, shape, pace).await?;
    // The first tenth is for the worker to get going.
    let early = producers.until(lasts / 10, receiver).await?;
    let early_at = monotonic_now();
    let late = producers.until(lasts, receiver).await?;
    let took = (monotonic_now() - early_at).as_secs_f64();
    let (produced, _) = producers.finish(receiver).await?;
    let expected = produced.events * fan_out;
    receiver.until(expected).await?;
    let mut cost = meter.stop(&workers, expected);
    cost.repeats = lab.finish(receiver, workers).await?;
    Ok(Worked {
        rate: (late.unique - early.unique) as f64 / took,
        waits: produced.waits(&receiver.arrivals().await?, f64::INFINITY),
        cost,
    })
}
