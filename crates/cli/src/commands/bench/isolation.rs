//! `isolation`: what hooks that hang, refuse or fail do to those that do not.
//!
//! Each case is measured in turn in the same run: nine healthy hooks alone, beside one that
//! never answers, and beside the same with many deliveries due behind it; then five hundred
//! healthy hooks alone, and beside five hundred dead ones.

use super::environment::{Lab, end};
use super::figures::{Figure, Measurement, Meter};
use super::load::{Pace, Producers, milliseconds};
use super::options::{Shape, Stage, event_type, payload};
use super::processes::ReceiverProcess;
use super::received::Watch;
use crate::failure::{Misuse, Result};
use crate::output::notice;
use postrider_core::NewEvent;
use postrider_store::HookChange;
use std::time::Duration;

/// Events a second.
const RATE: u32 = 200;
/// Events in one transaction.
const ROWS: u32 = 2;
const SECONDS: u64 = 30;
/// Healthy hooks beside the one that hangs.
const FEW: u32 = 9;
/// Deliveries that are due behind the one that hangs.
const DUE: u64 = 100_000;
/// All hooks, where half of them are dead.
const MANY: u32 = 1_000;
/// Of them each event goes to so many, half of which are dead.
const GROUP: u32 = 10;
/// Events of this type are only for the hook that hangs.
const WAITING: &str = "bench.waiting";
/// Nobody listens there.
const CLOSED: &str = "http://127.0.0.1:1";

/// One set of hooks under load.
struct Case {
    name: String,
    healthy: Shape,
    sick: Sick,
    /// The name of the case that it is compared with.
    beside: Option<String>,
}

/// The hooks beside the healthy ones.
#[derive(Clone, Copy)]
enum Sick {
    /// None.
    None,
    /// One that never answers, with so many deliveries due behind it.
    Hanging { due: u64 },
    /// So many that are dead: half of them refuse connections, half answer 500.
    Dead { hooks: u32 },
}

/// The cases in turn.
pub async fn run(stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    for case in cases(stage)? {
        notice(format_args!("  {}", case.name));
        let measured = async |lab: &Lab| measure(lab, stage, receiver, &case).await;
        measurements.push(Lab::run(stage, measured).await?);
    }
    Ok(measurements)
}

fn cases(stage: &Stage) -> Result<[Case; 5]> {
    let few = stage.shape_of(FEW, FEW);
    let many = stage.hooks(MANY, 2 * GROUP);
    if !many.is_multiple_of(2 * GROUP) {
        return Err(Misuse::new(format!(
            "{many} hooks cannot be shared out over healthy and dead ones: make --hooks a \
             multiple of {}",
            2 * GROUP
        )));
    }
    let half = stage.shape_of(many / 2, GROUP / 2);
    let due = stage.events(DUE);
    let alone = |hooks| format!("{hooks} healthy hooks alone");
    Ok([
        Case {
            name: alone(FEW),
            healthy: few,
            sick: Sick::None,
            beside: None,
        },
        Case {
            name: "beside one that never answers".into(),
            healthy: few,
            sick: Sick::Hanging { due: 0 },
            beside: Some(alone(FEW)),
        },
        Case {
            name: format!("beside one that never answers, {due} due behind it"),
            healthy: few,
            sick: Sick::Hanging { due },
            beside: Some(alone(FEW)),
        },
        Case {
            name: alone(half.hooks),
            healthy: half,
            sick: Sick::None,
            beside: None,
        },
        Case {
            name: format!(
                "beside {} dead ones, half refuse connections, half answer 500",
                many - half.hooks
            ),
            healthy: half,
            sick: Sick::Dead {
                hooks: many - half.hooks,
            },
            beside: Some(alone(half.hooks)),
        },
    ])
}

/// Publishes at a steady rate and looks at what the healthy hooks got meanwhile, and when; then
/// waits until they have everything.
async fn measure(
    lab: &Lab,
    stage: &Stage,
    receiver: &mut ReceiverProcess,
    case: &Case,
) -> Result<Measurement> {
    let (seconds, rate) = (stage.seconds(SECONDS), stage.rate.unwrap_or(RATE));
    let shape = case.healthy;
    let fan_out = u64::from(shape.fan_out);
    let watch = Watch::moments(u64::from(rate) * seconds * fan_out);
    receiver.watch(&watch).await?;
    let workers = vec![lab.worker().await?];
    if let Sick::Hanging { due } = case.sick {
        let types = [event_type(0), WAITING.into()];
        let url = format!("http://{}/hang/0", receiver.address);
        let hook = lab.hook(url, &types).await?;
        // Enabled again, it begins with a probe; without anything due it hangs from full pace.
        if due > 0 {
            lab.change(hook, HookChange::Pause).await?;
            let waiting = NewEvent::from_json(WAITING, payload(shape.payload))?;
            lab.insert(due, &[waiting]).await?;
            lab.fanned_out(&workers[0], due).await?;
            lab.change(hook, HookChange::Enable).await?;
        }
    }
    lab.hooks(shape, receiver.address).await?;
    if let Sick::Dead { hooks } = case.sick {
        for number in 0..hooks {
            let url = match (number / shape.groups()).is_multiple_of(2) {
                true => format!("{CLOSED}/{number}"),
                false => format!("http://{}/fail/{number}", receiver.address),
            };
            lab.hook(url, &[event_type(number % shape.groups())])
                .await?;
        }
    }
    let pace = Pace {
        producers: 1,
        rows: ROWS,
        rate: Some(rate.into()),
        backlog_max: u64::MAX,
        lasts: Duration::from_secs(seconds),
        every: watch.every,
    };
    let meter = Meter::start(&workers);
    let zero = receiver.zero().await?;
    let producers = Producers::start(lab, receiver, shape, pace).await?;
    let over = producers.end(zero);
    let (produced, in_time) = producers.finish(receiver).await?;
    let expected = produced.events * fan_out;
    receiver.until(expected).await?;
    let mut cost = meter.stop(&workers, expected);
    // What is meant for the sick hooks is not waited for.
    cost.repeats = match case.sick {
        Sick::None => lab.finish(receiver, workers).await?,
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
