//! What the requests of a hook share, and the request of one attempt.

use super::profile::Profile;
use crate::client::{Request, Target};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use postrider_core::{Event, Hook, Signer, Timestamp};
use postrider_store::Delivery;
use std::sync::Arc;
use std::time::Duration;

/// The input from which a profile builds the request of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// The hook it is sent to, as it is now.
    pub hook: &'a Hook,
    /// The event of the request's first delivery.
    pub event: &'a Event,
    /// The other deliveries of the same request, after it; none unless the profile batches.
    pub others: &'a [Delivery],
    /// The delivery's first attempt is 1.
    pub number: u32,
    /// The time of the attempt, which signatures carry.
    pub now: Timestamp,
}

impl Sending<'_> {
    /// The events of the request, in their order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        let others = self.others.iter().map(|delivery| &*delivery.event);
        std::iter::once(self.event).chain(others)
    }
}

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
    #[error("no HTTP request can be sent to the URL of the hook")]
    Url,
    /// A header was accepted once and is not any more.
    #[error("a header of the hook is malformed")]
    Header,
}

impl PrepareError {
    /// Whether it is the hook's failure. Another worker, of a newer release, may know the profile.
    pub fn is_hook_failure(&self) -> bool {
        !matches!(self, Self::UnknownProfile(_))
    }
}

impl Prepared {
    /// Works out what the requests of `hook` share. `profile` is the hook's, `None` if this worker
    /// does not know it. No request takes longer than `longest`.
    ///
    /// # Errors
    /// When the hook cannot be sent to by this worker.
    pub fn new(
        hook: &Hook,
        longest: Duration,
        profile: Option<&Arc<Profile>>,
        now: Timestamp,
    ) -> Result<Self, PrepareError> {
        let profile = profile.ok_or_else(|| PrepareError::UnknownProfile(hook.profile.clone()))?;
        let url = postrider_core::parse_hook_url(&hook.url)?;
        let own = hook.settings.timeout.map(|own| own.get());
        let timeout = own.or(profile.policy.timeout).unwrap_or(longest);
        Ok(Self {
            profile: profile.clone(),
            signer: hook.credentials.signer(now),
            target: Target::of(&url)
                .ok_or(PrepareError::Url)?
                .naming(profile.header_names),
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
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 9);
        // First, as RFC 9110 §7.2 recommends.
        headers.insert(header::HOST, self.target.host());
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

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::parse_hook_url;

    #[test]
    fn every_url_that_is_accepted_can_be_sent_to() {
        let mut accepted = 0;
        for code in 0..0x80_u8 {
            let written = [char::from(code).to_string(), format!("%{code:02x}")];
            for c in written {
                for url in [
                    format!("http://a{c}b.example/"),
                    format!("http://{c}.example/"),
                    format!("http://a.example/b{c}c"),
                    format!("http://a.example/?b{c}c={c}"),
                ] {
                    if let Ok(parsed) = parse_hook_url(&url) {
                        accepted += 1;
                        let target = Target::of(&parsed);
                        assert!(target.is_some(), "{url}");
                    }
                }
            }
        }
        assert!(accepted > 4 * 60, "{accepted}");
    }
}
