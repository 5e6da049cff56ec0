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
    /// Set the status to active and the fail count to 0. Held deliveries continue, beginning
    /// with a probe.
    Enable,
    /// Hold its deliveries, with the reason `manual`.
    Disable,
    /// Change its settings.
    Set(SettingsChange),
    /// Change what it was registered with.
    Edit(Box<HookEdit>),
    /// Sign with a new secret.
    Rotate {
        /// The secret that signs from now on.
        secret: SigningSecret,
        /// The old secret signs too until this time.
        overlap_until: Timestamp,
    },
}

impl HookChange {
    /// Whether the change sets the hook's fail count to 0.
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
    /// Only hooks of this account.
    pub account: Option<String>,
    /// Only hooks of this profile.
    pub profile: Option<String>,
    /// Only hooks registered after this one, by id, which sorts by time.
    pub after: Option<HookId>,
    /// Largest number of hooks returned.
    pub limit: u32,
}

/// Which hooks to show as a profile's own API shows them.
#[derive(Clone, Debug, Default)]
pub struct RegisteredFilter {
    /// Only hooks of this account.
    pub account: String,
    /// Only hooks of this profile, by its name.
    pub profile: String,
    /// Only the hook with this alias.
    pub only: Option<String>,
    /// Only hooks whose alias is this one or sorts before it, byte by byte.
    pub up_to: Option<String>,
    /// Largest number of hooks returned.
    pub limit: u32,
}

/// Which changes of a hook to list, newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryFilter {
    /// Only changes before the one of this number.
    pub before: Option<i64>,
    /// Largest number of changes returned.
    pub limit: u32,
}

/// The latest answer of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatestAnswer {
    /// The hook that answered.
    pub hook: HookId,
    /// Start of the attempt.
    pub at: Timestamp,
    /// The HTTP status; `None` if there was no answer.
    pub status: Option<u16>,
}

/// Hooks: registration, changes, history.
///
/// A locked hook is one whose credentials cannot be opened, or which a newer version wrote in a
/// way that this binary cannot read. Its deliveries are made, and wait. An unknown status is
/// shown as `paused`.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Registers a hook and returns it with its signing secret. Credentials are sealed. A number
    /// that is drawn as an alias is never drawn again. Of concurrent calls no more succeed than
    /// `at_most` allows.
    ///
    /// `by` names the interface that was used, such as `cli`, here and in every change. The
    /// transaction that makes a change records it in the hook's history.
    ///
    /// # Errors
    /// - [`Hook`](crate::Error::Hook): a field breaks a bound, or the account has `at_most`
    ///   hooks of the profile.
    /// - [`Conflict`](crate::Error::Conflict): a hook of the profile has or had the alias.
    /// - [`Seal`](crate::Error::Seal): there is no key to seal the credentials with.
    async fn create_hook(&self, hook: NewHook, by: &str, now: Timestamp) -> Result<HookReport>;

    /// Changes a hook and returns it as it then is, with its signing secret if that is new.
    ///
    /// Pausing a paused hook, or disabling a disabled one, changes nothing and is not recorded.
    /// If the hook is disabled or active again, an operational event says so, where another
    /// hook of the account asks for it. A changed filter decides about events that are fanned
    /// out later; existing deliveries stay. An edit is made as a whole or not at all. Waiting
    /// deliveries go to the new URL with the new credentials, unless a target was kept with them.
    ///
    /// # Errors
    /// - [`NotFound`](crate::Error::NotFound): the hook is unknown or deleted.
    /// - [`Hook`](crate::Error::Hook): a field breaks a bound, or a limit would let nothing
    ///   through.
    /// - [`Conflict`](crate::Error::Conflict): a newer version wrote settings that would be
    ///   overwritten.
    /// - [`Seal`](crate::Error::Seal): changed credentials cannot be opened or sealed.
    async fn change_hook(
        &self,
        id: HookId,
        change: HookChange,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport>;

    /// Deletes a hook and returns it as it was. No further delivery is made for it, and upkeep
    /// cancels those that exist.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound): the hook is unknown or deleted.
    async fn remove_hook(&self, id: HookId, by: &str, now: Timestamp) -> Result<HookReport>;

    /// Returns one hook.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound): the hook is unknown or deleted.
    async fn hook(&self, id: HookId) -> Result<HookReport>;

    /// Returns one hook with its credentials.
    ///
    /// # Errors
    /// - [`NotFound`](crate::Error::NotFound): the hook is unknown or deleted.
    /// - [`Seal`](crate::Error::Seal): its credentials cannot be opened with the keys at hand.
    async fn hook_with_credentials(&self, id: HookId) -> Result<Hook>;

    /// Lists hooks in the order of their ids, without deleted ones.
    ///
    /// # Errors
    /// Those of every method.
    async fn hooks(&self, filter: HookFilter) -> Result<Vec<HookReport>>;

    /// Lists the changes of a hook, newest first, also if it was deleted. The newest 500 changes
    /// of a hook are kept.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound): there was never such a hook.
    async fn hook_history(
        &self,
        id: HookId,
        filter: HistoryFilter,
    ) -> Result<Vec<HookChangeReport>>;

    /// Lists hooks of an account as their profile's own API shows them, with their credentials.
    /// They are sorted by alias, byte by byte, the last first. Deleted hooks are left out.
    ///
    /// # Errors
    /// [`Seal`](crate::Error::Seal): the credentials of one of them cannot be opened.
    async fn registered(&self, filter: RegisteredFilter) -> Result<Vec<RegisteredHook>>;

    /// Records the latest answers of hooks, where they are newer than those on record.
    ///
    /// # Errors
    /// Those of every method.
    async fn note_latest(&self, latest: &[LatestAnswer]) -> Result<()>;
}
