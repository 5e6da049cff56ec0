//! `publish`: events that come in one by one through the API, and are delivered meanwhile by the
//! same process.

use super::lab::{Lab, ReceiverProcess, payload};
use super::machine::Cpu;
use super::report::{Finding, Measured, Row, percentile};
use super::throughput::{self, Bare};
use crate::failure::Result;
use crate::output::notice;
use anyhow::bail;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use postrider_core::{EventId, KeyScope, KeyToken, NewKey};
use postrider_worker::{AddressGuard, BareRequest, Client, Exchange, Request, Target, hyper_loop};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// Connections that publish, each one event at a time.
const CONNECTIONS: usize = 64;
/// Events a second where the time of each is measured.
const RATE: u64 = 50;
const TIMEOUT: Duration = Duration::from_secs(15);

/// Measures how fast events go through, beside a bare HTTP client that sends the deliveries.
pub async fn rows(url: &str, name: &str, runs: u32, events: u64, bytes: usize) -> Result<Vec<Row>> {
    let mut receiver = ReceiverProcess::start().await?;
    let (mut hyper, mut through) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        notice(format_args!("Run {run} of {runs}"));
        hyper.push(throughput::bare(Bare::Hyper, &mut receiver, events, bytes).await?);
        let measured = Lab::run(url, async |lab| {
            rate(lab, &mut receiver, events, bytes).await
        });
        through.push(measured.await?);
    }
    let hyper = Row::of("bare hyper-util loop", hyper);
    Ok(vec![
        hyper.clone(),
        Row::of(format!("{name}, published and delivered"), through).beside(&hyper),
    ])
}

/// From the first request to the last delivery, publishing from many connections at once.
async fn rate(
    lab: &Lab,
    receiver: &mut ReceiverProcess,
    events: u64,
    bytes: usize,
) -> Result<Measured> {
    let door = Door::open(lab, receiver, bytes).await?;
    let request = BareRequest {
        url: door.url.parse()?,
        headers: door.headers.clone(),
        body: door.body.clone().into(),
    };
    let zero = receiver.zero().await?;
    let before = Cpu::now();
    let begun = zero.elapsed().as_secs_f64();
    let accepted = hyper_loop(request, CONNECTIONS, events).await;
    let published = zero.elapsed().as_secs_f64() - begun;
    if accepted != events {
        bail!("only {accepted} of {events} events were accepted");
    }
    let seen = receiver.until(events).await?;
    let cpu = Cpu::now().since(before);
    notice(format_args!(
        "Published in {published:.1} s, the last was delivered after {:.1} s",
        seen.last - begun
    ));
    let (server_cpu, memory) = door.server.cost();
    door.server.stop().await?;
    let rate = events as f64 / (seen.last - begun).max(f64::MIN_POSITIVE);
    let mut measured = Measured::new(rate, events, cpu);
    measured.worker_cpu_per_10k = Some(server_cpu * 1e4 / events as f64);
    measured.peak_memory = Some(memory);
    measured.repeats = seen.accepted - seen.unique;
    Ok(measured)
}

/// From the request that publishes an event to its delivery, at a calm rate.
pub async fn latency(
    lab: &Lab,
    receiver: &mut ReceiverProcess,
    seconds: u64,
    bytes: usize,
) -> Result<Vec<Finding>> {
    let door = Door::open(lab, receiver, bytes).await?;
    let client = Client::new(AddressGuard::new(&["127.0.0.0/8".parse()?]))?;
    let zero = receiver.zero().await?;
    let mut published = Vec::new();
    let begun = Instant::now();
    for n in 0..RATE * seconds {
        let at = begun + Duration::from_micros(n * 1_000_000 / RATE);
        tokio::time::sleep_until(at.into()).await;
        let at = zero.elapsed().as_secs_f64();
        published.push((door.publish(&client).await?, at));
    }
    receiver.until(published.len() as u64).await?;
    let arrivals = receiver.arrivals().await?;
    door.server.stop().await?;
    let mut waits: Vec<f64> = published
        .iter()
        .filter_map(|(id, at)| Some(arrivals.get(&(id.0, 0))? - at))
        .collect();
    waits.sort_by(f64::total_cmp);
    Ok([(50, "p50"), (95, "p95"), (99, "p99")]
        .map(|(percent, name)| {
            let milliseconds = percentile(&waits, percent) * 1e3;
            Finding::new(format!("request to receiver, {name}"), milliseconds, "ms")
        })
        .into())
}

/// A server in all roles, a hook for what it delivers, and all that a publisher needs.
struct Door {
    server: super::lab::WorkerProcess,
    url: String,
    headers: HeaderMap,
    body: String,
}

#[derive(Deserialize)]
struct Published {
    id: EventId,
}

impl Door {
    async fn open(lab: &Lab, receiver: &mut ReceiverProcess, bytes: usize) -> Result<Self> {
        lab.hook(format!("http://{}/ok/0", receiver.address))
            .await?;
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
        let (server, api) = lab.server().await?;
        receiver.reset().await?;
        Ok(Self {
            server,
            url: format!("{api}/v1/events"),
            headers,
            body: format!(
                r#"{{"event_type":"bench.event","payload":{}}}"#,
                payload(bytes)
            ),
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
