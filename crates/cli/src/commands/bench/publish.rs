//! `publish`: events that come in one by one through the API, and are delivered meanwhile by the
//! same process.

use super::environment::Lab;
use super::figures::{Cost, Figure, Measurement, Meter, rate};
use super::load::milliseconds;
use super::options::{Shape, Stage, event_type, payload};
use super::processes::{ReceiverProcess, WorkerProcess};
use super::received::Watch;
use super::throughput;
use crate::failure::Result;
use crate::output::notice;
use anyhow::{Context, bail};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use postrider_core::{EventId, KeyScope, KeyToken, NewKey, monotonic_now};
use postrider_worker::{AddressGuard, BareRequest, Client, Exchange, Request, Target, hyper_loop};
use serde::Deserialize;
use std::time::Duration;

/// Connections that publish, each one event at a time.
const CONNECTIONS: usize = 64;
const EVENTS: u64 = 100_000;
const TIMEOUT: Duration = Duration::from_secs(15);

/// A bare HTTP client that sends the deliveries, and the whole way through.
pub async fn run(stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let events = stage.events(EVENTS);
    let bare = throughput::bare_limit(stage, receiver, events).await?;
    notice("  published through the API");
    let (rate, cost) = Lab::run(stage, async |lab| {
        through(lab, stage.shape()?, receiver, events).await
    })
    .await?;
    let figure = Figure::new("published and delivered", rate, "/s").beside(throughput::BARE);
    Ok(vec![
        bare,
        Measurement {
            figures: vec![figure],
            cost,
        },
    ])
}

/// From the first delivery to the last, publishing from many connections at once.
async fn through(
    lab: &Lab,
    shape: Shape,
    receiver: &mut ReceiverProcess,
    events: u64,
) -> Result<(f64, Cost)> {
    let door = Door::open(lab, shape, receiver).await?;
    receiver.watch(&Watch::count(events)).await?;
    let request = BareRequest {
        url: door.url.parse()?,
        headers: door.headers.clone(),
        body: door.body.clone().into(),
    };
    let servers = vec![door.server];
    let meter = Meter::start(&servers);
    let begun = (monotonic_now() - receiver.zero().await?).as_secs_f64();
    let accepted = hyper_loop(request, CONNECTIONS, events).await;
    if accepted != events {
        bail!("only {accepted} of {events} events were accepted");
    }
    let seen = receiver.until(events).await?;
    let mut cost = meter.stop(&servers, events);
    cost.repeats = lab.finish(receiver, servers).await?;
    Ok((rate(events, begun, seen.last), cost))
}

/// From the request that publishes an event to its delivery, at so many events a second.
pub async fn latency(
    lab: &Lab,
    shape: Shape,
    receiver: &mut ReceiverProcess,
    events_per_second: u32,
    seconds: u64,
) -> Result<Measurement> {
    let door = Door::open(lab, shape, receiver).await?;
    let count = u64::from(events_per_second) * seconds;
    receiver.watch(&Watch::moments(count)).await?;
    let client = Client::new(AddressGuard::new(&["127.0.0.0/8".parse()?]))?;
    let zero = receiver.zero().await?;
    let mut published = Vec::new();
    let meter = Meter::start(std::slice::from_ref(&door.server));
    let begun = monotonic_now();
    for n in 0..count {
        let at = begun + Duration::from_micros(n * 1_000_000 / u64::from(events_per_second));
        tokio::time::sleep_until(at.into()).await;
        let at = (monotonic_now() - zero).as_secs_f64();
        published.push((door.publish(&client).await?, at));
    }
    receiver.until(count).await?;
    let servers = vec![door.server];
    let mut cost = meter.stop(&servers, count);
    cost.repeats = lab.finish(receiver, servers).await?;
    let arrivals = receiver.arrivals().await?;
    let mut waits: Vec<f64> = published
        .iter()
        .filter_map(|(id, at)| Some(arrivals.get(&(id.0, 0))? - at))
        .collect();
    waits.sort_by(f64::total_cmp);
    let figures = [(50, "p50"), (95, "p95"), (99, "p99")].map(|(percent, name)| {
        let name = format!("request to receiver at {events_per_second} events/s, {name}");
        Figure::new(name, milliseconds(&waits, percent), "ms")
    });
    Ok(Measurement {
        figures: figures.into(),
        cost,
    })
}

/// A server in all roles, a hook for what it delivers, and all that a publisher needs.
struct Door {
    server: WorkerProcess,
    url: String,
    headers: HeaderMap,
    body: String,
}

#[derive(Deserialize)]
struct Published {
    id: EventId,
}

impl Door {
    async fn open(lab: &Lab, shape: Shape, receiver: &ReceiverProcess) -> Result<Self> {
        let hook = format!("http://{}/ok/0", receiver.address);
        lab.hook(hook, &[event_type(0)]).await?;
        let token = KeyToken::generate();
        let key = NewKey {
            scope: KeyScope::Publish,
            account: None,
            name: None,
        };
        let now = lab.store.now().await?;
        lab.store.create_key(key, token.hash(), now).await?;
        let bearer = format!("Bearer {}", token.reveal());
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&bearer)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let server = lab.server().await?;
        let api = server.api.as_deref().context("the process opened no API")?;
        Ok(Self {
            url: format!("{api}/v1/events"),
            headers,
            body: format!(
                r#"{{"event_type":"{}","payload":{}}}"#,
                event_type(0),
                payload(shape.payload)
            ),
            server,
        })
    }

    async fn publish(&self, client: &Client) -> Result<EventId> {
        let Some(target) = Target::of(&self.url.parse()?) else {
            bail!("{} cannot be called", self.url);
        };
        let request = Request {
            target,
            headers: self.headers.clone(),
            body: self.body.clone().into(),
            timeout: TIMEOUT,
        };
        match client.send(request).await {
            Exchange::Answered {
                status, excerpt, ..
            } if status.as_u16() == 202 => Ok(serde_json::from_slice::<Published>(&excerpt)?.id),
            other => bail!("an event was not accepted: {other:?}"),
        }
    }
}
