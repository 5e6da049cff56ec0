//! `retention`: whether deliveries notice that a day of history goes (PostgreSQL).
//!
//! Sixty days of history, the first of them heavy and with deliveries that are held. Under a
//! steady load somebody reads history and stays, while that day is to go; then the reader ends,
//! and it goes. What is told is how many deliveries arrived a second and the longest time in
//! which none did, before, meanwhile and after.

use super::environment::Lab;
use super::figures::{Figure, Measurement, Meter};
use super::load::{Pace, Producers};
use super::options::Stage;
use super::processes::ReceiverProcess;
use super::received::Watch;
use crate::failure::Result;
use anyhow::{Context, bail};
use postrider_core::{Timestamp, monotonic_now};
use postrider_store::{HookChange, PastDay, Pruned, Retention, Store};
use std::time::{Duration, Instant};

/// How long each of the four parts lasts.
const SECONDS: u64 = 20;
/// Under load for so long, or for a tenth of a part, before the first.
const WARM_UP: Duration = Duration::from_secs(5);
/// Events a second.
const RATE: f64 = 5_000.0;
const PRODUCERS: u32 = 2;
/// Events in one transaction.
const ROWS: u32 = 25;
/// Days of history, today among them; the first is past its retention.
const DAYS: u32 = 60;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Events of the first day.
const HEAVY: u64 = 200_000;
/// Events of each of the other days.
const LIGHT: u64 = 1_000;
/// Of so many events of the first day one is held.
const HELD_EVERY: u64 = 10;
/// The event type of history.
const OLD: &str = "bench.old";
/// Rows in one statement, as a worker does it.
const BATCH: u32 = 5_000;
const BETWEEN_TURNS: Duration = Duration::from_millis(500);
/// For how long the workers keep events: the benchmark itself lets the day go.
const WORKERS_KEEP: &str = "3650d";

/// A part of the time under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Before,
    Wanted,
    Going,
    After,
}

impl Part {
    const EACH: [Self; 4] = [Self::Before, Self::Wanted, Self::Going, Self::After];

    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Wanted => "a day is to go and a reader keeps it",
            Self::Going => "the reader has ended and it goes",
            Self::After => "after",
        }
    }
}

/// Lets a day go under load.
pub async fn run(stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let measured = Lab::run(stage, async |lab| measure(lab, stage, receiver).await).await?;
    Ok(vec![measured])
}

async fn measure(lab: &Lab, stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Measurement> {
    let (shape, lasts) = (stage.shape()?, Duration::from_secs(stage.seconds(SECONDS)));
    let warm_up = WARM_UP.min(lasts / 10);
    let rate = stage.rate.map_or(RATE, f64::from);
    lab.hooks(shape, receiver.address).await?;
    let first = history(lab, stage, receiver).await?;
    let workers = vec![lab.worker_that_keeps(WORKERS_KEEP).await?];
    let all = warm_up + lasts * Part::EACH.len() as u32;
    let expected = rate * f64::from(shape.fan_out) * all.as_secs_f64();
    receiver.watch(&Watch::count(expected as u64)).await?;
    let pace = Pace {
        producers: PRODUCERS,
        rows: ROWS,
        rate: Some(rate),
        backlog_max: u64::MAX,
        lasts: all,
        every: 0,
    };
    let meter = Meter::start(&workers);
    let mut producers = Producers::start(lab, receiver, shape, pace).await?;
    let mut seen = producers.until(warm_up, receiver).await?;
    let mut figures = Vec::new();
    let (mut reader, mut pruned) = (None, Pruned::default());
    receiver.lap().await?;
    for (number, part) in (1..).zip(Part::EACH) {
        let (begun, end) = (monotonic_now(), warm_up + lasts * number);
        if part == Part::Wanted {
            reader = lab.scratch.read_history().await?;
        } else if let Some(reader) = reader.take() {
            reader
                .release()
                .await
                .context("the reader was cut before its end")?;
        }
        let letting_go = async {
            match part {
                Part::Wanted | Part::Going => {
                    let ends = (part == Part::Wanted).then(|| begun + lasts.mul_f64(0.9));
                    let_go(lab.store.as_ref(), &mut pruned, ends).await?;
                }
                Part::Before | Part::After => {}
            }
            Ok((monotonic_now() - begun).as_secs_f64() * 1e3)
        };
        let (now_seen, gone) = tokio::try_join!(producers.until(end, receiver), letting_go)?;
        let took = (monotonic_now() - begun).as_secs_f64();
        let delivered = (now_seen.unique - seen.unique) as f64 / took;
        seen = now_seen;
        let gap = receiver.lap().await? * 1e3;
        let name = part.name();
        figures.push(Figure::new(format!("{name}: delivered"), delivered, "/s"));
        figures.push(Figure::new(format!("{name}: longest gap"), gap, "ms"));
        if part == Part::Going {
            figures.push(Figure::new(format!("{name}: after"), gone, "ms"));
        }
        check(part, lab, &pruned, &first).await?;
    }
    let (produced, _) = producers.finish(receiver).await?;
    let expected = produced.events * u64::from(shape.fan_out);
    receiver.until(expected).await?;
    let mut cost = meter.stop(&workers, expected);
    cost.repeats = lab.finish(receiver, workers).await?;
    let freed = first.bytes as f64 / 1_048_576.0;
    figures.push(Figure::new("disk that came back", freed, "MiB"));
    figures.push(Figure::new(
        "held deliveries of the day that expired",
        pruned.expired as f64,
        "rows",
    ));
    Ok(Measurement { figures, cost })
}

/// The day that is to go.
struct First {
    at: Timestamp,
    held: u64,
    bytes: u64,
}

/// Makes sixty days of history; the first has deliveries that are held.
async fn history(lab: &Lab, stage: &Stage, receiver: &ReceiverProcess) -> Result<First> {
    let url = format!("http://{}/ok/{}", receiver.address, u32::MAX);
    let held_by = lab.hook(url, &[OLD.to_owned()]).await?;
    lab.change(held_by, HookChange::Pause).await?;
    let now = lab.store.now().await?;
    let heavy = stage.events(HEAVY);
    for ago in (0..DAYS).rev() {
        let at = now - DAY * ago;
        lab.store.upkeep(at, BATCH).await?;
        let is_first = ago + 1 == DAYS;
        lab.scratch
            .fill(&PastDay {
                at,
                event_type: OLD,
                payload: &super::options::payload(stage.shape()?.payload),
                events: if is_first { heavy } else { LIGHT.min(heavy) },
                held_every: is_first.then_some(HELD_EVERY),
                hook: held_by,
            })
            .await?;
    }
    let at = now - DAY * (DAYS - 1);
    let bytes = lab.scratch.bytes_of(at).await?;
    Ok(First {
        at,
        held: heavy / HELD_EVERY,
        bytes,
    })
}

/// Asks again and again that what is past goes: until it has gone, or until a moment before.
async fn let_go(store: &dyn Store, all: &mut Pruned, ends: Option<Instant>) -> Result<()> {
    let kept = DAY * (DAYS - 2);
    let keep = Retention {
        events: kept,
        attempts: kept,
    };
    while ends.is_none_or(|ends| monotonic_now() < ends) {
        let pruned = store.prune(&keep, store.now().await?, BATCH).await?;
        all.expired += pruned.expired;
        all.days.extend(pruned.days);
        all.waiting = pruned.waiting;
        if ends.is_none() && all.waiting.is_none() {
            break;
        }
        tokio::time::sleep(BETWEEN_TURNS).await;
    }
    Ok(())
}

/// Whether the day is there as long as somebody reads it, and has gone after that.
async fn check(part: Part, lab: &Lab, pruned: &Pruned, first: &First) -> Result<()> {
    let left = lab.scratch.bytes_of(first.at).await?;
    match part {
        Part::Before if left == 0 => bail!("the day went before its time"),
        Part::Wanted if pruned.waiting.is_none() => bail!("nothing waited for the reader"),
        Part::Wanted if left == 0 => bail!("the day went although it was being read"),
        Part::Going | Part::After if left > 0 => bail!(
            "the day has not gone: {}",
            pruned.waiting.as_deref().unwrap_or("nothing keeps it")
        ),
        Part::After if pruned.expired != first.held => bail!(
            "{} held deliveries of the day ended as expired, not {}",
            pruned.expired,
            first.held
        ),
        _ => Ok(()),
    }
}
