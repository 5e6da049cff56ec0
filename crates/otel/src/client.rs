//! Sends spans to the collector with the HTTP client of the worker.
//!
//! The exporter runs on a thread outside of the runtime and has no deadline. The request is made in
//! the runtime, with a timeout.

use async_trait::async_trait;
use ipnet::{Ipv4Net, Ipv6Net};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use postrider_worker::{AddressGuard, Client, Exchange, Names, Target};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::{info, warn};
use url::Url;

/// The collector of traces.
#[derive(Debug)]
pub(crate) struct Collector {
    client: Client,
    target: Target,
    /// The URL without the path, for logs.
    name: String,
    timeout: Duration,
    runtime: Handle,
    in_trouble: AtomicBool,
}

impl Collector {
    /// The collector at this URL, called in the present runtime; `None` when HTTP does not allow
    /// the URL.
    pub(crate) fn at(url: &Url, timeout: Duration) -> std::io::Result<Option<Self>> {
        // The operator configured the address, which may be private.
        let anywhere = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        let client = Client::new(AddressGuard::new(&anywhere), Names::new(&[]))?;
        Ok(Target::of(url).map(|target| Self {
            client,
            target,
            name: url.origin().ascii_serialization(),
            timeout,
            runtime: Handle::current(),
            in_trouble: AtomicBool::new(false),
        }))
    }

    /// Logs a problem once when it begins and once when it has ended.
    fn log(&self, problem: Option<&str>) {
        let before = self.in_trouble.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !before => warn!(
                "Cannot export traces to {}; spans are lost until it is reachable: {problem}",
                self.name
            ),
            None if before => info!("Exporting traces to {} again", self.name),
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
        let sent = self
            .runtime
            .spawn(async move { client.send(request).await });
        let problem = match sent.await? {
            Exchange::Answered {
                status,
                headers,
                excerpt,
            } => {
                let problem = format!("the collector answered {status}");
                self.log((!status.is_success()).then_some(&problem));
                let mut response = Response::new(Bytes::from(excerpt));
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                return Ok(response);
            }
            Exchange::TimedOut => format!("no answer within {:?}", self.timeout),
            Exchange::Unreachable { reason } => reason,
            Exchange::Blocked(address) => format!("{address} must not be called"),
            Exchange::NotTried(fault) => fault.to_string(),
        };
        self.log(Some(&problem));
        Err(problem.into())
    }
}
