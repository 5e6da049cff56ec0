//! `backlog`: whether deliveries that wait in great numbers slow down those that go out.

use super::lab::{Lab, ReceiverProcess, payload};
use super::report::Finding;
use crate::failure::Result;
use postrider_store::HookChange;
use std::time::Duration;

/// Lets `count` deliveries gather behind a paused hook, enables it, and says at what rate the
/// first, the middle and the last tenth went out.
pub async fn run(
    url: &str,
    receiver: &mut ReceiverProcess,
    count: u64,
    bytes: usize,
) -> Result<Vec<Finding>> {
    Lab::run(url, async |lab| measure(lab, receiver, count, bytes).await).await
}

async fn measure(
    lab: &Lab,
    receiver: &mut ReceiverProcess,
    count: u64,
    bytes: usize,
) -> Result<Vec<Finding>> {
    let hook = lab
        .hook(format!("http://{}/ok/0", receiver.address))
        .await?;
    let change = async |change| {
        let now = lab.store.now().await?;
        lab.store.change_hook(hook, change, "bench", now).await
    };
    change(HookChange::Pause).await?;
    lab.insert(count, &payload(bytes)).await?;
    receiver.reset().await?;
    let worker = lab.worker().await?;
    while !lab.store.peek().await?.outbox.is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    change(HookChange::Enable).await?;
    receiver.until(count).await?;
    let mut at: Vec<f64> = receiver.arrivals().await?.into_values().collect();
    let (_, memory) = worker.cost();
    worker.stop().await?;
    at.sort_by(f64::total_cmp);
    let tenth = at.len() / 10;
    let rate = |from: usize| {
        let part = &at[from..from + tenth];
        (tenth - 1) as f64 / (part[tenth - 1] - part[0])
    };
    let middle = (at.len() - tenth) / 2;
    let (first, last) = (rate(0), rate(at.len() - tenth));
    Ok(vec![
        Finding::new("first tenth", first, "/s"),
        Finding::new("middle tenth", rate(middle), "/s"),
        Finding::new("last tenth", last, "/s"),
        Finding::new("last ÷ first", last / first, ""),
        Finding::new(
            "peak memory of the worker",
            memory as f64 / 1_048_576.0,
            "MiB",
        ),
    ])
}
