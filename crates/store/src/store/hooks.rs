//! Hooks: registration, changes, history.

use crate::{HookChangeReport, HookReport, RegisteredHook, Result};
use async_trait::async_trait;
use postrider_core::{
    Hook, HookEdit, HookId, HookStatus, NewHook, SettingsChange, SigningSecret, Timestamp,
};

/// A change of a hook by a person.
#[derive(Clone, Debug)]
pub enum HookChange {
    /// Hold its deliveries.
    Pause,
    /// Let its deliveries go on; its failures are forgotten.
    Enable,
    /// Hold its deliveries, and say that a person did it.
    Disable,
    /// Change what it sets for itself.
    Set(SettingsChange),
    /// Change what it was registered with.
    Edit(Box<HookEdit>),
    /// Sign with this secret from now on; the one before signs too until the given moment.
    Rotate {
        /// The new secret.
        secret: SigningSecret,
        /// Until when the old one signs too.
        overlap_until: Timestamp,
    },
}

impl HookChange {
    /// Whether the hook's failures are forgotten with it.
    pub(crate) fn forgets_failures(&self) -> bool {
        match self {
            Self::Enable => true,
            Self::Edit(edit) => edit.status == Some(HookStatus::Active),
            Self::Pause | Self::Disable | Self::Set(_) | Self::Rotate { .. } => false,
        }
    }
}

/// Which hooks to list.
#[derive(Clone, Debug, Default)]
pub struct HookFilter {
    /// Only this account's.
    pub account: Option<String>,
    /// Only those of this profile.
    pub profile: Option<String>,
    /// Only hooks registered after this one (by id, which sorts by time).
    pub after: Option<HookId>,
    /// At most this many.
    pub limit: u32,
}

/// Which hooks to show as a profile's own API shows them.
#[derive(Clone, Debug, Default)]
pub struct RegisteredFilter {
    /// This account's.
    pub account: String,
    /// Those of this profile.
    pub profile: String,
    /// Only the one with this alias.
    pub only: Option<String>,
    /// Only those whose alias is this one or sorts before it, byte by byte.
    pub up_to: Option<String>,
    /// At most this many.
    pub limit: u32,
}

/// Which changes of a hook to list, newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryFilter {
    /// Only changes before the one of this number.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: u32,
}

/// The latest answer of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatestAnswer {
    /// Which hook.
    pub hook: HookId,
    /// When the attempt started.
    pub at: Timestamp,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
}

/// Hooks: registration, changes, history.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Registers a hook. Its credentials are sealed. An alias that a hook of the profile has, or
    /// has had, is a conflict; a number that is drawn as an alias is never drawn again. Of calls
    /// at the same time no more succeed than `at_most` allows.
    ///
    /// `by` names the way in, such as `cli`, here and in every change: each is recorded in the
    /// hook's history by the transaction that makes it.
    async fn create_hook(&self, hook: NewHook, by: &str, now: Timestamp) -> Result<HookReport>;

    /// Changes a hook and returns it as it then is. Pausing a hook that is paused, or disabling
    /// one that is disabled, changes nothing and is not recorded. That a hook was disabled, or
    /// is active again, is announced by an event of our own where another hook asks for it.
    /// Enabling sets the fail count to 0; its held deliveries go on, beginning with a probe.
    /// What a changed filter asks for decides about events that are fanned out later; deliveries
    /// that were made stay. Limits that let nothing through, and a change of settings that a
    /// newer version wrote, are refused. An edit is made as a whole or not at all; deliveries
    /// that wait go to the new URL, with the new credentials, unless a target was kept with them.
    async fn change_hook(
        &self,
        id: HookId,
        change: HookChange,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport>;

    /// Deletes a hook: no delivery is made for it from now on, and what it has is cancelled by
    /// upkeep. Returns it as it was.
    async fn remove_hook(&self, id: HookId, by: &str, now: Timestamp) -> Result<HookReport>;

    /// One hook. Deleted ones are not found.
    async fn hook(&self, id: HookId) -> Result<HookReport>;

    /// One hook with its credentials opened.
    async fn hook_with_credentials(&self, id: HookId) -> Result<Hook>;

    /// Hooks in the order of their ids.
    async fn hooks(&self, filter: HookFilter) -> Result<Vec<HookReport>>;

    /// What happened to a hook, newest first, also when it was deleted. The newest 500 changes
    /// of a hook are kept.
    async fn hook_history(
        &self,
        id: HookId,
        filter: HistoryFilter,
    ) -> Result<Vec<HookChangeReport>>;

    /// Hooks of an account as the profile's own API shows them, with their credentials opened;
    /// those whose alias sorts last, byte by byte, come first. Those of other accounts, and
    /// deleted ones, are not among them.
    async fn registered(&self, filter: RegisteredFilter) -> Result<Vec<RegisteredHook>>;

    /// Records when hooks were last sent to and what they answered, where that is newer than
    /// what is recorded.
    async fn note_latest(&self, latest: &[LatestAnswer]) -> Result<()>;
}
