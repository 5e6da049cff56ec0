//! `latency`: from the application's commit to the receiver, by polling, and from a request to
//! the API, which wakes the worker, at a calm rate.

use super::lab::{Lab, ReceiverProcess, payload};
use super::publish;
use super::report::{Finding, percentile};
use crate::failure::Result;
use postrider_core::NewEvent;
use std::time::{Duration, Instant};

/// Events a second.
const RATE: u64 = 50;

/// Inserts events one by one, each in a transaction of its own, then publishes as many through
/// the API, and says how long they took.
pub async fn run(
    url: &str,
    receiver: &mut ReceiverProcess,
    seconds: u64,
    bytes: usize,
) -> Result<Vec<Finding>> {
    let by_insert = Lab::run(url, async |lab| {
        measure(lab, receiver, seconds, bytes).await
    });
    let by_insert = by_insert.await?;
    let by_request = Lab::run(url, async |lab| {
        publish::latency(lab, receiver, seconds, bytes).await
    });
    Ok([by_insert, by_request.await?].concat())
}

async fn measure(
    lab: &Lab,
    receiver: &mut ReceiverProcess,
    seconds: u64,
    bytes: usize,
) -> Result<Vec<Finding>> {
    lab.hook(format!("http://{}/ok/0", receiver.address))
        .await?;
    receiver.reset().await?;
    let worker = lab.worker().await?;
    let event = NewEvent::from_json("bench.event", payload(bytes))?;
    let zero = receiver.zero().await?;
    let mut committed = Vec::new();
    let begun = Instant::now();
    for n in 0..RATE * seconds {
        let at = begun + Duration::from_micros(n * 1_000_000 / RATE);
        tokio::time::sleep_until(at.into()).await;
        let id = lab.store.enqueue(std::slice::from_ref(&event)).await?[0];
        committed.push((id.0, zero.elapsed().as_secs_f64()));
    }
    receiver.until(committed.len() as u64).await?;
    let arrivals = receiver.arrivals().await?;
    worker.stop().await?;
    let mut waits: Vec<f64> = committed
        .iter()
        .filter_map(|(id, at)| Some(arrivals.get(&(*id, 0))? - at))
        .collect();
    waits.sort_by(f64::total_cmp);
    Ok([(50, "p50"), (95, "p95"), (99, "p99")]
        .map(|(percent, name)| {
            let milliseconds = percentile(&waits, percent) * 1e3;
            Finding::new(format!("commit to receiver, {name}"), milliseconds, "ms")
        })
        .into())
}
