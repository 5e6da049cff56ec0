//! Everything of traces: what follows publishing and attempts, and what becomes of their spans.

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

/// Who the spans are from, unless the environment says otherwise.
const SERVICE: &str = "postrider";

/// How long the last spans may take at the end.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Holds the spans that are recorded until a collector has them.
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
    /// The endpoint is a URL that HTTP does not allow.
    #[error(
        "the endpoint of the traces cannot be posted to: write a URL such as http://collector:4318"
    )]
    Endpoint,
    /// The exporter takes its settings for wrong.
    #[error("the exporter of the traces cannot be set up")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

impl Traces {
    /// Records spans and exports them in the background. Samplers, batches and what is said of
    /// this process are taken from the environment. Must be called in a runtime, which is used.
    ///
    /// # Errors
    /// When spans cannot be exported with these settings, whatever the collector does.
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

    /// Hands the spans that are recorded to `processor`.
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

    /// What follows attempts.
    pub fn attempts(&self) -> Arc<dyn AttemptTraces> {
        Arc::new(Attempts(self.tracer.clone()))
    }

    /// What follows publishing.
    pub fn publishing(&self) -> Arc<dyn PublishTraces> {
        Arc::new(Publishing(self.tracer.clone()))
    }

    /// Exports what is left, for at most 3 s, and records nothing more.
    pub async fn finish(self) {
        let (done, ended) = oneshot::channel();
        // It blocks, and the runtime would wait for a thread of its own.
        std::thread::spawn(move || {
            // Whoever waits may have given up.
            let _ = done.send(self.provider.shutdown_with_timeout(LAST_SPANS));
        });
        match tokio::time::timeout(LAST_SPANS, ended).await {
            Ok(Ok(Ok(()))) => {}
            _ => warn!(
                "The last spans could not be exported within {} s and are gone",
                LAST_SPANS.as_secs()
            ),
        }
    }
}

/// What is said of this process.
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
