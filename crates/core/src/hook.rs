//! Hooks: the subscribers of events.

use crate::header_rules::{
    are_too_many_headers, is_header_name, is_header_value, is_reserved_header,
};
use crate::{
    Disabled, EventPattern, HOOK_URL_MAX_BYTES, HookError, HookId, HookSettings, HookStatus,
    NewAlias, Phase, Signer, SigningSecret, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use url::Url;

/// A subscriber: the URL of deliveries, the events it gets, and how requests are signed.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Drawn when the hook is registered.
    pub id: HookId,
    /// The id in the API of its profile; `None` when the profile has no API.
    pub alias: Option<String>,
    /// The account whose events it gets.
    pub account: String,
    /// The URL of its deliveries, exactly as it was registered.
    pub url: String,
    /// The event types it gets.
    pub events: Vec<EventPattern>,
    /// The name of its profile, which decides format and retries, such as `standard`.
    pub profile: String,
    /// Whether its deliveries are sent.
    pub status: HookStatus,
    /// Why, when and by whom it was disabled; `None` when it was not.
    pub disabled: Option<Disabled>,
    /// Whether and how it is held back because of its failures.
    pub phase: Option<Phase>,
    /// Its own settings; the configuration decides the rest.
    pub settings: HookSettings,
    /// The secrets and headers that identify the sender. Stored sealed, never shown or logged.
    pub credentials: HookCredentials,
    /// Whether its credentials could not be opened with the configured keys. Deliveries are made
    /// for it, and none is started.
    pub locked: bool,
    /// The time of registration.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
    /// Grows with every change of any hook. Hook caches read the changes since the last version.
    pub version: i64,
}

/// The secrets and headers that identify the sender to the receiver.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookCredentials {
    /// The signing secrets, newest first. Older ones also sign until they expire.
    pub secrets: Vec<RotatingSecret>,
    /// A secret that is sent unchanged, for profiles that do not sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// HTTP Basic credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
    /// Extra request headers. They may hold tokens and are stored sealed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

/// A signing secret and the end of its use.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotatingSecret {
    /// The key that signs.
    pub secret: SigningSecret,
    /// When an old secret stops signing; `None` for the current secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// HTTP Basic credentials for the receiver.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasicAuth {
    /// The user name; it cannot hold a colon.
    pub user: String,
    /// The password in the clear.
    pub password: String,
}

/// A hook that is being registered.
#[derive(Clone, Debug)]
pub struct NewHook {
    /// The id in the API of its profile; `None` when the profile has no API.
    pub alias: Option<NewAlias>,
    /// The account whose events it gets.
    pub account: String,
    /// The URL of its deliveries.
    pub url: String,
    /// The event types it gets; at least one, unless it has an alias.
    pub events: Vec<EventPattern>,
    /// The name of its profile, which decides format and retries.
    pub profile: String,
    /// Its own settings; the configuration decides the rest.
    pub settings: HookSettings,
    /// The secrets and headers that identify the sender.
    pub credentials: HookCredentials,
    /// The largest number of hooks of this profile in the account; `None` for any number.
    pub at_most: Option<u32>,
}

impl Hook {
    /// Whether a pattern of the hook matches this event type.
    pub fn matches(&self, event_type: &str) -> bool {
        self.events
            .iter()
            .any(|pattern| pattern.matches(event_type))
    }

    /// Whether the hook is gated: one worker alone, its owner, starts its deliveries.
    pub fn is_gated(&self) -> bool {
        self.phase.is_some() || self.settings.is_limited()
    }
}

impl HookCredentials {
    /// Credentials that hold this signing secret and nothing else.
    pub fn signed_with(secret: SigningSecret) -> Self {
        Self {
            secrets: vec![RotatingSecret {
                secret,
                expires_at: None,
            }],
            ..Self::default()
        }
    }

    /// Makes `secret` the current one. Older secrets also sign until `overlap_until` at the latest.
    pub fn rotate(&mut self, secret: SigningSecret, now: Timestamp, overlap_until: Timestamp) {
        self.secrets
            .retain(|old| old.expires_at.is_none_or(|end| end > now));
        for old in &mut self.secrets {
            old.expires_at = Some(old.expires_at.unwrap_or(overlap_until).min(overlap_until));
        }
        self.secrets.retain(|old| old.expires_at > Some(now));
        self.secrets.insert(
            0,
            RotatingSecret {
                secret,
                expires_at: None,
            },
        );
    }

    /// A signer with every secret that is valid at `now`, newest first.
    pub fn signer(&self, now: Timestamp) -> Signer {
        Signer::new(
            self.secrets
                .iter()
                .filter(|s| s.expires_at.is_none_or(|end| end > now))
                .map(|s| &s.secret),
        )
    }
}

impl fmt::Debug for HookCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookCredentials(<hidden>)")
    }
}

impl NewHook {
    /// Checks every member.
    ///
    /// # Errors
    /// The first member that is wrong.
    pub fn check(&self) -> Result<(), HookError> {
        if self.account.is_empty()
            || self.account.len() > crate::KEY_MAX_BYTES
            || self.account.contains('\0')
        {
            return Err(HookError::Account);
        }
        parse_hook_url(&self.url)?;
        check_patterns(&self.events, self.alias.is_some())?;
        check_headers(&self.credentials.headers)?;
        check_token(self.credentials.token.as_deref())?;
        self.settings.check()
    }
}

/// Checks a secret that is sent in a header.
pub(crate) fn check_token(token: Option<&str>) -> Result<(), HookError> {
    match token.is_none_or(is_header_value) {
        true => Ok(()),
        false => Err(HookError::Token),
    }
}

/// Checks that there is at least one pattern. A hook of a profile's own API may have none for a
/// while.
pub(crate) fn check_patterns(events: &[EventPattern], has_alias: bool) -> Result<(), HookError> {
    match events.is_empty() && !has_alias {
        true => Err(HookError::NoEvents),
        false => Ok(()),
    }
}

/// Checks that a hook may send these headers.
pub(crate) fn check_headers(headers: &[(String, String)]) -> Result<(), HookError> {
    if are_too_many_headers(headers.iter().map(|(name, value)| name.len() + value.len())) {
        return Err(HookError::HeadersTooMany);
    }
    let mut headers = headers.iter();
    headers.try_for_each(|(name, value)| check_header(name, value))
}

fn check_header(name: &str, value: &str) -> Result<(), HookError> {
    if !is_header_name(name) {
        return Err(HookError::Header(
            name.into(),
            "it is not a valid header name",
        ));
    }
    if is_reserved_header(name) {
        return Err(HookError::Header(name.into(), "Postrider sets it itself"));
    }
    if !is_header_value(value) {
        return Err(HookError::Header(
            name.into(),
            "its value has a control character",
        ));
    }
    Ok(())
}

/// Parses the URL of a hook: absolute, `http` or `https`, with a host, without credentials or
/// fragment, and one that a request can be sent to.
///
/// # Errors
/// What is wrong and what to write instead.
pub fn parse_hook_url(text: &str) -> Result<Url, HookError> {
    let refuse = |why: &str| HookError::Url {
        url: text.chars().take(200).collect(),
        why: why.into(),
    };
    if text.len() > HOOK_URL_MAX_BYTES {
        return Err(refuse("it is longer than 2,048 bytes"));
    }
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(refuse("it has white space or control characters"));
    }
    let url = Url::parse(text)
        .map_err(|error| refuse(&format!("{error}; write it as https://host/path")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("only http:// and https:// are supported"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refuse("it has no host; write it as https://host/path"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // The text would show a password in listings and logs.
        return Err(HookError::Url {
            url: "<hidden>".into(),
            why: "it holds a user name or password; use HTTP Basic credentials or a header of the hook instead".into(),
        });
    }
    if url.fragment().is_some() {
        return Err(refuse(
            "it has a fragment (#…), which is never sent; leave it out",
        ));
    }
    // The parsers differ: browsers take hosts that HTTP does not allow.
    if url.as_str().parse::<http::Uri>().is_err() {
        let host = url.host_str().unwrap_or_default();
        return Err(match host.chars().find(|c| "{}\"`".contains(*c)) {
            Some(c) => refuse(&format!(
                "its host has the character {c:?}, which no host has; if it is a template, fill it in"
            )),
            None => refuse("no HTTP request can be sent to it; write it as https://host/path"),
        });
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SettingsError;
    use chrono::{TimeDelta, TimeZone, Utc};

    #[test]
    fn urls_are_checked() {
        for good in [
            "https://example.com/hook?a=b",
            "http://127.0.0.1:8080",
            "http://[::1]/x",
        ] {
            assert!(parse_hook_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://",
            "https://u:p@example.com",
            "https://example.com/#a",
            "https://exa mple.com",
            "javascript:alert(1)",
            &format!("https://example.com/{}", "x".repeat(2048)),
        ] {
            assert!(parse_hook_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_that_http_does_not_allow_is_refused_with_the_reason() {
        for (url, character) in [
            ("https://{{host}}/hook", "'{'"),
            ("http://a{b}.example.com/", "'{'"),
            ("http://a}.example.com/", "'}'"),
            ("http://a\"b.example/", "'\"'"),
            ("http://a`b.example/", "'`'"),
        ] {
            let error = parse_hook_url(url).unwrap_err().to_string();
            assert!(error.contains(character), "{error}");
        }
        for url in [
            "http://ok.example/{id}",
            "http://ok.example/a\"b?c=`{}",
            "http://ok.example/?q=\\|^ü",
        ] {
            assert!(parse_hook_url(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_timeout_of_zero_and_too_many_headers_are_refused() {
        let hook = |timeout: &str, headers: usize| NewHook {
            alias: None,
            account: "default".into(),
            url: "https://example.com".into(),
            events: vec![EventPattern::Any],
            profile: "standard".into(),
            settings: HookSettings {
                timeout: timeout.parse().ok(),
                ..HookSettings::default()
            },
            credentials: HookCredentials {
                headers: vec![("x-a".into(), "b".into()); headers],
                ..HookCredentials::default()
            },
            at_most: None,
        };
        let timeout = SettingsError::new("timeout", "must be longer than 0s");
        assert_eq!(hook("1s", 100).check(), Ok(()));
        assert_eq!(hook("0s", 0).check(), Err(timeout.into()));
        assert_eq!(hook("1s", 101).check(), Err(HookError::HeadersTooMany));
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated_in_the_error() {
        let error = parse_hook_url("https://u:hunter2@example.com").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn reserved_and_malformed_headers_are_refused() {
        assert!(check_header("X-Token", "abc").is_ok());
        for (name, value) in [
            ("Host", "a"),
            ("Webhook-Id", "a"),
            ("a b", "c"),
            ("x", "a\r\nb: c"),
        ] {
            assert!(check_header(name, value).is_err(), "{name}");
        }
    }

    #[test]
    fn rotation_keeps_the_old_secret_for_its_overlap() {
        let now = Utc.timestamp_opt(1_000, 0).unwrap();
        let later = now + TimeDelta::hours(24);
        let mut credentials = HookCredentials::signed_with(SigningSecret::generate());
        credentials.rotate(SigningSecret::generate(), now, later);
        assert_eq!(credentials.signer(now).len(), 2);
        assert_eq!(credentials.signer(later).len(), 1);
        credentials.rotate(SigningSecret::generate(), now, now);
        assert_eq!(credentials.signer(now).len(), 1);
    }
}
