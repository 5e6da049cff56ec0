//! Whether the deliveries of a hook are sent, and why not.

use crate::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether the deliveries of a hook are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookStatus {
    /// They are sent.
    Active,
    /// A person paused the hook: deliveries are made and held.
    Paused,
    /// Postrider or a person disabled the hook; see [`DisabledReason`].
    Disabled,
}

/// Why a hook is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// Its attempts kept failing: deliveries are made and held.
    Failures,
    /// The receiver answered 410: no more deliveries are made.
    Gone,
    /// A person disabled it: deliveries are made and held.
    Manual,
}

/// Why, when and by whom a hook was disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// The reason decides whether deliveries are still made.
    pub reason: DisabledReason,
    /// The time of the change.
    pub at: Timestamp,
    /// The actor: `postrider`, `cli`, or `api` and the id of a key.
    pub by: String,
}

/// How a hook is held back because of its failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Single probes with growing pauses; all other deliveries wait.
    BackedOff,
    /// A probe succeeded: 1, 2, 4, … deliveries at a time, until the full number.
    Ramping,
}

impl HookStatus {
    /// The name under which the status is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }

    /// The status with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Paused, Self::Disabled]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

impl DisabledReason {
    /// The name under which the reason is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Gone => "gone",
            Self::Manual => "manual",
        }
    }

    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Failures, Self::Gone, Self::Manual]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}

impl Phase {
    /// The name under which the phase is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::BackedOff => "backed_off",
            Self::Ramping => "ramping",
        }
    }

    /// The phase with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::BackedOff, Self::Ramping]
            .into_iter()
            .find(|phase| phase.name() == name)
    }
}
