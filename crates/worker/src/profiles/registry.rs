//! The profiles that a worker knows.

use super::{Profile, standard};
use postrider_core::Hook;
use std::sync::Arc;

/// The profiles that a worker knows, the standard one first.
#[derive(Clone, Debug)]
pub struct Profiles(Vec<Arc<Profile>>);

impl Profiles {
    /// The standard profile and these.
    pub fn with(others: impl IntoIterator<Item = Profile>) -> Self {
        let all = std::iter::once(standard::profile()).chain(others);
        Self(all.map(Arc::new).collect())
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.0.iter()
    }

    /// The profile of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Profile>> {
        self.iter().find(|profile| profile.name == name)
    }

    /// The profile of a hook. A hook whose profile is not known cannot be sent to, and has the
    /// policy of the standard one.
    pub(crate) fn of(&self, hook: &Hook) -> &Profile {
        self.named(&hook.profile).unwrap_or(&self.0[0])
    }
}

/// The standard profile alone.
impl Default for Profiles {
    fn default() -> Self {
        Self::with([])
    }
}

/// Profiles are equal when they have the same names: the settings they are made from are compared
/// where they are read.
impl PartialEq for Profiles {
    fn eq(&self, other: &Self) -> bool {
        let names = |profiles: &Self| profiles.iter().map(|p| p.name).collect::<Vec<_>>();
        names(self) == names(other)
    }
}

impl Eq for Profiles {}
