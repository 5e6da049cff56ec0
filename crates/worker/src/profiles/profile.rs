//! A profile and its format.

use super::policy::Policy;
use super::prepared::{Prepared, Sending};
use super::standard;
use crate::client::HeaderNames;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use postrider_core::{AliasForm, Batching, Hook, Outcome, Timestamp};
use std::fmt;
use std::sync::Arc;

/// A delivery format and its policy.
#[derive(Clone)]
pub struct Profile {
    /// Its name, as hooks carry it.
    pub name: &'static str,
    /// How the ids look under which its own API knows hooks, if it has one.
    pub alias: Option<AliasForm>,
    /// How it uses a hook's secret.
    pub secret: SecretUse,
    /// The settings that only its hooks have (`HookSettings::profile`).
    pub settings: &'static [ProfileSetting],
    /// The `User-Agent` of its requests.
    pub user_agent: &'static str,
    /// How its requests write the names of headers.
    pub header_names: HeaderNames,
    /// The policy of its hooks.
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

/// How a profile uses a hook's secret.
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
    /// The name by which hooks set it (`HookSettings::profile`).
    pub name: &'static str,
    /// The values it accepts.
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
