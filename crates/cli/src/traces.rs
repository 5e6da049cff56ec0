//! Traces of `serve`: as the variables of OpenTelemetry say, in a binary that was built with the
//! feature `otel`; else none.

use crate::failure::Result;
use postrider_api::PublishTraces;
use postrider_worker::AttemptTraces;
use std::sync::Arc;

/// What follows the process in traces, if anything does.
#[derive(Default)]
pub struct Traces {
    #[cfg(feature = "otel")]
    recorded: Option<postrider_otel::Traces>,
}

#[cfg(feature = "otel")]
impl Traces {
    /// What the environment asks for. Must be called in the runtime.
    ///
    /// # Errors
    /// When it says what cannot be used.
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

    /// What follows attempts.
    pub fn attempts(&self) -> Option<Arc<dyn AttemptTraces>> {
        let recorded = self.recorded.as_ref();
        recorded.map(postrider_otel::Traces::attempts)
    }

    /// What follows publishing.
    pub fn publishing(&self) -> Option<Arc<dyn PublishTraces>> {
        let recorded = self.recorded.as_ref();
        recorded.map(postrider_otel::Traces::publishing)
    }

    /// Exports what is left, for a few seconds at most.
    pub async fn finish(self) {
        if let Some(recorded) = self.recorded {
            recorded.finish().await;
        }
    }
}

#[cfg(not(feature = "otel"))]
impl Traces {
    /// None; says so where the environment names a collector.
    ///
    /// # Errors
    /// None.
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

    /// What follows attempts: nothing.
    pub fn attempts(&self) -> Option<Arc<dyn AttemptTraces>> {
        None
    }

    /// What follows publishing: nothing.
    pub fn publishing(&self) -> Option<Arc<dyn PublishTraces>> {
        None
    }

    /// Has nothing to do.
    pub async fn finish(self) {}
}
