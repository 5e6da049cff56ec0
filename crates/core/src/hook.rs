//! A subscriber: where deliveries go, which events it asks for, how they are signed.

use crate::event::{are_too_many_headers, is_header_name, is_header_value, is_reserved_header};
use crate::{
    EventPattern, HEADERS_MAX, HEADERS_MAX_BYTES, HOOK_URL_MAX_BYTES, HookId, HookSettings,
    NewAlias, Phase, SettingsError, Signer, SigningSecret, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use url::Url;

/// A subscriber.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Its id.
    pub id: HookId,
    /// The id under which its profile's own API knows it, if the profile has one.
    pub alias: Option<String>,
    /// Whose events it gets.
    pub account: String,
    /// Where its deliveries go, exactly as it was registered.
    pub url: String,
    /// Which events it asks for.
    pub events: Vec<EventPattern>,
    /// The delivery format and policy, by name (`standard`).
    pub profile: String,
    /// Whether deliveries go out.
    pub status: HookStatus,
    /// Why, when and by whom it was disabled.
    pub disabled: Option<Disabled>,
    /// Whether it is held back because of its failures.
    pub phase: Option<Phase>,
    /// What it sets for itself.
    pub settings: HookSettings,
    /// What proves the sender; sealed at rest, never shown again, never logged.
    pub credentials: HookCredentials,
    /// Its credentials could not be opened with the keys we have: deliveries are made for it,
    /// none is started.
    pub locked: bool,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Grows with every change of any hook: what caches are kept current by.
    pub version: i64,
}

/// Whether a hook's deliveries go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookStatus {
    /// They do.
    Active,
    /// A person paused it: deliveries are made and held.
    Paused,
    /// We disabled it, or a person did; see [`DisabledReason`].
    Disabled,
}

/// Why a hook is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// It kept failing: deliveries are made and held.
    Failures,
    /// It answered 410: no more deliveries are made.
    Gone,
    /// A person disabled it: deliveries are made and held.
    Manual,
}

/// Why, when and by whom a hook was disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// Why.
    pub reason: DisabledReason,
    /// When.
    pub at: Timestamp,
    /// By whom: `postrider` or a person's way in, such as `cli`.
    pub by: String,
}

/// What proves the sender to the receiver.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookCredentials {
    /// The signing secrets, newest first; older ones until they expire.
    pub secrets: Vec<RotatingSecret>,
    /// A secret that is sent as it is, for profiles that do not sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// HTTP Basic credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
    /// Extra request headers; they may hold tokens, so they are sealed too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

/// A signing secret and how long it is still used.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotatingSecret {
    /// The secret.
    pub secret: SigningSecret,
    /// Until when an old secret still signs; the current one has no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// HTTP Basic credentials for the receiver.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasicAuth {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// A hook to be registered.
#[derive(Clone, Debug)]
pub struct NewHook {
    /// The id under which its profile's own API is to know it, if the profile has one.
    pub alias: Option<NewAlias>,
    /// Whose events it gets.
    pub account: String,
    /// Where its deliveries go.
    pub url: String,
    /// Which events it asks for; at least one, unless it has an alias.
    pub events: Vec<EventPattern>,
    /// The delivery format and policy.
    pub profile: String,
    /// What it sets for itself.
    pub settings: HookSettings,
    /// What proves the sender.
    pub credentials: HookCredentials,
    /// It is refused when the account has so many hooks of this profile already.
    pub at_most: Option<u32>,
}

/// The hook cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The URL is not one we can send to.
    #[error("{url:?} is not a URL Postrider can send to: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it, and what to write instead.
        why: String,
    },
    /// No event type was given.
    #[error(
        "the hook asks for no events: give at least one event type, a prefix such as \"invoice.*\", or \"*\""
    )]
    NoEvents,
    /// A header that is malformed or that Postrider sets itself.
    #[error("the header {0:?} cannot be set: {1}")]
    Header(String, &'static str),
    /// There are more extra headers than receivers take.
    #[error(
        "there are more than {HEADERS_MAX} headers, or more than {HEADERS_MAX_BYTES} bytes of them: receivers refuse so many"
    )]
    HeadersTooMany,
    /// A setting has a value that it cannot have.
    #[error(transparent)]
    Setting(#[from] SettingsError),
    /// The secret cannot stand in a header.
    #[error("the secret has a control character: it is sent in a header and cannot have one")]
    Token,
    /// The account has as many hooks of this profile as it may have.
    #[error("the account has {0} hooks of this profile already, as many as it may have")]
    TooMany(u32),
    /// The account is empty or too long.
    #[error("the account must be 1 to {max} bytes long", max = crate::KEY_MAX_BYTES)]
    Account,
}

impl HookError {
    /// The member of the hook's JSON that is wrong; `None` when it is not one member.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Url { .. } => Some("url"),
            Self::NoEvents => Some("events"),
            Self::Header(..) | Self::HeadersTooMany => Some("headers"),
            Self::Setting(error) => Some(error.field),
            Self::Account => Some("account"),
            Self::Token | Self::TooMany(_) => None,
        }
    }
}

impl Hook {
    /// Whether an event of this type is for this hook.
    pub fn matches(&self, event_type: &str) -> bool {
        self.events
            .iter()
            .any(|pattern| pattern.matches(event_type))
    }

    /// Whether fan-out makes deliveries for it: not when the receiver said it is gone.
    pub fn takes_deliveries(&self) -> bool {
        !matches!(
            self.disabled,
            Some(Disabled {
                reason: DisabledReason::Gone,
                ..
            })
        ) || self.status != HookStatus::Disabled
    }

    /// Whether one worker alone must start its deliveries.
    pub fn is_gated(&self) -> bool {
        self.phase.is_some() || self.settings.is_limited()
    }
}

impl HookCredentials {
    /// Credentials with this signing secret alone.
    pub fn signed_with(secret: SigningSecret) -> Self {
        Self {
            secrets: vec![RotatingSecret {
                secret,
                expires_at: None,
            }],
            ..Self::default()
        }
    }

    /// Makes `secret` the current one; the one before signs too until `overlap_until`.
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
    /// Checks every field.
    ///
    /// # Errors
    /// The first thing that is wrong.
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

/// A token is sent in a header.
pub(crate) fn check_token(token: Option<&str>) -> Result<(), HookError> {
    match token.is_none_or(is_header_value) {
        true => Ok(()),
        false => Err(HookError::Token),
    }
}

/// A hook that its profile's own API knows may ask for nothing for a while; for others that is
/// a mistake.
pub(crate) fn check_patterns(events: &[EventPattern], has_alias: bool) -> Result<(), HookError> {
    match events.is_empty() && !has_alias {
        true => Err(HookError::NoEvents),
        false => Ok(()),
    }
}

/// Whether a hook may send these headers.
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

/// The URL of a hook: absolute, `http` or `https`, with a host, without credentials or
/// fragment.
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
    Ok(url)
}

impl HookStatus {
    /// The status's name, as it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }

    /// The status of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Paused, Self::Disabled]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

impl DisabledReason {
    /// The reason's name, as it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Gone => "gone",
            Self::Manual => "manual",
        }
    }

    /// The reason of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Failures, Self::Gone, Self::Manual]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn what_no_request_can_keep_to_is_refused() {
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
