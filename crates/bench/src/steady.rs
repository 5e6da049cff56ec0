//! `steady`: producers insert into the outbox while workers deliver.
//!
//! Without a rate the producers keep a backlog of a few thousand deliveries, so that workers always
//! have work; the latency of a delivery is then the time to work through that backlog.

use crate::environment::Environment;
use crate::error::Result;
use crate::figures::{Cost, Figure, Measurement, Meter};
use crate::load::{Load, Producers, milliseconds};
use crate::options::Plan;
use crate::output::notice;
use crate::processes::ReceiverProcess;
use crate::received::Watch;
use crate::throughput::drain;
use std::time::{Duration, Instant};

const SECONDS: u64 = 20;
const PRODUCERS: u32 = 2;
/// Events in one transaction.
const ROWS: u32 = 10;
/// The most deliveries that are inserted and have not arrived, when no rate is set.
const BACKLOG: u64 = 5_000;
/// Deliveries per second for which memory is reserved; more than any machine reaches.
const RATE_MAX: u64 = 100_000;
/// Deliveries of the drain for comparison.
const DRAINED: u64 = 50_000;
const DRAIN: &str = "backlog drained, nothing inserted meanwhile";

/// Measures a drain, then the same with producers at work.
pub async fn run(plan: &Plan, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    notice(format_args!("  {DRAIN}"));
    let (rate, cost) = drain(plan, receiver, plan.shape()?, plan.events(DRAINED), 1).await?;
    let drained = Measurement {
        figures: vec![Figure::new(DRAIN, rate, "/s")],
        cost,
    };
    notice("  producers at work");
    let measured = Environment::run(plan, async |env| measure(env, plan, receiver).await).await?;
    Ok(vec![drained, measured])
}

/// The load of producers beside a worker.
#[derive(Clone, Copy, Debug)]
pub struct SteadyLoad {
    /// Events in one transaction.
    pub rows: u32,
    /// Events per second; as many as are delivered if `None`.
    pub rate: Option<u32>,
    /// Duration in seconds.
    pub seconds: u64,
}

/// The result of a [`SteadyLoad`].
#[derive(Debug)]
pub struct SteadyResult {
    /// Deliveries per second, without the first tenth of the time.
    pub rate: f64,
    /// Times from commit to arrival of the sampled events in seconds, sorted.
    pub waits: Vec<f64>,
    /// Its cost.
    pub cost: Cost,
}

async fn measure(
    env: &Environment,
    plan: &Plan,
    receiver: &mut ReceiverProcess,
) -> Result<Measurement> {
    let work = SteadyLoad {
        rows: ROWS,
        rate: plan.rate,
        seconds: plan.seconds(SECONDS),
    };
    let worked = sustain(env, plan, receiver, work).await?;
    let load = match plan.rate {
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
    env: &Environment,
    plan: &Plan,
    receiver: &mut ReceiverProcess,
    work: SteadyLoad,
) -> Result<SteadyResult> {
    let shape = plan.shape()?;
    let fan_out = u64::from(shape.fan_out);
    env.hooks(shape, receiver.address).await?;
    let rate_max = work.rate.map_or(RATE_MAX, |rate| u64::from(rate) * fan_out);
    let watch = Watch::sampled(rate_max * work.seconds);
    receiver.watch(&watch).await?;
    let workers = vec![env.worker().await?];
    let lasts = Duration::from_secs(work.seconds);
    let load = Load {
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
    let mut producers = Producers::start(env, receiver, shape, load).await?;
    // The first tenth is for the worker to get going.
    let early = producers.until(lasts / 10, receiver).await?;
    let early_at = Instant::now();
    let late = producers.until(lasts, receiver).await?;
    let took = early_at.elapsed().as_secs_f64();
    let (produced, _) = producers.finish(receiver).await?;
    let expected = produced.events * fan_out;
    receiver.until(expected).await?;
    let mut cost = meter.stop(&workers, expected);
    cost.repeats = env.finish(receiver, workers).await?;
    Ok(SteadyResult {
        rate: (late.unique - early.unique) as f64 / took,
        waits: produced.waits(&receiver.arrivals().await?, f64::INFINITY),
        cost,
    })
}
