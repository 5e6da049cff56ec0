//! The history of a hook: the kinds of changes that are recorded.

use serde::{Deserialize, Serialize};

/// The actor of changes that Postrider makes by itself, such as disabling a hook.
pub const OURSELVES: &str = "postrider";

/// A change of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookAction {
    /// The hook was registered.
    Created,
    /// Its settings were changed.
    Changed,
    /// It was paused.
    Paused,
    /// It was made active again, or its failures were reset.
    Enabled,
    /// It was disabled.
    Disabled,
    /// A new signing secret was set.
    SecretRotated,
    /// It was deleted.
    Removed,
    /// It reached half of the failures that disable it.
    Warned,
    /// Its held deliveries were discarded.
    Discarded,
}

impl HookAction {
    /// All actions, for documents and tests.
    pub const ALL: [Self; 9] = [
        Self::Created,
        Self::Changed,
        Self::Paused,
        Self::Enabled,
        Self::Disabled,
        Self::SecretRotated,
        Self::Removed,
        Self::Warned,
        Self::Discarded,
    ];

    /// The name under which the action is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Paused => "paused",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::SecretRotated => "secret_rotated",
            Self::Removed => "removed",
            Self::Warned => "warned",
            Self::Discarded => "discarded",
        }
    }

    /// The action with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}
