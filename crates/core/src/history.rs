//! What is recorded of a hook beside its state: who changed it, and how.

use serde::{Deserialize, Serialize};

/// Who changes a hook without being asked to.
pub const OURSELVES: &str = "postrider";

/// What happened to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookAction {
    /// It was registered.
    Created,
    /// Its settings were changed.
    Changed,
    /// It was paused.
    Paused,
    /// It was made active again, or its failures were forgotten.
    Enabled,
    /// It was disabled.
    Disabled,
    /// It got a new signing secret.
    SecretRotated,
    /// It was deleted.
    Removed,
    /// It is half of the way to being disabled.
    Warned,
    /// What it held was given up.
    Discarded,
}

impl HookAction {
    /// All actions.
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

    /// The action's name, as it is stored and shown.
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

    /// The action of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}
