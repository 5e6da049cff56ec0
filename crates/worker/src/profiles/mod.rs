//! What receivers see: how a request is built and how an answer is judged, by profile.
//!
//! A profile is data and two functions. The rest of the worker knows none by name.

mod standard;

use crate::client::{Request, Target};
use http::{HeaderMap, StatusCode};
use postrider_core::{Event, Hook, Outcome, Signer, Timestamp};
use std::time::Duration;

/// A delivery format and its policy.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Its name, as hooks carry it.
    pub name: &'static str,
    /// Builds the request of one attempt.
    pub build: fn(&Prepared, &Hook, &Event, Timestamp) -> Request,
    /// Judges the answer.
    pub judge: fn(StatusCode, &HeaderMap, Timestamp) -> Outcome,
}

/// Every profile there is.
pub const PROFILES: &[Profile] = &[standard::PROFILE];

impl Profile {
    /// The profile of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }
}

/// What all requests of a hook share, worked out once for each version of it.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) profile: &'static Profile,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) signer: Signer,
    pub(crate) timeout: Duration,
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
    pub fn new(hook: &Hook, longest: Duration, now: Timestamp) -> Result<Self, PrepareError> {
        let profile = Profile::named(&hook.profile)
            .ok_or_else(|| PrepareError::UnknownProfile(hook.profile.clone()))?;
        let url = postrider_core::parse_hook_url(&hook.url)?;
        Ok(Self {
            profile,
            target: Target::of(&url).ok_or(PrepareError::Url)?,
            headers: standard::shared_headers(hook).ok_or(PrepareError::Header)?,
            signer: hook.credentials.signer(now),
            timeout: hook
                .settings
                .timeout
                .map_or(longest, |own| own.get().min(longest)),
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

    /// The request of one attempt that starts at `now`.
    pub fn request(&self, hook: &Hook, event: &Event, now: Timestamp) -> Request {
        (self.profile.build)(self, hook, event, now)
    }
}
