//! `isolation`: the effect of hooks that hang, refuse connections or fail on healthy hooks.
//!
//! The cases of one run: nine healthy hooks alone, beside one hook that never answers, beside one
//! that never answers and has many due deliveries, beside one that is dead, and beside eight of
//! another account that answer 200 after 14 s; then five hundred healthy hooks alone, and beside five
//! hundred dead ones.

use crate::environment::{Environment, end};
use crate::error::{Result, Unusable};
use crate::figures::{Figure, Measurement, Meter};
use crate::load::{Load, Producers, milliseconds};
use crate::options::{Plan, Shape, event_type, payload};
use crate::output::notice;
use crate::processes::ReceiverProcess;
use crate::received::Watch;
use postrider_core::{HookSettings, NewEvent};
use postrider_store::HookChange;
use std::time::Duration;

/// Events per second.
const RATE: u32 = 200;
/// Events in one transaction.
const ROWS: u32 = 2;
const SECONDS: u64 = 30;
/// Number of healthy hooks beside the hanging one.
const FEW: u32 = 9;
/// Number of due deliveries of the hanging hook.
const DUE: u64 = 100_000;
/// Number of hooks, half of which are dead.
const MANY: u32 = 1_000;
/// Number of hooks that receive each event, half of which are dead.
const GROUP: u32 = 10;
/// Hooks of another account that accept slowly, after how long, and their due deliveries.
const SLOW: u32 = 8;
const SLOW_MS: u32 = 14_000;
const SLOW_DUE: u64 = 3_000;
const SLOW_ACCOUNT: &str = "slow";
/// Event type that only the hanging hook, or the slow ones, receive.
const WAITING: &str = "bench.waiting";
/// An address on which nothing listens.
const CLOSED: &str = "http://127.0.0.1:1";

/// One set of hooks under load.
struct Case {
    name: String,
    healthy: Shape,
    sick: SickHooks,
    /// The name of the case it is compared with.
    beside: Option<String>,
}

/// The unhealthy hooks beside the healthy ones.
#[derive(Clone, Copy)]
enum SickHooks {
    /// None.
    None,
    /// One that never answers and has `due` due deliveries.
    Hanging { due: u64 },
    /// `hooks` dead ones: half of them refuse connections, half answer 500.
    Dead { hooks: u32 },
    /// [`SLOW`] ones of another account that accept after [`SLOW_MS`].
    Slow,
}

/// Measures each case.
pub async fn run(plan: &Plan, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    for case in cases(plan)? {
        notice(format_args!("  {}", case.name));
        let measured = async |env: &Environment| measure(env, plan, receiver, &case).await;
        measurements.push(Environment::run(plan, measured).await?);
    }
    Ok(measurements)
}

fn cases(plan: &Plan) -> Result<[Case; 7]> {
    let few = plan.shape_of(FEW, FEW);
    let many = plan.hooks(MANY, 2 * GROUP);
    if !many.is_multiple_of(2 * GROUP) {
        return Err(Unusable::new(format!(
            "{many} hooks cannot be divided into healthy and dead ones: make --hooks a multiple \
             of {}",
            2 * GROUP
        )));
    }
    let half = plan.shape_of(many / 2, GROUP / 2);
    let due = plan.events(DUE);
    let alone = |hooks| format!("{hooks} healthy hooks alone");
    Ok([
        Case {
            name: alone(FEW),
            healthy: few,
            sick: SickHooks::None,
            beside: None,
        },
        Case {
            name: "beside one that never answers".into(),
            healthy: few,
            sick: SickHooks::Hanging { due: 0 },
            beside: Some(alone(FEW)),
        },
        Case {
            name: format!("beside one that never answers, {due} due behind it"),
            healthy: few,
            sick: SickHooks::Hanging { due },
            beside: Some(alone(FEW)),
        },
        Case {
            name: "beside one that refuses connections".into(),
            healthy: few,
            sick: SickHooks::Dead { hooks: 1 },
            beside: Some(alone(FEW)),
        },
        Case {
            name: format!("beside {SLOW} of another account that accept after 14 s"),
            healthy: few,
            sick: SickHooks::Slow,
            beside: Some(alone(FEW)),
        },
        Case {
            name: alone(half.hooks),
            healthy: half,
            sick: SickHooks::None,
            beside: None,
        },
        Case {
            name: format!(
                "beside {} dead ones, half refuse connections, half answer 500",
                many - half.hooks
            ),
            healthy: half,
            sick: SickHooks::Dead {
                hooks: many - half.hooks,
            },
            beside: Some(alone(half.hooks)),
        },
    ])
}

/// Inserts at a steady rate, measures what the healthy hooks receive meanwhile, then waits until
/// they have received everything.
async fn measure(
    env: &Environment,
    plan: &Plan,
    receiver: &mut ReceiverProcess,
    case: &Case,
) -> Result<Measurement> {
    let (seconds, rate) = (plan.seconds(SECONDS), plan.rate.unwrap_or(RATE));
    let shape = case.healthy;
    let fan_out = u64::from(shape.fan_out);
    let watch = Watch::sampled(u64::from(rate) * seconds * fan_out);
    receiver.watch(&watch).await?;
    let workers = vec![env.worker().await?];
    if let SickHooks::Hanging { due } = case.sick {
        let types = [event_type(0), WAITING.into()];
        let url = format!("http://{}/hang/0", receiver.address);
        let hook = env.hook(url, &types).await?;
        // A hook that is enabled starts with a probe. One without due deliveries is not paused
        // before, so that it starts to hang at its full concurrency.
        if due > 0 {
            env.change(hook, HookChange::Pause).await?;
            let waiting = NewEvent::from_json(WAITING, payload(shape.payload))?;
            env.insert(due, &[waiting]).await?;
            env.fanned_out(&workers[0], due).await?;
            env.change(hook, HookChange::Enable).await?;
        }
    }
    env.hooks(shape, receiver.address).await?;
    if let SickHooks::Dead { hooks } = case.sick {
        for number in 0..hooks {
            let url = match (number / shape.groups()).is_multiple_of(2) {
                true => format!("{CLOSED}/{number}"),
                false => format!("http://{}/fail/{number}", receiver.address),
            };
            env.hook(url, &[event_type(number % shape.groups())])
                .await?;
        }
    }
    if let SickHooks::Slow = case.sick {
        for number in 0..SLOW {
            let address = receiver.address;
            let url = format!("http://{address}/sick-200-100-request-{SLOW_MS}/{number}");
            env.hook_of(
                SLOW_ACCOUNT,
                url,
                &[WAITING.into()],
                HookSettings::default(),
            )
            .await?;
        }
        let mut waiting = NewEvent::from_json(WAITING, payload(shape.payload))?;
        waiting.account = SLOW_ACCOUNT.into();
        env.insert(SLOW_DUE, &[waiting]).await?;
        env.fanned_out(&workers[0], SLOW_DUE).await?;
    }
    let load = Load {
        producers: 1,
        rows: ROWS,
        rate: Some(rate.into()),
        backlog_max: u64::MAX,
        lasts: Duration::from_secs(seconds),
        every: watch.every,
    };
    let meter = Meter::start(&workers);
    let zero = receiver.zero().await?;
    let producers = Producers::start(env, receiver, shape, load).await?;
    let over = producers.end(zero);
    let (produced, in_time) = producers.finish(receiver).await?;
    let expected = produced.events * fan_out;
    receiver.until(expected).await?;
    let mut cost = meter.stop(&workers, expected);
    // Deliveries to sick hooks never complete, so only the healthy case waits for all.
    cost.repeats = match case.sick {
        SickHooks::None => env.finish(receiver, workers).await?,
        _ => end(receiver, workers).await?,
    };
    let arrivals = receiver.arrivals().await?;
    let waits = produced.waits(&arrivals, f64::INFINITY);
    let share = produced.waits(&arrivals, over).len() as f64 * 100.0 / waits.len().max(1) as f64;
    let figures = [
        (format!("delivered within {seconds} s"), share, "%"),
        (
            "delivered".to_owned(),
            in_time.unique as f64 / seconds as f64,
            "/s",
        ),
        ("p99".to_owned(), milliseconds(&waits, 99), "ms"),
    ];
    let named = |what: &str, case: &str| format!("{case}: {what}");
    let figure = |(what, value, unit): (String, f64, &'static str)| {
        let figure = Figure::new(named(&what, &case.name), value, unit);
        match &case.beside {
            Some(other) => figure.beside(named(&what, other)),
            None => figure,
        }
    };
    Ok(Measurement {
        figures: figures.map(figure).into(),
        cost,
    })
}
