//! Posts spans to the collector, with the worker's HTTP client.
//!
//! The exporter runs on a thread of its own, outside of the runtime, and without a deadline: the
//! request is made in the runtime, and ends in time.

use async_trait::async_trait;
use ipnet::{Ipv4Net, Ipv6Net};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use postrider_worker::{AddressGuard, Client, Exchange, Target};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::{info, warn};
use url::Url;

/// The collector, as it can be posted to.
#[derive(Debug)]
pub(crate) struct Collector {
    client: Client,
    target: Target,
    /// Its address, without a path.
    name: String,
    timeout: Duration,
    runtime: Handle,
    in_trouble: AtomicBool,
}

impl Collector {
    /// The collector at this URL, asked in the present runtime; nothing if it cannot be.
    pub(crate) fn at(url: &Url, timeout: Duration) -> std::io::Result<Option<Self>> {
        // The operator chose the address; it may be a private one.
        let anywhere = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        let client = Client::new(AddressGuard::new(&anywhere))?;
        Ok(Target::of(url).map(|target| Self {
            client,
            target,
            name: url.origin().ascii_serialization(),
            timeout,
            runtime: Handle::current(),
            in_trouble: AtomicBool::new(false),
        }))
    }

    /// Tells of trouble once when it begins and once when it is over.
    fn tell(&self, problem: Option<&str>) {
        let before = self.in_trouble.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !before => warn!(
                "Cannot export traces to {}, and goes on without them: {problem}",
                self.name
            ),
            None if before => info!("Traces are exported to {} again", self.name),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let request = postrider_worker::Request {
            target: self.target.clone(),
            headers: head.headers,
            body,
            timeout: self.timeout,
        };
        let client = self.client.clone();
        let asked = self
            .runtime
            .spawn(async move { client.send(request).await });
        let problem = match asked.await? {
            Exchange::Answered {
                status,
                headers,
                excerpt,
            } => {
                let problem = format!("it answers {status}");
                self.tell((!status.is_success()).then_some(&problem));
                let mut response = Response::new(Bytes::from(excerpt));
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                return Ok(response);
            }
            Exchange::TimedOut { .. } => format!("no answer within {:?}", self.timeout),
            Exchange::Unreachable { reason, .. } => reason,
            Exchange::Blocked(address) => format!("{address} must not be called"),
            Exchange::NotTried(fault) => fault.to_string(),
        };
        self.tell(Some(&problem));
        Err(problem.into())
    }
}
