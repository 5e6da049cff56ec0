//! `throughput`: draining a backlog, beside what the bare HTTP clients make of the same bytes.

use super::lab::{Lab, ReceiverProcess, payload};
use super::machine::Cpu;
use super::receiver::Seen;
use super::report::Measured;
use crate::failure::Result;
use http::{HeaderMap, HeaderValue};
use postrider_worker::{BareRequest, hyper_loop, reqwest_loop};

/// Requests the bare loops keep in flight: what one hook may have by default.
const BARE_IN_FLIGHT: usize = 64;

/// Which bare client.
#[derive(Clone, Copy, Debug)]
pub enum Bare {
    /// `hyper-util`, the limit.
    Hyper,
    /// `reqwest`.
    Reqwest,
}

/// Sends the bytes of a delivery in a bare loop.
pub async fn bare(
    kind: Bare,
    receiver: &mut ReceiverProcess,
    count: u64,
    bytes: usize,
) -> Result<Measured> {
    receiver.reset().await?;
    let request = BareRequest {
        url: format!("http://{}/ok/0", receiver.address).parse()?,
        headers: headers(),
        body: body(bytes).into(),
    };
    let before = Cpu::now();
    let accepted = match kind {
        Bare::Hyper => hyper_loop(request, BARE_IN_FLIGHT, count).await,
        Bare::Reqwest => reqwest_loop(request, BARE_IN_FLIGHT, count).await,
    };
    let cpu = Cpu::now().since(before);
    let seen = receiver.seen().await?;
    if accepted != count || seen.accepted != count {
        anyhow::bail!("only {accepted} of {count} bare requests were answered");
    }
    Ok(Measured::new(rate(&seen, count), count, cpu))
}

/// Inserts a backlog, starts workers, and waits until every delivery has arrived.
pub async fn drain(
    url: &str,
    receiver: &mut ReceiverProcess,
    events: u64,
    hooks: u32,
    bytes: usize,
    workers: usize,
) -> Result<Measured> {
    let load = Load {
        events,
        hooks,
        bytes,
        workers,
    };
    Lab::run(url, async |lab| measure(lab, receiver, &load).await).await
}

struct Load {
    events: u64,
    hooks: u32,
    bytes: usize,
    workers: usize,
}

async fn measure(lab: &Lab, receiver: &mut ReceiverProcess, load: &Load) -> Result<Measured> {
    let Load {
        events,
        hooks,
        bytes,
        workers,
    } = *load;
    for hook in 0..hooks {
        lab.hook(format!("http://{}/ok/{hook}", receiver.address))
            .await?;
    }
    lab.insert(events, &payload(bytes)).await?;
    receiver.reset().await?;
    let before = Cpu::now();
    let mut running = Vec::new();
    for _ in 0..workers {
        running.push(lab.worker().await?);
    }
    let expected = events * u64::from(hooks);
    let seen = receiver.until(expected).await?;
    let cpu = Cpu::now().since(before);
    let (mut worker_cpu, mut memory) = (0.0, 0);
    for worker in running {
        let (cpu, peak) = worker.cost();
        worker_cpu += cpu;
        memory = peak.max(memory);
        worker.stop().await?;
    }
    let mut measured = Measured::new(rate(&seen, expected), expected, cpu);
    measured.worker_cpu_per_10k = Some(worker_cpu * 1e4 / expected as f64);
    measured.peak_memory = Some(memory);
    measured.repeats = seen.accepted - seen.unique;
    Ok(measured)
}

fn rate(seen: &Seen, count: u64) -> f64 {
    count.saturating_sub(1) as f64 / (seen.last - seen.first).max(f64::MIN_POSITIVE)
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

fn body(bytes: usize) -> String {
    format!(
        r#"{{"type":"bench.event","timestamp":"2026-11-21T19:16:05.536576Z","data":{}}}"#,
        payload(bytes)
    )
}
