//! The sections defined by the binary itself, each with its defaults and checks.

use postrider_core::{KeyRing, Rate, Span};
use postrider_store::{Backend, Retention};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The default retention.
const MONTH: Span = Span::secs(30 * 24 * 3600);

/// The result of a check; the error says which value is wrong and what to change.
type Checked = Result<(), String>;

/// Publishing calls per second; more than one process can handle.
const PUBLISH_LIMIT: u32 = 50_000;
/// Other calls per second.
const RATE_LIMIT: u32 = 200;

/// The section `[api]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    /// Address of the management API, as `host:port`.
    pub listen: String,
    /// Limit of publishing calls of one key in one process.
    pub publish_limit: Rate,
    /// Limit of other calls of one key in one process.
    pub rate_limit: Rate,
    /// Web origins whose pages may call the API from a browser.
    pub cors_origins: Vec<String>,
}

/// The section `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSettings {
    /// Address of `/metrics`, `/livez` and `/readyz`, as `host:port`; used in every role.
    pub listen: String,
}

/// The section `[retention]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSettings {
    /// How long events and their deliveries are kept.
    pub events: Span,
    /// How long attempts are kept; if `None`, as long as events but at most 30 days.
    pub attempts: Option<Span>,
}

/// The section `[secrets]`. It has no `Debug`: a key must not reach a log.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsSettings {
    /// The key that seals secrets: 32 bytes in base64.
    pub key: Option<String>,
    /// Earlier keys, which only open secrets.
    pub previous_keys: Vec<String>,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            publish_limit: Rate::per_second_of(PUBLISH_LIMIT),
            rate_limit: Rate::per_second_of(RATE_LIMIT),
            cors_origins: Vec::new(),
        }
    }
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9464".into(),
        }
    }
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            events: MONTH,
            attempts: None,
        }
    }
}

impl ApiSettings {
    pub(super) fn check(&self) -> Checked {
        check_listen("api.listen", &self.listen)?;
        self.cors_origins.iter().try_for_each(|o| check_origin(o))
    }
}

impl MetricsSettings {
    pub(super) fn check(&self) -> Checked {
        check_listen("metrics.listen", &self.listen)
    }
}

impl RetentionSettings {
    /// How long attempts are kept, by default or as set.
    pub fn attempts(&self) -> Span {
        self.attempts
            .unwrap_or_else(|| match self.events.get() < MONTH.get() {
                true => self.events,
                false => MONTH,
            })
    }

    /// The retention of events and attempts, for the store.
    pub fn keep(&self) -> Retention {
        Retention {
            events: self.events.get(),
            attempts: self.attempts().get(),
        }
    }

    pub(super) fn check(&self) -> Checked {
        let attempts = self.attempts();
        if self.events.get().is_zero() || attempts.get().is_zero() {
            return Err(
                "retention.events and retention.attempts must be longer than 0s, such as \"30d\""
                    .into(),
            );
        }
        if attempts.get() > self.events.get() {
            return Err(format!(
                "retention.attempts ({attempts}) is longer than retention.events ({}), and \
                 attempts are pruned with their events: shorten it, or keep events for longer",
                self.events
            ));
        }
        Ok(())
    }
}

impl SecretsSettings {
    pub(super) fn check(&self, backend: Backend) -> Checked {
        KeyRing::new(self.key.as_deref()).map_err(|error| error.to_string())?;
        KeyRing::new(self.previous_keys.iter().map(String::as_str)).map_err(|_| {
            "every entry of secrets.previous_keys must be 32 bytes in base64, as secrets.key was"
                .to_owned()
        })?;
        // SQLite has a key of its own in a file beside the database.
        if self.key.is_none() && !self.previous_keys.is_empty() && backend == Backend::Postgres {
            return Err(
                "secrets.previous_keys is set, but secrets.key is not: the previous keys only \
                 open old secrets, set secrets.key to the one that seals new ones"
                    .into(),
            );
        }
        Ok(())
    }
}

/// Whether two listeners have the same address; port 0 means any free port and never conflicts.
pub(super) fn same_address(one: &str, other: &str) -> bool {
    one == other && !one.ends_with(":0")
}

/// Checks that `text` is an origin as browsers send it.
fn check_origin(text: &str) -> Checked {
    let origin = url::Url::parse(text).ok().map(|url| url.origin());
    let plain = origin.filter(|origin| is_web_url(text) && origin.ascii_serialization() == text);
    match plain {
        Some(_) => Ok(()),
        None => Err(format!(
            "api.cors_origins has {text:?}, which is not an origin: write scheme, host and port as \
             browsers do, such as \"https://app.example.com\" or \"http://localhost:3000\", \
             without a path and without *"
        )),
    }
}

fn is_web_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

fn check_listen(key: &str, text: &str) -> Checked {
    let host_and_port = || {
        let (host, port) = text.rsplit_once(':')?;
        let plain = !host.is_empty() && !host.contains([':', '/', ' ']);
        (plain && port.parse::<u16>().is_ok()).then_some(())
    };
    if text.parse::<SocketAddr>().is_ok() || host_and_port().is_some() {
        return Ok(());
    }
    Err(format!(
        "{key} {text:?} is not an address to listen on: write host:port, such as \
         \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on_are_checked() {
        for good in ["127.0.0.1:8080", "[::1]:0", "localhost:80"] {
            assert_eq!(check_listen("api.listen", good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "8080",
            ":8080",
            "127.0.0.1",
            "http://127.0.0.1:80",
            "::1:80",
            "a:99999",
        ] {
            let problem = check_listen("api.listen", bad).unwrap_err();
            assert!(problem.contains("host:port"), "{bad}: {problem}");
        }
    }

    #[test]
    fn attempts_are_not_kept_for_longer_than_events() {
        let days = |n: u64| Span::secs(n * 24 * 3600);
        let of = |events, attempts| RetentionSettings { events, attempts };
        assert_eq!(of(days(7), None).check(), Ok(()));
        assert_eq!(of(days(7), None).attempts(), days(7));
        assert_eq!(of(days(90), None).attempts(), days(30));
        assert_eq!(of(days(30), Some(days(7))).check(), Ok(()));
        let problem = of(days(7), Some(days(30))).check().unwrap_err();
        assert!(
            problem.contains("retention.attempts (30days) is longer"),
            "{problem}"
        );
        assert!(of(days(7), Some(days(0))).check().is_err());
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        for good in ["https://app.example.com", "http://localhost:3000"] {
            assert_eq!(check_origin(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "*",
            "app.example.com",
            "https://a.example/",
            "https://a.example:443",
            "ftp://a",
        ] {
            let problem = check_origin(bad).unwrap_err();
            assert!(problem.contains("without a path"), "{bad}: {problem}");
        }
    }

    #[test]
    fn previous_keys_need_a_key_on_postgres() {
        let settings = SecretsSettings {
            key: None,
            previous_keys: vec![KeyRing::generate_key()],
        };
        assert!(settings.check(Backend::Postgres).is_err());
        assert_eq!(settings.check(Backend::Sqlite), Ok(()));
    }
}
