//! `latency`: from the application's commit to the receiver, by polling, and from a request to
//! the API, which wakes the worker, at a calm rate.

use super::environment::Lab;
use super::figures::{Figure, Measurement, Meter};
use super::load::{Pace, Producers, milliseconds};
use super::options::Stage;
use super::processes::ReceiverProcess;
use super::publish;
use super::received::Watch;
use crate::failure::Result;
use std::time::Duration;

/// Events a second.
const RATE: u32 = 50;
const SECONDS: u64 = 10;

/// Inserts events one by one, each in a transaction of its own, then publishes as many through
/// the API, and says how long they took.
pub async fn run(stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let by_insert = Lab::run(stage, async |lab| measure(lab, stage, receiver).await).await?;
    let (rate, seconds) = (stage.rate.unwrap_or(RATE), stage.seconds(SECONDS));
    let by_request = Lab::run(stage, async |lab| {
        publish::latency(lab, stage.shape()?, receiver, rate, seconds).await
    });
    Ok(vec![by_insert, by_request.await?])
}

async fn measure(lab: &Lab, stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Measurement> {
    let (shape, rate) = (stage.shape()?, stage.rate.unwrap_or(RATE));
    let seconds = stage.seconds(SECONDS);
    lab.hooks(shape, receiver.address).await?;
    let watch = Watch::moments(u64::from(rate) * seconds * u64::from(shape.fan_out));
    receiver.watch(&watch).await?;
    let workers = vec![lab.worker().await?];
    let pace = Pace {
        producers: 1,
        rows: 1,
        rate: Some(rate.into()),
        backlog_max: u64::MAX,
        lasts: Duration::from_secs(seconds),
        every: watch.every,
    };
    let meter = Meter::start(&workers);
    let producers = Producers::start(lab, receiver, shape, pace).await?;
    let (produced, _) = producers.finish(receiver).await?;
    let expected = produced.events * u64::from(shape.fan_out);
    receiver.until(expected).await?;
    let mut cost = meter.stop(&workers, expected);
    cost.repeats = lab.finish(receiver, workers).await?;
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
