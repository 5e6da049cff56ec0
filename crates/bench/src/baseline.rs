//! The baselines of a worker: bare HTTP clients that send the same bytes in a loop, without a
//! database, a signature or a record.

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;

/// The request that a baseline sends repeatedly.
#[derive(Clone, Debug)]
pub struct BaselineRequest {
    /// The target; plain `http`.
    pub url: Uri,
    /// The headers of a delivery.
    pub headers: HeaderMap,
    /// The body of a delivery.
    pub body: Bytes,
}

/// Sends `count` requests through hyper-util, `in_flight` at a time, and returns how many were
/// answered 2xx.
pub async fn hyper_loop(request: BaselineRequest, in_flight: usize, count: u64) -> u64 {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: HyperClient<_, Full<Bytes>> = HyperClient::builder(TokioExecutor::new())
        .pool_max_idle_per_host(in_flight)
        .build(connector);
    repeat(in_flight, count, move || {
        let (client, request) = (client.clone(), request.clone());
        async move {
            let mut message = Request::post(request.url).body(Full::new(request.body));
            if let Ok(message) = &mut message {
                *message.headers_mut() = request.headers;
            }
            let response = client.request(message.ok()?).await.ok()?;
            let accepted = response.status().is_success();
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                frame.ok()?;
            }
            accepted.then_some(())
        }
    })
    .await
}

/// Does the same through reqwest.
pub async fn reqwest_loop(request: BaselineRequest, in_flight: usize, count: u64) -> u64 {
    let Ok(client) = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(in_flight)
        .build()
    else {
        return 0;
    };
    let url = request.url.to_string();
    repeat(in_flight, count, move || {
        let call = client
            .post(&url)
            .headers(request.headers.clone())
            .body(request.body.clone());
        async move {
            let response = call.send().await.ok()?;
            let accepted = response.status().is_success();
            response.bytes().await.ok()?;
            accepted.then_some(())
        }
    })
    .await
}

/// Runs `call` `count` times in `in_flight` tasks.
async fn repeat<F, Fut>(in_flight: usize, count: u64, call: F) -> u64
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Option<()>> + Send + 'static,
{
    let call = Arc::new(call);
    let started = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        let (call, started) = (call.clone(), started.clone());
        tasks.spawn(async move {
            let mut accepted = 0;
            while started.fetch_add(1, Ordering::Relaxed) < count {
                accepted += u64::from(call().await.is_some());
            }
            accepted
        });
    }
    tasks.join_all().await.into_iter().sum()
}
