//! `isolation`: what one hook that never answers does to nine that do.

use super::lab::{Lab, ReceiverProcess, payload};
use super::report::{Finding, percentile};
use crate::failure::Result;
use postrider_core::NewEvent;
use std::time::{Duration, Instant};

const HEALTHY: u32 = 9;
/// Events a second, each for all ten hooks.
const RATE: u64 = 200;
/// Events inserted together.
const BATCH: u64 = 2;

/// Publishes for so many seconds and counts what the healthy hooks got by then.
pub async fn run(
    url: &str,
    receiver: &mut ReceiverProcess,
    seconds: u64,
    bytes: usize,
    sick: bool,
) -> Result<Vec<Finding>> {
    Lab::run(url, async |lab| {
        measure(lab, receiver, seconds, bytes, sick).await
    })
    .await
}

async fn measure(
    lab: &Lab,
    receiver: &mut ReceiverProcess,
    seconds: u64,
    bytes: usize,
    sick: bool,
) -> Result<Vec<Finding>> {
    for hook in 0..HEALTHY {
        lab.hook(format!("http://{}/ok/{hook}", receiver.address))
            .await?;
    }
    if sick {
        lab.hook(format!("http://{}/hang/{HEALTHY}", receiver.address))
            .await?;
    }
    receiver.reset().await?;
    let worker = lab.worker().await?;
    let events = vec![NewEvent::from_json("bench.event", payload(bytes))?; BATCH as usize];
    let zero = receiver.zero().await?;
    let mut committed = Vec::new();
    let begun = Instant::now();
    for n in 0..RATE / BATCH * seconds {
        let at = begun + Duration::from_micros(n * 1_000_000 * BATCH / RATE);
        tokio::time::sleep_until(at.into()).await;
        let ids = lab.store.enqueue(&events).await?;
        let at = zero.elapsed().as_secs_f64();
        committed.extend(ids.into_iter().map(|id| (id.0, at)));
    }
    let end = (begun + Duration::from_secs(seconds) - zero).as_secs_f64();
    tokio::time::sleep_until((begun + Duration::from_secs(seconds)).into()).await;
    let arrivals = receiver.arrivals().await?;
    worker.stop().await?;
    let mut waits = Vec::new();
    for (id, at) in &committed {
        let arrived = (0..HEALTHY).filter_map(|hook| arrivals.get(&(*id, hook)));
        waits.extend(
            arrived
                .filter(|arrival| **arrival <= end)
                .map(|arrival| arrival - at),
        );
    }
    waits.sort_by(f64::total_cmp);
    let expected = committed.len() * HEALTHY as usize;
    let of = match sick {
        true => "healthy hooks beside one that never answers",
        false => "the same without it",
    };
    let share = waits.len() as f64 * 100.0 / expected as f64;
    Ok(vec![
        Finding::new(format!("{of}: made within {seconds} s"), share, "%"),
        Finding::new(format!("{of}: p99"), percentile(&waits, 99) * 1e3, "ms"),
    ])
}
