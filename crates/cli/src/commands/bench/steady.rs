//! `steady`: producers insert into the outbox while workers deliver.
//!
//! Without a rate the producers keep a backlog of a few thousand deliveries, so that workers
//! never wait; what a delivery then takes is the time to work through that backlog.

use super::figures::{Figure, Measurement, Meter};
use super::lab::Lab;
use super::load::{Pace, Producers, milliseconds};
use super::options::Stage;
use super::processes::ReceiverProcess;
use super::tally::Watch;
use super::throughput::drain;
use crate::failure::Result;
use crate::output::notice;
use std::time::{Duration, Instant};

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

async fn measure(lab: &Lab, stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Measurement> {
    let (shape, seconds) = (stage.shape()?, stage.seconds(SECONDS));
    let fan_out = u64::from(shape.fan_out);
    lab.hooks(shape, receiver.address).await?;
    let rate_max = stage
        .rate
        .map_or(RATE_MAX, |rate| u64::from(rate) * fan_out);
    let watch = Watch::moments(rate_max * seconds);
    receiver.watch(&watch).await?;
    let workers = vec![lab.worker().await?];
    let lasts = Duration::from_secs(seconds);
    let pace = Pace {
        producers: PRODUCERS,
        rows: ROWS,
        rate: stage.rate.map(f64::from),
        backlog_max: match stage.rate {
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
    let early_at = Instant::now();
    let late = producers.until(lasts, receiver).await?;
    let took = early_at.elapsed().as_secs_f64();
    let (produced, _) = producers.finish(receiver).await?;
    let expected = produced.events * fan_out;
    receiver.until(expected).await?;
    let mut cost = meter.stop(&workers, expected);
    cost.repeats = lab.finish(receiver, workers).await?;
    let waits = produced.waits(&receiver.arrivals().await?, f64::INFINITY);
    let rate = (late.unique - early.unique) as f64 / took;
    let load = match stage.rate {
        Some(rate) => format!("{PRODUCERS} producers, {rate} events/s"),
        None => format!("{PRODUCERS} producers, as fast as it is delivered"),
    };
    Ok(Measurement {
        figures: vec![
            Figure::new(format!("{load}: delivered"), rate, "/s").beside(DRAIN),
            Figure::new(format!("{load}: p50"), milliseconds(&waits, 50), "ms"),
            Figure::new(format!("{load}: p99"), milliseconds(&waits, 99), "ms"),
        ],
        cost,
    })
}
