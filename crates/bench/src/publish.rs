//! `publish`: events are published one at a time through the API and delivered by the same process.

use crate::baseline::{BaselineRequest, hyper_loop};
use crate::environment::Environment;
use crate::error::Result;
use crate::figures::{Cost, Figure, Measurement, Meter, rate};
use crate::load::milliseconds;
use crate::options::{Plan, Shape, event_type, payload};
use crate::output::notice;
use crate::processes::{ReceiverProcess, WorkerProcess};
use crate::received::Watch;
use crate::throughput;
use anyhow::{Context, bail};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use postrider_core::{EventId, KeyScope, KeyToken, NewKey, monotonic_now};
use postrider_worker::{AddressGuard, Client, Exchange, Names, Request, Target};
use serde::Deserialize;
use std::time::Duration;

/// Connections that publish, each with one request in flight.
const CONNECTIONS: usize = 64;
const EVENTS: u64 = 100_000;
const TIMEOUT: Duration = Duration::from_secs(15);

/// Measures the baseline, then the way from the API to the receiver.
pub async fn run(plan: &Plan, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let events = plan.events(EVENTS);
    let bare = throughput::bare_limit(plan, receiver, events).await?;
    notice("  published through the API");
    let (rate, cost) = Environment::run(plan, async |env| {
        through(env, plan.shape()?, receiver, events).await
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

/// Deliveries per second from the first request to the last delivery, over many connections.
async fn through(
    env: &Environment,
    shape: Shape,
    receiver: &mut ReceiverProcess,
    events: u64,
) -> Result<(f64, Cost)> {
    let publisher = Publisher::start(env, shape, receiver).await?;
    receiver.watch(&Watch::count(events)).await?;
    let request = BaselineRequest {
        url: publisher.url.parse()?,
        headers: publisher.headers.clone(),
        body: publisher.body.clone().into(),
    };
    let servers = vec![publisher.server];
    let meter = Meter::start(&servers);
    let begun = (monotonic_now() - receiver.zero().await?).as_secs_f64();
    let accepted = hyper_loop(request, CONNECTIONS, events).await;
    if accepted != events {
        bail!("only {accepted} of {events} events were accepted");
    }
    let counts = receiver.until(events).await?;
    let mut cost = meter.stop(&servers, events);
    cost.repeats = env.finish(receiver, servers).await?;
    Ok((rate(events, begun, counts.last), cost))
}

/// Measures the time from the request that publishes an event to its delivery.
pub async fn latency(
    env: &Environment,
    shape: Shape,
    receiver: &mut ReceiverProcess,
    events_per_second: u32,
    seconds: u64,
) -> Result<Measurement> {
    let publisher = Publisher::start(env, shape, receiver).await?;
    let count = u64::from(events_per_second) * seconds;
    receiver.watch(&Watch::sampled(count)).await?;
    let guard = AddressGuard::new(&["127.0.0.0/8".parse()?]);
    let client = Client::new(guard, Names::new(&[]))?;
    let zero = receiver.zero().await?;
    let mut published = Vec::new();
    let meter = Meter::start(std::slice::from_ref(&publisher.server));
    let begun = monotonic_now();
    for n in 0..count {
        let at = begun + Duration::from_micros(n * 1_000_000 / u64::from(events_per_second));
        tokio::time::sleep_until(at.into()).await;
        let at = (monotonic_now() - zero).as_secs_f64();
        published.push((publisher.publish(&client).await?, at));
    }
    receiver.until(count).await?;
    let servers = vec![publisher.server];
    let mut cost = meter.stop(&servers, count);
    cost.repeats = env.finish(receiver, servers).await?;
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

/// A server in all roles with one hook, and the request that publishes an event to it.
struct Publisher {
    server: WorkerProcess,
    url: String,
    headers: HeaderMap,
    body: String,
}

#[derive(Deserialize)]
struct Published {
    id: EventId,
}

impl Publisher {
    async fn start(env: &Environment, shape: Shape, receiver: &ReceiverProcess) -> Result<Self> {
        let hook = format!("http://{}/ok/0", receiver.address);
        env.hook(hook, &[event_type(0)]).await?;
        let token = KeyToken::generate();
        let key = NewKey {
            scope: KeyScope::Publish,
            account: None,
            name: None,
        };
        let now = env.store.now().await?;
        env.store.create_key(key, token.hash(), now).await?;
        let bearer = format!("Bearer {}", token.reveal());
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&bearer)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let server = env.server().await?;
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
