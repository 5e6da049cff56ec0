//! Settings of traces: the environment variables of OpenTelemetry, and no others.
//!
//! Variables that the SDK reads by itself are checked too, so that a mistake stops the program
//! instead of changing what is recorded: the sampler, which the SDK replaces silently, and the
//! compression and the protocol of the exporter.

use std::time::Duration;
use url::Url;

/// The default time limit of an export, with its retries.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The path that the standard appends to the endpoint of all signals.
const PATH: &str = "/v1/traces";

/// The samplers, and whether they need an argument.
const SAMPLERS: [(&str, bool); 6] = [
    ("always_on", false),
    ("always_off", false),
    ("traceidratio", true),
    ("parentbased_always_on", false),
    ("parentbased_always_off", false),
    ("parentbased_traceidratio", true),
];

/// The export of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// The URL of the collector, with its path.
    pub endpoint: Url,
    /// The time limit of an export, with its retries.
    pub timeout: Duration,
}

/// A variable of OpenTelemetry has a value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be used: {advice}")]
pub struct TraceSettingsError {
    what: String,
    advice: String,
}

impl TraceSettings {
    /// Reads the variables with `get`. `None` when traces are off, which is the default without an
    /// endpoint.
    ///
    /// # Errors
    /// The first variable that cannot be used.
    pub fn of(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, TraceSettingsError> {
        let get = |name: &'static str| {
            let value = get(name).filter(|value| !value.is_empty());
            value.map(|value| Variable { name, value })
        };
        let own = get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let (endpoint, path) = match (own, get("OTEL_EXPORTER_OTLP_ENDPOINT")) {
            (Some(own), _) => (own, ""),
            (None, Some(shared)) => (shared, PATH),
            (None, None) => return Ok(None),
        };
        if get("OTEL_SDK_DISABLED").is_some_and(|disabled| disabled.is("true")) {
            return Ok(None);
        }
        match get("OTEL_TRACES_EXPORTER") {
            Some(exporter) if exporter.is("none") => return Ok(None),
            Some(exporter) if !exporter.is("otlp") => {
                return Err(exporter.refused("write otlp, or none for no traces"));
            }
            _ => {}
        }
        let of_traces = |own, shared| get(own).or_else(|| get(shared));
        let protocol = of_traces(
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        );
        if let Some(protocol) = protocol.filter(|protocol| !protocol.is("http/protobuf")) {
            return Err(protocol.refused(
                "write http/protobuf, and use the port of the collector for it, by default 4318",
            ));
        }
        let compression = of_traces(
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
        );
        if let Some(compression) = compression.filter(|word| !word.is("gzip") && !word.is("none")) {
            return Err(compression.refused("write gzip or none"));
        }
        if let Some(sampler) = get("OTEL_TRACES_SAMPLER") {
            check_sampler(sampler, get("OTEL_TRACES_SAMPLER_ARG"))?;
        }
        let timeout = of_traces(
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
        );
        Ok(Some(Self {
            endpoint: endpoint.url(path)?,
            timeout: timeout.map_or(Ok(TIMEOUT), Variable::milliseconds)?,
        }))
    }
}

fn check_sampler(sampler: Variable, share: Option<Variable>) -> Result<(), TraceSettingsError> {
    let known = SAMPLERS.iter().find(|(name, _)| *name == sampler.value);
    let Some((_, needs_share)) = known else {
        let names = SAMPLERS.map(|(name, _)| name).join(", ");
        return Err(sampler.refused(format!("write one of {names}")));
    };
    let is_share = |text: &str| {
        let share = text.parse::<f64>();
        share.is_ok_and(|share| (0.0..=1.0).contains(&share))
    };
    match share {
        Some(share) if *needs_share && !is_share(&share.value) => {
            Err(share.refused("write a number from 0 to 1"))
        }
        None if *needs_share => Err(sampler
            .refused("set OTEL_TRACES_SAMPLER_ARG to the share of traces to record, from 0 to 1")),
        _ => Ok(()),
    }
}

/// A variable that is set and not empty.
struct Variable {
    name: &'static str,
    value: String,
}

impl Variable {
    fn is(&self, word: &str) -> bool {
        self.value.trim().eq_ignore_ascii_case(word)
    }

    fn url(self, path: &str) -> Result<Url, TraceSettingsError> {
        let whole = format!("{}{path}", self.value.trim_end_matches('/'));
        let whole = if path.is_empty() { &self.value } else { &whole };
        match Url::parse(whole) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
            // Without the value, which may hold a password.
            _ => Err(TraceSettingsError {
                what: self.name.into(),
                advice: "write a URL such as http://collector:4318".into(),
            }),
        }
    }

    fn milliseconds(self) -> Result<Duration, TraceSettingsError> {
        match self.value.trim().parse() {
            Ok(milliseconds) if milliseconds > 0 => Ok(Duration::from_millis(milliseconds)),
            _ => Err(self.refused("write a number of milliseconds, such as 10000")),
        }
    }

    fn refused(self, advice: impl Into<String>) -> TraceSettingsError {
        TraceSettingsError {
            what: format!("{} {:?}", self.name, self.value),
            advice: advice.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    fn of(variables: &[(&str, &str)]) -> Result<Option<TraceSettings>, TraceSettingsError> {
        TraceSettings::of(|wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_traced_unless_an_endpoint_is_named() {
        for variables in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "shop")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            // Without an endpoint nothing of this is used.
            &[("OTEL_TRACES_SAMPLER", "sometimes")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert_eq!(of(variables), Ok(None), "{variables:?}");
        }
    }

    #[test]
    fn the_endpoint_of_all_signals_gets_a_path_and_that_of_traces_does_not() {
        let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let shared = ENDPOINT.0;
        for (variables, url) in [
            (&[ENDPOINT][..], "http://collector:4318/v1/traces"),
            (&[(shared, "https://a/b/")], "https://a/b/v1/traces"),
            (&[(own, "http://a:1/x"), ENDPOINT], "http://a:1/x"),
            (&[(own, "http://a:1/x/")], "http://a:1/x/"),
            (&[(own, "http://a:1")], "http://a:1/"),
        ] {
            let settings = of(variables).unwrap().unwrap();
            assert_eq!(settings.endpoint.as_str(), url);
            assert_eq!(settings.timeout, TIMEOUT);
        }
    }

    #[test]
    fn what_traces_have_of_their_own_comes_first() {
        let settings = of(&[
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "3000"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.timeout, Duration::from_secs(3));
    }

    #[test]
    fn a_mistake_is_told_with_what_to_write() {
        for (name, value, advice) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "milliseconds"),
            ("OTEL_TRACES_EXPORTER", "jaeger", "otlp"),
            ("OTEL_TRACES_SAMPLER", "sometimes", "always_on"),
            ("OTEL_TRACES_SAMPLER", "traceidratio", "_ARG"),
        ] {
            let told = of(&[(name, value), ENDPOINT]).unwrap_err().to_string();
            assert!(told.starts_with(&format!("{name} {value:?} ")), "{told}");
            assert!(told.contains(advice), "{told}");
        }
        for url in ["collector:4318", "http://", "ftp://me:hunter2@collector"] {
            let endpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
            let told = of(&[(endpoint, url)]).unwrap_err().to_string();
            assert!(told.starts_with(&format!("{endpoint} cannot")), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
        let sampler = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        for share in ["2", "-1", "half", "NaN"] {
            let told = of(&[ENDPOINT, sampler, ("OTEL_TRACES_SAMPLER_ARG", share)]);
            assert!(told.is_err(), "{share}");
        }
    }
}
