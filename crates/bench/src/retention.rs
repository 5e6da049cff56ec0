//! `retention`: whether pruning a day of history slows delivering down (PostgreSQL).
//!
//! There are sixty days of history, the first of them large and with held deliveries. Under a steady
//! load, a reader keeps its transaction open while that day is due for pruning; then the reader ends
//! and the day is pruned. Measured before, meanwhile and after: the deliveries per second, and the
//! longest gap between arrivals.

use crate::bench_database::PastDay;
use crate::environment::Environment;
use crate::error::Result;
use crate::figures::{Figure, Measurement, Meter};
use crate::load::{Load, Producers};
use crate::options::Plan;
use crate::processes::ReceiverProcess;
use crate::received::Watch;
use anyhow::{Context, bail};
use postrider_core::Timestamp;
use postrider_store::{HookChange, Pruned, Retention, Store};
use std::time::{Duration, Instant};

/// Duration of each of the four phases, in seconds.
const SECONDS: u64 = 20;
/// Time under load before the first phase; at most a tenth of a phase.
const WARM_UP: Duration = Duration::from_secs(5);
/// Events per second.
const RATE: f64 = 5_000.0;
const PRODUCERS: u32 = 2;
/// Events in one transaction.
const ROWS: u32 = 25;
/// Days of history, including today; the first is past its retention.
const DAYS: u32 = 60;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Number of events on the first day.
const HEAVY: u64 = 200_000;
/// Number of events on each other day.
const LIGHT: u64 = 1_000;
/// One event in this many of the first day is held.
const HELD_EVERY: u64 = 10;
/// The event type of the history.
const OLD: &str = "bench.old";
/// Rows in one statement, as in a worker.
const BATCH: u32 = 5_000;
/// The wait between two calls of `prune`.
const PRUNE_EVERY: Duration = Duration::from_millis(500);
/// `retention.events` of the workers, so that only the benchmark prunes.
const WORKERS_KEEP: &str = "3650d";

/// A phase of the time under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    Blocked,
    Pruning,
    After,
}

impl Phase {
    const EACH: [Self; 4] = [Self::Before, Self::Blocked, Self::Pruning, Self::After];

    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Blocked => "pruning blocked by a reader",
            Self::Pruning => "pruning after the reader",
            Self::After => "after",
        }
    }
}

/// Prunes a day under load.
pub async fn run(plan: &Plan, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let measured = Environment::run(plan, async |env| measure(env, plan, receiver).await).await?;
    Ok(vec![measured])
}

async fn measure(
    env: &Environment,
    plan: &Plan,
    receiver: &mut ReceiverProcess,
) -> Result<Measurement> {
    let (shape, lasts) = (plan.shape()?, Duration::from_secs(plan.seconds(SECONDS)));
    let warm_up = WARM_UP.min(lasts / 10);
    let rate = plan.rate.map_or(RATE, f64::from);
    env.hooks(shape, receiver.address).await?;
    let first = history(env, plan, receiver).await?;
    let workers = vec![env.worker_that_keeps(WORKERS_KEEP).await?];
    let all = warm_up + lasts * Phase::EACH.len() as u32;
    let expected = rate * f64::from(shape.fan_out) * all.as_secs_f64();
    receiver.watch(&Watch::count(expected as u64)).await?;
    let load = Load {
        producers: PRODUCERS,
        rows: ROWS,
        rate: Some(rate),
        backlog_max: u64::MAX,
        lasts: all,
        every: 0,
    };
    let meter = Meter::start(&workers);
    let mut producers = Producers::start(env, receiver, shape, load).await?;
    let mut seen = producers.until(warm_up, receiver).await?;
    let mut figures = Vec::new();
    let (mut reader, mut pruned) = (None, Pruned::default());
    receiver.lap().await?;
    for (number, phase) in (1..).zip(Phase::EACH) {
        let (begun, end) = (Instant::now(), warm_up + lasts * number);
        if phase == Phase::Blocked {
            reader = env.database.read_history().await?;
        } else if let Some(reader) = reader.take() {
            reader
                .release()
                .await
                .context("the connection of the reader was cut")?;
        }
        let pruning = async {
            match phase {
                Phase::Blocked | Phase::Pruning => {
                    let ends = (phase == Phase::Blocked).then(|| begun + lasts.mul_f64(0.9));
                    prune(env.store.as_ref(), &mut pruned, ends).await?;
                }
                Phase::Before | Phase::After => {}
            }
            Ok(begun.elapsed().as_secs_f64() * 1e3)
        };
        let (now_seen, took_ms) = tokio::try_join!(producers.until(end, receiver), pruning)?;
        let took = begun.elapsed().as_secs_f64();
        let delivered = (now_seen.unique - seen.unique) as f64 / took;
        seen = now_seen;
        let gap = receiver.lap().await? * 1e3;
        let name = phase.name();
        figures.push(Figure::new(format!("{name}: delivered"), delivered, "/s"));
        figures.push(Figure::new(format!("{name}: longest gap"), gap, "ms"));
        if phase == Phase::Pruning {
            figures.push(Figure::new(format!("{name}: duration"), took_ms, "ms"));
        }
        check(phase, env, &pruned, &first).await?;
    }
    let (produced, _) = producers.finish(receiver).await?;
    let expected = produced.events * u64::from(shape.fan_out);
    receiver.until(expected).await?;
    let mut cost = meter.stop(&workers, expected);
    cost.repeats = env.finish(receiver, workers).await?;
    let freed = first.bytes as f64 / 1_048_576.0;
    figures.push(Figure::new("disk sload freed", freed, "MiB"));
    figures.push(Figure::new(
        "held deliveries expired",
        pruned.expired as f64,
        "rows",
    ));
    Ok(Measurement { figures, cost })
}

/// The day to prune.
struct FirstDay {
    at: Timestamp,
    held: u64,
    bytes: u64,
}

/// Creates sixty days of history; the first has held deliveries.
async fn history(env: &Environment, plan: &Plan, receiver: &ReceiverProcess) -> Result<FirstDay> {
    let url = format!("http://{}/ok/{}", receiver.address, u32::MAX);
    let held_by = env.hook(url, &[OLD.to_owned()]).await?;
    env.change(held_by, HookChange::Pause).await?;
    let now = env.store.now().await?;
    let heavy = plan.events(HEAVY);
    for ago in (0..DAYS).rev() {
        let at = now - DAY * ago;
        env.store.upkeep(at, BATCH).await?;
        let is_first = ago + 1 == DAYS;
        env.database
            .fill(&PastDay {
                at,
                event_type: OLD,
                payload: &crate::options::payload(plan.shape()?.payload),
                events: if is_first { heavy } else { LIGHT.min(heavy) },
                held_every: is_first.then_some(HELD_EVERY),
                hook: held_by,
            })
            .await?;
    }
    let at = now - DAY * (DAYS - 1);
    let bytes = env.database.bytes_of(at).await?;
    Ok(FirstDay {
        at,
        held: heavy / HELD_EVERY,
        bytes,
    })
}

/// Prunes repeatedly until the first day is gone, or until `ends`.
async fn prune(store: &dyn Store, all: &mut Pruned, ends: Option<Instant>) -> Result<()> {
    let kept = DAY * (DAYS - 2);
    let keep = Retention {
        events: kept,
        attempts: kept,
    };
    while ends.is_none_or(|ends| Instant::now() < ends) {
        let pruned = store.prune(&keep, store.now().await?, BATCH).await?;
        all.expired += pruned.expired;
        all.days.extend(pruned.days);
        all.waiting = pruned.waiting;
        if ends.is_none() && all.waiting.is_none() {
            break;
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
    Ok(())
}

/// Checks that the day exists while it is read, and is gone afterwards.
async fn check(phase: Phase, env: &Environment, pruned: &Pruned, first: &FirstDay) -> Result<()> {
    let left = env.database.bytes_of(first.at).await?;
    match phase {
        Phase::Before if left == 0 => bail!("the day was pruned before it was due"),
        Phase::Blocked if pruned.waiting.is_none() => bail!("pruning did not wait for the reader"),
        Phase::Blocked if left == 0 => bail!("the day was pruned while it was being read"),
        Phase::Pruning | Phase::After if left > 0 => bail!(
            "the day was not pruned: {}",
            pruned.waiting.as_deref().unwrap_or("nothing blocks it")
        ),
        Phase::After if pruned.expired != first.held => bail!(
            "{} held deliveries of the day expired instead of {}",
            pruned.expired,
            first.held
        ),
        _ => Ok(()),
    }
}
