//! Records spans of publishing calls and attempts, and exports them.

use crate::attempts::Attempts;
use crate::client::Collector;
use crate::publishing::Publishing;
use crate::settings::TraceSettings;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, Key};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanProcessor};
use postrider_api::PublishTraces;
use postrider_worker::AttemptTraces;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::warn;

/// The default service name.
const SERVICE: &str = "postrider";

/// The time limit for the last spans at the end of the process.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Recorded spans that wait for export.
pub struct Traces {
    provider: SdkTracerProvider,
    pub(crate) tracer: SdkTracer,
}

/// Traces cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// TLS cannot be set up: the system has no certificate store.
    #[error("the HTTP client of the traces cannot be set up")]
    Client(#[source] std::io::Error),
    /// HTTP does not allow the URL of the endpoint.
    #[error(
        "the endpoint of the traces cannot be called: write a URL such as http://collector:4318"
    )]
    Endpoint,
    /// The exporter refuses its settings.
    #[error("the exporter of the traces cannot be set up")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

impl Traces {
    /// Records spans and exports them in the background. The environment configures samplers,
    /// batches and the description of this process. Must be called in a runtime.
    ///
    /// # Errors
    /// When no export can succeed with these settings.
    pub fn start(settings: &TraceSettings) -> Result<Self, SetUpError> {
        let collector = Collector::at(&settings.endpoint, settings.timeout);
        let collector = collector.map_err(SetUpError::Client)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector.ok_or(SetUpError::Endpoint)?)
            .with_endpoint(settings.endpoint.as_str())
            .with_timeout(settings.timeout)
            .build()?;
        Ok(Self::processed_by(
            BatchSpanProcessor::builder(exporter).build(),
        ))
    }

    /// Records spans and passes them to `processor`.
    pub fn processed_by(processor: impl SpanProcessor + 'static) -> Self {
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_span_processor(processor)
            .build();
        let scope = InstrumentationScope::builder(SERVICE)
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let tracer = provider.tracer_with_scope(scope);
        Self { provider, tracer }
    }

    /// Makes the spans of attempts, for the worker.
    pub fn attempts(&self) -> Arc<dyn AttemptTraces> {
        Arc::new(Attempts(self.tracer.clone()))
    }

    /// Makes the spans of publishing calls, for the API.
    pub fn publishing(&self) -> Arc<dyn PublishTraces> {
        Arc::new(Publishing(self.tracer.clone()))
    }

    /// Exports the remaining spans, for at most 3 s, and stops recording.
    pub async fn finish(self) {
        let (done, ended) = oneshot::channel();
        // The call blocks, and the runtime would wait for one of its own threads to end.
        std::thread::spawn(move || {
            // The receiver is gone after the time limit.
            let _ = done.send(self.provider.shutdown_with_timeout(LAST_SPANS));
        });
        match tokio::time::timeout(LAST_SPANS, ended).await {
            Ok(Ok(Ok(()))) => {}
            _ => warn!(
                "The last spans were lost: they could not be exported within {} s",
                LAST_SPANS.as_secs()
            ),
        }
    }
}

/// The description of this process.
fn resource() -> Resource {
    let name = Key::from_static_str("service.name");
    let known = Resource::builder().build().get(&name);
    let is_named = known.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder().with_attribute(opentelemetry::KeyValue::new(
        "service.version",
        env!("CARGO_PKG_VERSION"),
    ));
    match is_named {
        true => builder.build(),
        false => builder.with_service_name(SERVICE).build(),
    }
}
