//! `latency`: the time from a commit to the receiver, which depends on polling, and from a request
//! to the API, which wakes the worker. The rate is low, so that nothing queues.

use crate::environment::Environment;
use crate::error::Result;
use crate::figures::{Figure, Measurement, Meter};
use crate::load::{Load, Producers, milliseconds};
use crate::options::Plan;
use crate::processes::ReceiverProcess;
use crate::publish;
use crate::received::Watch;
use std::time::Duration;

/// Events per second.
const RATE: u32 = 50;
const SECONDS: u64 = 10;

/// Inserts events one at a time, each in a transaction of its own, then publishes as many through
/// the API, and measures how long each takes.
pub async fn run(plan: &Plan, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let by_insert = Environment::run(plan, async |env| measure(env, plan, receiver).await).await?;
    let (rate, seconds) = (plan.rate.unwrap_or(RATE), plan.seconds(SECONDS));
    let by_request = Environment::run(plan, async |env| {
        publish::latency(env, plan.shape()?, receiver, rate, seconds).await
    });
    Ok(vec![by_insert, by_request.await?])
}

async fn measure(
    env: &Environment,
    plan: &Plan,
    receiver: &mut ReceiverProcess,
) -> Result<Measurement> {
    let (shape, rate) = (plan.shape()?, plan.rate.unwrap_or(RATE));
    let seconds = plan.seconds(SECONDS);
    env.hooks(shape, receiver.address).await?;
    let watch = Watch::sampled(u64::from(rate) * seconds * u64::from(shape.fan_out));
    receiver.watch(&watch).await?;
    let workers = vec![env.worker().await?];
    let load = Load {
        producers: 1,
        rows: 1,
        rate: Some(rate.into()),
        backlog_max: u64::MAX,
        lasts: Duration::from_secs(seconds),
        every: watch.every,
    };
    let meter = Meter::start(&workers);
    let producers = Producers::start(env, receiver, shape, load).await?;
    let (produced, _) = producers.finish(receiver).await?;
    let expected = produced.events * u64::from(shape.fan_out);
    receiver.until(expected).await?;
    let mut cost = meter.stop(&workers, expected);
    cost.repeats = env.finish(receiver, workers).await?;
    let waits = produced.waits(&receiver.arrivals().await?, f64::INFINITY);
    let figures = [(50, "p50"), (95, "p95"), (99, "p99")].map(|(percent, name)| {
        let name = format!("commit to receiver at {rate} events/s, {name}");
        Figure::new(name, milliseconds(&waits, percent), "ms")
    });
    Ok(Measurement {
        figures: figures.into(),
        cost,
    })
}
