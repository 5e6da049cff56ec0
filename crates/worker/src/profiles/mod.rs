//! Profiles: how requests are built and answers judged.
//!
//! A profile is data and a [`Format`]. The worker has one of its own, Standard Webhooks; those of
//! compatible systems are handed in at start ([`Profiles::with`]) and not known here by name.

mod policy;
mod registry;
mod standard;

pub use policy::{DisableWhen, Policy};
pub use registry::Profiles;

use crate::client::{Request, Target};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use postrider_core::{AliasForm, Batching, Event, Hook, Outcome, Signer, Timestamp};
use postrider_store::Delivery;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A delivery format and its policy.
#[derive(Clone)]
pub struct Profile {
    /// Its name, as hooks carry it.
    pub name: &'static str,
    /// How the ids look under which its own API knows hooks, if it has one.
    pub alias: Option<AliasForm>,
    /// What a hook's secret is to it.
    pub secret: SecretUse,
    /// What only its hooks can set (`HookSettings::profile`), and to what.
    pub settings: &'static [ProfileSetting],
    /// What requests say that they come from.
    pub user_agent: &'static str,
    /// What holds for its hooks.
    pub policy: Policy,
    /// How its requests are built and their answers judged.
    pub format: Arc<dyn Format>,
}

/// How the requests of a profile are built and their answers judged.
pub trait Format: Send + Sync {
    /// The headers that all requests of a hook have; `None` when one of them is malformed.
    fn shared(&self, hook: &Hook) -> Option<HeaderMap>;

    /// Builds the body of one attempt, and sets the headers that only this attempt has.
    fn build(&self, prepared: &Prepared, sending: &Sending<'_>, headers: &mut HeaderMap) -> Bytes;

    /// Judges the answer that was received at `now`.
    fn judge(&self, status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Outcome {
        standard::judge(status, headers, now)
    }

    /// Whether any hook of the profile may get several events in one request.
    fn batches_any(&self) -> bool {
        false
    }

    /// How the events of this hook are batched; `None` when each request has one event.
    fn batching(&self, hook: &Hook) -> Option<Batching> {
        let _ = hook;
        None
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What a hook's secret is to a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretUse {
    /// It signs each request, and is made unless given.
    Signs,
    /// Its SHA-1 is kept and sent, nothing else.
    SentAsSha1,
    /// It is kept and sent as it is, also when it is empty.
    Sent,
    /// There is none.
    None,
}

/// Something that only the hooks of one profile can set.
#[derive(Clone, Copy, Debug)]
pub struct ProfileSetting {
    /// Its name.
    pub name: &'static str,
    /// What it can be set to.
    pub values: SettingValues,
}

/// What a setting of a profile can be set to.
#[derive(Clone, Copy, Debug)]
pub enum SettingValues {
    /// Any text.
    Text,
    /// One of these, the default first.
    OneOf(&'static [&'static str]),
    /// A number from 1 on.
    Count {
        /// The largest, and the default.
        most: u32,
    },
}

/// One attempt that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// To whom.
    pub hook: &'a Hook,
    /// What.
    pub event: &'a Event,
    /// The other deliveries of the same request, after it; none unless the profile batches.
    pub others: &'a [Delivery],
    /// The delivery's first attempt is 1.
    pub number: u32,
    /// When.
    pub now: Timestamp,
}

impl Sending<'_> {
    /// The events of the request, in their order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        let others = self.others.iter().map(|delivery| &*delivery.event);
        std::iter::once(self.event).chain(others)
    }
}

/// The `User-Agent` of requests whose profile has no other.
pub const USER_AGENT: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));

/// What all requests of a hook share, worked out once for each version of it.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) profile: Arc<Profile>,
    pub(crate) signer: Signer,
    target: Target,
    headers: HeaderMap,
    timeout: Duration,
    version: i64,
    /// When the first of the old secrets ends, so that the signer must be made anew.
    valid_until: Option<Timestamp>,
}

/// The hook cannot be sent to by this worker.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The profile is not one this binary knows.
    #[error("this worker does not know the profile {0:?}: upgrade it")]
    UnknownProfile(String),
    /// The URL was accepted once and is not any more.
    #[error(transparent)]
    Hook(#[from] postrider_core::HookError),
    /// The URL is one that HTTP itself does not allow.
    #[error("the URL of the hook cannot be sent to")]
    Url,
    /// A header was accepted once and is not any more.
    #[error("a header of the hook is malformed")]
    Header,
}

impl Prepared {
    /// Works out what the requests of `hook` share; none takes longer than `longest`.
    ///
    /// # Errors
    /// When the hook cannot be sent to by this worker.
    pub fn new(
        hook: &Hook,
        longest: Duration,
        profiles: &Profiles,
        now: Timestamp,
    ) -> Result<Self, PrepareError> {
        let profile = profiles
            .named(&hook.profile)
            .ok_or_else(|| PrepareError::UnknownProfile(hook.profile.clone()))?;
        let url = postrider_core::parse_hook_url(&hook.url)?;
        let own = hook.settings.timeout.map(|own| own.get());
        let timeout = own.or(profile.policy.timeout).unwrap_or(longest);
        Ok(Self {
            profile: profile.clone(),
            signer: hook.credentials.signer(now),
            target: Target::of(&url).ok_or(PrepareError::Url)?,
            headers: profile.format.shared(hook).ok_or(PrepareError::Header)?,
            timeout: timeout.min(longest),
            version: hook.version,
            valid_until: hook
                .credentials
                .secrets
                .iter()
                .filter_map(|secret| secret.expires_at)
                .filter(|end| *end > now)
                .min(),
        })
    }

    /// Whether it still describes `hook` at `now`.
    pub fn is_current(&self, hook: &Hook, now: Timestamp) -> bool {
        self.version == hook.version && self.valid_until.is_none_or(|end| end > now)
    }

    /// Whether the hook sets this header for itself.
    pub(crate) fn sets(&self, header: &'static str) -> bool {
        self.headers.contains_key(header)
    }

    /// The request of one attempt.
    pub fn request(&self, sending: &Sending<'_>) -> Request {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 7);
        add_event_headers(&mut headers, sending.event);
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let agent = HeaderValue::from_static(self.profile.user_agent);
        headers.insert(header::USER_AGENT, agent);
        let body = self.profile.format.build(self, sending, &mut headers);
        Request {
            target: self.target.clone(),
            headers,
            body,
            timeout: self.timeout,
        }
    }
}

/// The headers that a hook sets for itself, with its HTTP Basic credentials and the type of the
/// body; `None` when one of them is malformed.
pub fn own_headers(hook: &Hook, content_type: &'static str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let basic = hook.credentials.basic.as_ref();
    if let Some(basic) = basic.filter(|b| !b.user.is_empty() || !b.password.is_empty()) {
        let pair = BASE64.encode(format!("{}:{}", basic.user, basic.password));
        headers.insert(
            header::AUTHORIZATION,
            secret_value(&format!("Basic {pair}"))?,
        );
    }
    for (name, value) in &hook.credentials.headers {
        headers.insert(
            HeaderName::try_from(name.as_str()).ok()?,
            secret_value(value)?,
        );
    }
    Some(headers)
}

/// A header's value that is never shown.
pub fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What a hook has set of what only its profile knows.
pub fn profile_setting<'a>(hook: &'a Hook, name: &str) -> Option<&'a str> {
    hook.settings.profile.get(name)?.as_str()
}

/// Adds the headers that the application gave the event. They were checked at fan-out; the
/// hook's own and ours are set after them and win.
fn add_event_headers(headers: &mut HeaderMap, event: &Event) {
    let Some(text) = &event.headers else { return };
    let parsed: std::collections::BTreeMap<String, String> =
        serde_json::from_str(text).unwrap_or_default();
    for (name, value) in parsed {
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            headers.insert(name, value);
        }
    }
}
