//! Traces of `serve`, configured by the environment variables of OpenTelemetry. Only a binary built
//! with the feature `otel` has them.

use crate::failure::Result;
use postrider_api::PublishTraces;
use postrider_worker::AttemptTraces;
use std::sync::Arc;

/// The exporter of traces, if there is one.
#[derive(Default)]
pub struct Traces {
    #[cfg(feature = "otel")]
    recorded: Option<postrider_otel::Traces>,
}

#[cfg(feature = "otel")]
impl Traces {
    /// Starts the exporter that the environment configures. Must be called inside the runtime.
    ///
    /// # Errors
    /// When a variable has a value that cannot be used.
    pub fn start() -> Result<Self> {
        use crate::failure::Misuse;
        let settings = postrider_otel::TraceSettings::of(|name| std::env::var(name).ok());
        let settings = settings.map_err(|error| Misuse::new(error.to_string()))?;
        let recorded = match settings {
            None => None,
            Some(settings) => {
                let recorded = postrider_otel::Traces::start(&settings)?;
                let collector = settings.endpoint.origin().ascii_serialization();
                tracing::info!("Exporting traces to {collector}");
                Some(recorded)
            }
        };
        Ok(Self { recorded })
    }

    /// Traces of attempts; `None` when none are exported.
    pub fn attempts(&self) -> Option<Arc<dyn AttemptTraces>> {
        let recorded = self.recorded.as_ref();
        recorded.map(postrider_otel::Traces::attempts)
    }

    /// Traces of publishing; `None` when none are exported.
    pub fn publishing(&self) -> Option<Arc<dyn PublishTraces>> {
        let recorded = self.recorded.as_ref();
        recorded.map(postrider_otel::Traces::publishing)
    }

    /// Exports the remaining spans, for a few seconds at most.
    pub async fn finish(self) {
        if let Some(recorded) = self.recorded {
            recorded.finish().await;
        }
    }
}

#[cfg(not(feature = "otel"))]
impl Traces {
    /// Starts nothing. Logs that traces are missing when the environment names a collector.
    ///
    /// # Errors
    /// Never; the same signature as with the feature.
    pub fn start() -> Result<Self> {
        let names = [
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ];
        let set = names
            .into_iter()
            .find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        if let Some(name) = set {
            tracing::info!("{name} has no effect: this binary was built without the feature otel");
        }
        Ok(Self {})
    }

    /// Always `None`.
    pub fn attempts(&self) -> Option<Arc<dyn AttemptTraces>> {
        None
    }

    /// Always `None`.
    pub fn publishing(&self) -> Option<Arc<dyn PublishTraces>> {
        None
    }

    /// Does nothing.
    pub async fn finish(self) {}
}
