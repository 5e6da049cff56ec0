//! `throughput`: draining a backlog, beside what the bare HTTP clients make of the same bytes.

use super::environment::{Lab, bounded};
use super::figures::{Cost, Figure, Measurement, Meter, rate};
use super::options::{Shape, Stage, payload};
use super::processes::ReceiverProcess;
use super::received::Watch;
use crate::failure::Result;
use crate::output::notice;
use http::{HeaderMap, HeaderValue};
use postrider_worker::{BareRequest, hyper_loop, reqwest_loop};

/// Requests the bare loops keep in flight: what one hook may have by default.
const BARE_IN_FLIGHT: u32 = 64;
const EVENTS: u64 = 100_000;

/// The limit that the others are compared with.
pub const BARE: &str = "bare hyper-util loop";

const REQWEST: &str = "bare reqwest loop";

/// Which bare client.
#[derive(Clone, Copy, Debug)]
enum Bare {
    /// `hyper-util`, the limit.
    Hyper,
    /// `reqwest`.
    Reqwest,
}

/// The bare clients and the drains in turn.
pub async fn run(stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let events = stage.events(EVENTS);
    let shapes = match stage.has_shape() {
        true => vec![stage.shape()?],
        false => vec![stage.shape_of(1, 1), stage.shape_of(10, 10)],
    };
    let mut measurements = vec![bare_limit(stage, receiver, events).await?];
    notice(format_args!("  {REQWEST}"));
    let (rate, cost) = bounded(stage, bare(Bare::Reqwest, stage, receiver, events)).await?;
    measurements.push(Measurement {
        figures: vec![Figure::new(REQWEST, rate, "/s").beside(BARE)],
        cost,
    });
    for shape in shapes {
        notice(format_args!("  {}", shape.name()));
        let (rate, cost) = drain(stage, receiver, shape, events, 1).await?;
        let figure = Figure::new(format!("backlog drained to {}", shape.name()), rate, "/s");
        measurements.push(Measurement {
            figures: vec![figure.beside(BARE)],
            cost,
        });
    }
    Ok(measurements)
}

/// What the others are compared with: the deliveries, sent in a bare loop.
pub async fn bare_limit(
    stage: &Stage,
    receiver: &mut ReceiverProcess,
    count: u64,
) -> Result<Measurement> {
    notice(format_args!("  {BARE}"));
    let (rate, cost) = bounded(stage, bare(Bare::Hyper, stage, receiver, count)).await?;
    Ok(Measurement {
        figures: vec![Figure::new(BARE, rate, "/s")],
        cost,
    })
}

/// Sends the bytes of a delivery in a bare loop.
async fn bare(
    client: Bare,
    stage: &Stage,
    receiver: &mut ReceiverProcess,
    count: u64,
) -> Result<(f64, Cost)> {
    receiver.watch(&Watch::count(1)).await?;
    let request = BareRequest {
        url: format!("http://{}/ok/0", receiver.address).parse()?,
        headers: headers(),
        body: body(stage.shape()?).into(),
    };
    let in_flight = stage
        .concurrency
        .unwrap_or(BARE_IN_FLIGHT)
        .min(BARE_IN_FLIGHT) as usize;
    let meter = Meter::start(&[]);
    let accepted = match client {
        Bare::Hyper => hyper_loop(request, in_flight, count).await,
        Bare::Reqwest => reqwest_loop(request, in_flight, count).await,
    };
    let cost = meter.stop(&[], count);
    let seen = receiver.seen().await?;
    if accepted != count || seen.accepted != count {
        anyhow::bail!("only {accepted} of {count} bare requests were answered");
    }
    Ok((rate(count, seen.first, seen.last), cost))
}

/// Inserts a backlog, starts workers, waits until every delivery has arrived, and says how many
/// a second did.
pub async fn drain(
    stage: &Stage,
    receiver: &mut ReceiverProcess,
    shape: Shape,
    deliveries: u64,
    workers: usize,
) -> Result<(f64, Cost)> {
    Lab::run(stage, async |lab| {
        measure(lab, receiver, shape, deliveries, workers).await
    })
    .await
}

async fn measure(
    lab: &Lab,
    receiver: &mut ReceiverProcess,
    shape: Shape,
    deliveries: u64,
    workers: usize,
) -> Result<(f64, Cost)> {
    lab.hooks(shape, receiver.address).await?;
    let events = shape.events_of(deliveries);
    let expected = events * u64::from(shape.fan_out);
    lab.insert(events, &shape.events()?).await?;
    receiver.watch(&Watch::count(expected)).await?;
    let meter = Meter::start(&[]);
    let mut running = Vec::new();
    for _ in 0..workers {
        running.push(lab.worker().await?);
    }
    let seen = receiver.until(expected).await?;
    let mut cost = meter.stop(&running, expected);
    cost.repeats = lab.finish(receiver, running).await?;
    Ok((rate(expected, seen.first, seen.last), cost))
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
