//! `throughput`: a backlog is drained, and bare HTTP clients send the same bytes.

use crate::baseline::{BaselineRequest, hyper_loop, reqwest_loop};
use crate::environment::{Environment, bounded};
use crate::error::Result;
use crate::figures::{Cost, Figure, Measurement, Meter, rate};
use crate::options::{Plan, Shape, payload};
use crate::output::notice;
use crate::processes::ReceiverProcess;
use crate::received::Watch;
use http::{HeaderMap, HeaderValue};

/// Requests that the baselines keep in flight: the default limit of one hook.
const BARE_IN_FLIGHT: u32 = 64;
const EVENTS: u64 = 100_000;

/// Name of the figure that the others are compared with.
pub const BARE: &str = "bare hyper-util loop";

const REQWEST: &str = "bare reqwest loop";

/// A bare HTTP client.
#[derive(Clone, Copy, Debug)]
enum BareClient {
    /// `hyper-util`, the fastest.
    Hyper,
    /// `reqwest`, the most common.
    Reqwest,
}

/// Measures the baselines, then a drain for each shape.
pub async fn run(plan: &Plan, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let events = plan.events(EVENTS);
    let shapes = match plan.has_shape() {
        true => vec![plan.shape()?],
        false => vec![plan.shape_of(1, 1), plan.shape_of(10, 10)],
    };
    let mut measurements = vec![bare_limit(plan, receiver, events).await?];
    notice(format_args!("  {REQWEST}"));
    let (rate, cost) = bounded(plan, bare(BareClient::Reqwest, plan, receiver, events)).await?;
    measurements.push(Measurement {
        figures: vec![Figure::new(REQWEST, rate, "/s").beside(BARE)],
        cost,
    });
    for shape in shapes {
        notice(format_args!("  {}", shape.name()));
        let (rate, cost) = drain(plan, receiver, shape, events, 1).await?;
        let figure = Figure::new(format!("backlog drained to {}", shape.name()), rate, "/s");
        measurements.push(Measurement {
            figures: vec![figure.beside(BARE)],
            cost,
        });
    }
    Ok(measurements)
}

/// Measures the baseline that the others are compared with.
pub async fn bare_limit(
    plan: &Plan,
    receiver: &mut ReceiverProcess,
    count: u64,
) -> Result<Measurement> {
    notice(format_args!("  {BARE}"));
    let (rate, cost) = bounded(plan, bare(BareClient::Hyper, plan, receiver, count)).await?;
    Ok(Measurement {
        figures: vec![Figure::new(BARE, rate, "/s")],
        cost,
    })
}

/// Sends the bytes of a delivery `count` times through a bare client.
async fn bare(
    client: BareClient,
    plan: &Plan,
    receiver: &mut ReceiverProcess,
    count: u64,
) -> Result<(f64, Cost)> {
    receiver.watch(&Watch::count(1)).await?;
    let request = BaselineRequest {
        url: format!("http://{}/ok/0", receiver.address).parse()?,
        headers: headers(),
        body: body(plan.shape()?).into(),
    };
    let in_flight = plan
        .concurrency
        .unwrap_or(BARE_IN_FLIGHT)
        .min(BARE_IN_FLIGHT) as usize;
    let meter = Meter::start(&[]);
    let accepted = match client {
        BareClient::Hyper => hyper_loop(request, in_flight, count).await,
        BareClient::Reqwest => reqwest_loop(request, in_flight, count).await,
    };
    let cost = meter.stop(&[], count);
    let counts = receiver.seen().await?;
    if accepted != count || counts.accepted != count {
        anyhow::bail!("only {accepted} of {count} bare requests were answered");
    }
    Ok((rate(count, counts.first, counts.last), cost))
}

/// Inserts a backlog, starts workers, waits until every delivery has arrived, and returns the
/// deliveries per second.
pub async fn drain(
    plan: &Plan,
    receiver: &mut ReceiverProcess,
    shape: Shape,
    deliveries: u64,
    workers: usize,
) -> Result<(f64, Cost)> {
    Environment::run(plan, async |env| {
        measure(env, receiver, shape, deliveries, workers).await
    })
    .await
}

async fn measure(
    env: &Environment,
    receiver: &mut ReceiverProcess,
    shape: Shape,
    deliveries: u64,
    workers: usize,
) -> Result<(f64, Cost)> {
    env.hooks(shape, receiver.address).await?;
    let events = shape.events_of(deliveries);
    let expected = events * u64::from(shape.fan_out);
    env.insert(events, &shape.events()?).await?;
    receiver.watch(&Watch::count(expected)).await?;
    let meter = Meter::start(&[]);
    let mut running = Vec::new();
    for _ in 0..workers {
        running.push(env.worker().await?);
    }
    let counts = receiver.until(expected).await?;
    let mut cost = meter.stop(&running, expected);
    cost.repeats = env.finish(receiver, running).await?;
    Ok((rate(expected, counts.first, counts.last), cost))
}

/// The headers of a delivery of the profile `standard`.
fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json"),
        ("webhook-id", "01a1ff89-8721-7fd1-b96c-b71c62d08cce"),
        ("webhook-timestamp", "1795286165"),
        (
            "webhook-signature",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        ("accept-encoding", "identity"),
        ("user-agent", "Postrider/0.1.0"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

fn body(shape: Shape) -> String {
    format!(
        r#"{{"type":"bench.0","timestamp":"2026-11-21T19:16:05.536576Z","data":{}}}"#,
        payload(shape.payload)
    )
}
