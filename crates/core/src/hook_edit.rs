//! A change of a hook through an API.

use crate::hook::{check_headers, check_patterns, check_token};
use crate::{BasicAuth, EventPattern, Hook, HookError, HookStatus, SettingsChange, parse_hook_url};
use serde_json::{Map, Value};

/// Changes of one hook that are made together. `None` leaves a member as it is.
#[derive(Clone, Default, PartialEq)]
pub struct HookEdit {
    /// The URL of its deliveries.
    pub url: Option<String>,
    /// The event types it gets.
    pub events: Option<Vec<EventPattern>>,
    /// The secret that is sent unchanged; `Some(None)` removes it.
    pub token: Option<Option<String>>,
    /// HTTP Basic credentials; `Some(None)` removes them.
    pub basic: Option<Option<BasicAuth>>,
    /// Extra request headers, which replace all that it had.
    pub headers: Option<Vec<(String, String)>>,
    /// Changes of its own settings.
    pub settings: SettingsChange,
    /// Settings that only its profile knows, by name; `null` removes one.
    pub profile: Map<String, Value>,
    /// Whether its deliveries are sent. `active` resets its failures, as enabling does.
    pub status: Option<HookStatus>,
}

impl HookEdit {
    /// Whether credentials change, which needs the keys that seal them.
    pub fn concerns_credentials(&self) -> bool {
        self.token.is_some() || self.basic.is_some() || self.headers.is_some()
    }

    /// The names of the changed members with commas between them, without the status.
    pub fn names(&self) -> String {
        let own = [
            ("url", self.url.is_some()),
            ("events", self.events.is_some()),
            ("headers", self.headers.is_some()),
            ("credentials", self.token.is_some() || self.basic.is_some()),
        ];
        let own = own.iter().filter(|(_, changed)| *changed);
        let own = own.map(|(name, _)| *name);
        let settings = self.settings.names();
        let settings = Some(settings.as_str()).filter(|names| !names.is_empty());
        let of_profile = self.profile.keys().map(String::as_str);
        let all = own.chain(settings).chain(of_profile);
        all.collect::<Vec<_>>().join(", ")
    }

    /// Makes the changes except for that of the status, which the store records separately.
    ///
    /// # Errors
    /// The first member that is wrong. The hook is then changed in part and must not be used.
    pub fn apply(self, hook: &mut Hook) -> Result<(), HookError> {
        if let Some(url) = self.url {
            parse_hook_url(&url)?;
            hook.url = url;
        }
        if let Some(events) = self.events {
            check_patterns(&events, hook.alias.is_some())?;
            hook.events = events;
        }
        if let Some(token) = self.token {
            check_token(token.as_deref())?;
            hook.credentials.token = token;
        }
        if let Some(basic) = self.basic {
            hook.credentials.basic = basic;
        }
        if let Some(headers) = self.headers {
            check_headers(&headers)?;
            hook.credentials.headers = headers;
        }
        hook.settings.apply(self.settings);
        hook.settings.check()?;
        for (name, value) in self.profile {
            match value {
                Value::Null => hook.settings.profile.remove(&name),
                value => hook.settings.profile.insert(name, value),
            };
        }
        Ok(())
    }
}

impl std::fmt::Debug for HookEdit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookEdit")
            .field("url", &self.url)
            .field("events", &self.events)
            .field("credentials", &self.concerns_credentials())
            .field("settings", &self.settings)
            .field("profile", &self.profile)
            .field("status", &self.status)
            .finish()
    }
}
