//! The target of a hook at some moment. Some profiles send every retry to the target of the first
//! attempt, even when the hook was changed or deleted meanwhile.

use crate::{Hook, HookCredentials};
use serde::{Deserialize, Serialize};

/// A URL and the credentials for it. The two belong together: a secret that was set with a new
/// URL is never sent to the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookTarget {
    /// The destination of the requests.
    pub url: String,
    /// The credentials of the sender. Stored sealed, never shown or logged.
    pub credentials: HookCredentials,
}

impl HookTarget {
    /// The present target of `hook`.
    pub fn of(hook: &Hook) -> Self {
        Self {
            url: hook.url.clone(),
            credentials: hook.credentials.clone(),
        }
    }

    /// Whether it is the present target of `hook`.
    pub fn is_of(&self, hook: &Hook) -> bool {
        self.url == hook.url && self.credentials == hook.credentials
    }
}

impl Hook {
    /// A copy of the hook with this target.
    #[must_use]
    pub fn pointed_at(&self, target: &HookTarget) -> Self {
        Self {
            url: target.url.clone(),
            credentials: target.credentials.clone(),
            ..self.clone()
        }
    }
}
