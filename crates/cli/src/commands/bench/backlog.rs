//! `backlog`: whether deliveries that wait in great numbers slow down those that go out.

use super::environment::Lab;
use super::figures::{Figure, Measurement, Meter, rate};
use super::options::Stage;
use super::processes::ReceiverProcess;
use super::received::Watch;
use crate::failure::Result;
use anyhow::bail;
use postrider_store::HookChange;

const EVENTS: u64 = 1_000_000;
/// How many deliveries at the beginning, in the middle and at the end are looked at, of ten
/// times as many or more.
const PART: u64 = 100_000;

/// Lets deliveries gather behind paused hooks until all of them are due, enables the hooks, and
/// says at what rate the first, the middle and the last of them went out.
pub async fn run(stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    Lab::run(stage, async |lab| measure(lab, stage, receiver).await).await
}

async fn measure(
    lab: &Lab,
    stage: &Stage,
    receiver: &mut ReceiverProcess,
) -> Result<Vec<Measurement>> {
    let shape = stage.shape()?;
    let events = shape.events_of(stage.events(EVENTS));
    let count = events * u64::from(shape.fan_out);
    let hooks = lab.hooks(shape, receiver.address).await?;
    for hook in &hooks {
        lab.change(*hook, HookChange::Pause).await?;
    }
    lab.insert(events, &shape.events()?).await?;
    let part = PART.min(count / 10);
    let middle = (count - part) / 2;
    receiver
        .watch(&Watch {
            ranks: [0, middle, count - part]
                .iter()
                .flat_map(|before| [before + 1, before + part])
                .collect(),
            ..Watch::count(count)
        })
        .await?;
    let workers = vec![lab.worker().await?];
    lab.fanned_out(&workers[0], events).await?;
    let meter = Meter::start(&workers);
    for hook in &hooks {
        lab.change(*hook, HookChange::Enable).await?;
    }
    let seen = receiver.until(count).await?;
    let mut cost = meter.stop(&workers, count);
    cost.repeats = lab.finish(receiver, workers).await?;
    let reached = receiver.reached().await?;
    let [
        first_from,
        first_to,
        middle_from,
        middle_to,
        last_from,
        last_to,
    ] = reached[..]
    else {
        bail!("the receiver did not see the deliveries pass by");
    };
    let first = format!("the first {part} of {count}");
    Ok(vec![Measurement {
        figures: vec![
            Figure::new(&first, rate(part, first_from, first_to), "/s"),
            Figure::new(
                format!("the middle {part}"),
                rate(part, middle_from, middle_to),
                "/s",
            )
            .beside(&first),
            Figure::new(
                format!("the last {part}"),
                rate(part, last_from, last_to),
                "/s",
            )
            .beside(&first),
            Figure::new("all of them", rate(count, seen.first, seen.last), "/s"),
        ],
        cost,
    }])
}
