//! `backlog`: whether a large number of due deliveries slows down delivering.

use crate::environment::Environment;
use crate::error::Result;
use crate::figures::{Figure, Measurement, Meter, rate};
use crate::options::Plan;
use crate::processes::ReceiverProcess;
use crate::received::Watch;
use anyhow::bail;
use postrider_store::HookChange;

const EVENTS: u64 = 1_000_000;
/// Number of deliveries measured at the beginning, in the middle and at the end; at most a tenth of
/// all.
const PART: u64 = 100_000;

/// Creates due deliveries of paused hooks, enables the hooks, and measures the rate of the first,
/// the middle and the last deliveries.
pub async fn run(plan: &Plan, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    Environment::run(plan, async |env| measure(env, plan, receiver).await).await
}

async fn measure(
    env: &Environment,
    plan: &Plan,
    receiver: &mut ReceiverProcess,
) -> Result<Vec<Measurement>> {
    let shape = plan.shape()?;
    let events = shape.events_of(plan.events(EVENTS));
    let count = events * u64::from(shape.fan_out);
    let hooks = env.hooks(shape, receiver.address).await?;
    for hook in &hooks {
        env.change(*hook, HookChange::Pause).await?;
    }
    env.insert(events, &shape.events()?).await?;
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
    let workers = vec![env.worker().await?];
    env.fanned_out(&workers[0], events).await?;
    let meter = Meter::start(&workers);
    for hook in &hooks {
        env.change(*hook, HookChange::Enable).await?;
    }
    let counts = receiver.until(count).await?;
    let mut cost = meter.stop(&workers, count);
    cost.repeats = env.finish(receiver, workers).await?;
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
        bail!("the receiver did not record when the deliveries arrived");
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
            Figure::new("all of them", rate(count, counts.first, counts.last), "/s"),
        ],
        cost,
    }])
}
