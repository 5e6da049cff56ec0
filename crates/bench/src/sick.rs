//! `sick`: one hook whose receiver fails sometimes, or is dead for a while.
//!
//! A receiver that does not serve a share of the requests could take the rest at full speed. So a
//! backlog that does not end meanwhile is sent to one that answers everything after 20 ms, and the
//! same to each that fails: with a status or not at all, by chance in each attempt, or always for the
//! same events. The share that is reported is what arrived in a second, divided by what the healthy
//! receiver took and by the part that could be served. The last case is dead at first, then serves
//! everything.

use crate::environment::{Environment, end};
use crate::error::Result;
use crate::figures::{Figure, Measurement, Meter};
use crate::options::{Plan, event_type};
use crate::output::notice;
use crate::processes::ReceiverProcess;
use crate::received::Watch;
use postrider_core::{HookSettings, RetrySchedule, Span, monotonic_now};
use std::time::Duration;

/// More than a hook's default cap lets through in a second, at [`ANSWER_MS`] a request.
const EVENTS_A_SECOND: u64 = 4_000;
/// The time that a case is watched, and before that the time for connections and first failures.
const SECONDS: u64 = 5;
const WARM_UP: u64 = 2;
/// The time in which a receiver answers.
const ANSWER_MS: u32 = 20;
/// The waits between attempts.
const RETRIES: usize = 15;
const RETRY_WAIT: Span = Span::secs(1);
/// The deadline of a request to a receiver that does not answer.
const DEADLINE: Span = Span::secs(1);
const SHARES: &[u32] = &[5, 20, 50, 80];
const STATUSES: [u16; 3] = [400, 500, 503];
/// How long the dead receiver is dead, in seconds.
const DEAD: u64 = 10;
/// Its events, and the part of them, in percent, after which it counts as recovered: the last ones
/// wait for their retries.
const DEAD_EVENTS: u64 = 4_000;
const ENOUGH: u64 = 90;

/// A receiver that fails sometimes.
#[derive(Clone, Copy)]
struct Sickness {
    /// The status of a failure; `None` when nothing is answered.
    status: Option<u16>,
    /// The share of failures in percent.
    percent: u32,
    /// Whether the same events fail in each attempt.
    by_event: bool,
}

impl Sickness {
    const HEALTHY: Self = Self {
        status: Some(500),
        percent: 0,
        by_event: false,
    };

    /// The path of the receiver, of the form that [`crate::receiver`] describes.
    fn path(self) -> String {
        let status = self.status.unwrap_or_default();
        let what = if self.by_event { "event" } else { "request" };
        format!("sick-{status}-{}-{what}-{ANSWER_MS}/0", self.percent)
    }

    fn name(self) -> String {
        if self.percent == 0 {
            return "all served".into();
        }
        let what = if self.by_event { "events" } else { "requests" };
        let failing = match self.status {
            Some(status) => format!("answered {status}"),
            None => "not answered".into(),
        };
        format!("{} % of the {what} {failing}", self.percent)
    }

    /// The part of the attempts that is served.
    fn served(self) -> f64 {
        1.0 - f64::from(self.percent) / 100.0
    }
}

/// Measures the healthy receiver, then each sick one, then the dead one.
pub async fn run(plan: &Plan, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let (healthy, measured) = measure(plan, receiver, Sickness::HEALTHY).await?;
    let mut measurements = vec![measured];
    let statuses = STATUSES.map(Some).into_iter().chain([None]);
    let shares = plan.small(SHARES, &[50]);
    let manners: &[bool] = plan.small(&[false, true], &[false]);
    for status in statuses {
        for &by_event in manners {
            for &percent in shares {
                let sickness = Sickness {
                    status,
                    percent,
                    by_event,
                };
                let (rate, mut measured) = measure(plan, receiver, sickness).await?;
                let share = rate / (healthy * sickness.served());
                let name = format!("{}: share", sickness.name());
                measured.figures.push(Figure::new(name, share, ""));
                measurements.push(measured);
            }
        }
    }
    measurements.push(dead(plan, receiver).await?);
    Ok(measurements)
}

/// Sends a backlog to one receiver. Returns the deliveries a second.
async fn measure(
    plan: &Plan,
    receiver: &mut ReceiverProcess,
    sickness: Sickness,
) -> Result<(f64, Measurement)> {
    let name = sickness.name();
    notice(format_args!("  {name}"));
    let (warm_up, lasts) = (plan.small(WARM_UP, 1), plan.seconds(SECONDS));
    let events = EVENTS_A_SECOND * (warm_up + lasts);
    Environment::run(plan, async |env| {
        receiver.watch(&Watch::count(events)).await?;
        prepare(env, plan, receiver, sickness, events).await?;
        let workers = vec![env.worker().await?];
        tokio::time::sleep(Duration::from_secs(warm_up)).await;
        let meter = Meter::start(&workers);
        let (began, before) = (monotonic_now(), receiver.seen().await?);
        tokio::time::sleep(Duration::from_secs(lasts)).await;
        let after = receiver.seen().await?;
        let took = (monotonic_now() - began).as_secs_f64();
        let delivered = after.unique - before.unique;
        let mut cost = meter.stop(&workers, delivered);
        cost.repeats = end(receiver, workers).await?;
        let rate = delivered as f64 / took;
        let figure = Figure::new(format!("{name}: delivered"), rate, "/s");
        let measurement = Measurement {
            figures: vec![figure],
            cost,
        };
        Ok((rate, measurement))
    })
    .await
}

/// Watches a receiver that answers 500 to everything, then mends it and waits for the backlog.
async fn dead(plan: &Plan, receiver: &mut ReceiverProcess) -> Result<Measurement> {
    let dead = plan.small(DEAD, 2);
    let name = format!("dead for {dead} s");
    notice(format_args!("  {name}"));
    let events = plan.events(DEAD_EVENTS);
    let sickness = Sickness {
        percent: 100,
        ..Sickness::HEALTHY
    };
    Environment::run(plan, async |env| {
        receiver.watch(&Watch::count(events)).await?;
        prepare(env, plan, receiver, sickness, events).await?;
        let meter = Meter::start(&[]);
        let workers = vec![env.worker().await?];
        // What was in flight when the hook was backed off is no probe.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = receiver.seen().await?.sick;
        tokio::time::sleep(Duration::from_secs(dead)).await;
        let probes = receiver.seen().await?.sick - before;
        receiver.mend().await?;
        let counts = receiver.until(events * ENOUGH / 100).await?;
        let mut cost = meter.stop(&workers, counts.unique);
        cost.repeats = end(receiver, workers).await?;
        let to_drain = counts.last - counts.first;
        Ok(Measurement {
            figures: vec![
                Figure::new(
                    format!("{name}: requests meanwhile"),
                    probes as f64 / dead as f64,
                    "/s",
                ),
                Figure::new(
                    format!("{name}: first success to {ENOUGH} % of {events}"),
                    to_drain,
                    "s",
                ),
            ],
            cost,
        })
    })
    .await
}

/// Registers the hook and inserts the events.
async fn prepare(
    env: &Environment,
    plan: &Plan,
    receiver: &ReceiverProcess,
    sickness: Sickness,
    events: u64,
) -> Result<()> {
    let shape = plan.shape_of(1, 1);
    let url = format!("http://{}/{}", receiver.address, sickness.path());
    let settings = HookSettings {
        retry_schedule: Some(RetrySchedule::new(vec![RETRY_WAIT; RETRIES])),
        timeout: Some(DEADLINE),
        ..HookSettings::default()
    };
    env.hook_of("default", url, &[event_type(0)], settings)
        .await?;
    env.insert(events, &shape.events()?).await
}
