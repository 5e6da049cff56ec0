//! Where a hook pointed at some moment: what retries are held to that go there whatever becomes
//! of the hook.

use crate::{Hook, HookCredentials};
use serde::{Deserialize, Serialize};

/// Where requests go, and what proves the sender there. The two belong together: a secret that
/// was set with a new URL is never sent to the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookTarget {
    /// The URL.
    pub url: String,
    /// What proves the sender; sealed at rest, never shown, never logged.
    pub credentials: HookCredentials,
}

impl HookTarget {
    /// Where `hook` points now.
    pub fn of(hook: &Hook) -> Self {
        Self {
            url: hook.url.clone(),
            credentials: hook.credentials.clone(),
        }
    }

    /// Whether `hook` points there.
    pub fn is_of(&self, hook: &Hook) -> bool {
        self.url == hook.url && self.credentials == hook.credentials
    }
}

impl Hook {
    /// The hook as it would be if it pointed there.
    #[must_use]
    pub fn pointed_at(&self, target: &HookTarget) -> Self {
        Self {
            url: target.url.clone(),
            credentials: target.credentials.clone(),
            ..self.clone()
        }
    }
}
