//! The hook cache: the hooks as a store last read them, with their version.

use postrider_core::{Hook, HookId, OPERATIONAL_TYPES};
use std::collections::HashMap;
use std::sync::Arc;

/// All hooks that are not deleted, by id and by account.
///
/// A cache is immutable. A store that finds a newer version in the database makes a new cache from
/// it. Fan-out reads the version in the statement that reads the outbox rows, so that a row is never
/// matched against hooks older than the row.
#[derive(Clone, Debug, Default)]
pub struct HookCache {
    version: i64,
    hooks: HashMap<HookId, Arc<Hook>>,
    by_account: HashMap<String, Vec<HookId>>,
    /// Hooks that get operational events, by account. Mostly empty.
    watching: HashMap<String, Vec<HookId>>,
    /// The number of ordered hooks.
    ordered: usize,
}

/// One change to a cache.
#[derive(Clone, Debug)]
pub(crate) enum HookUpdate {
    /// The hook was made or changed.
    Put(Arc<Hook>),
    /// The hook was deleted.
    Gone(HookId),
}

impl HookCache {
    /// A cache of these hooks, at the newest of their versions.
    pub fn of(hooks: impl IntoIterator<Item = Hook>) -> Self {
        let hooks: Vec<_> = hooks.into_iter().map(Arc::new).collect();
        let version = hooks.iter().map(|hook| hook.version).max().unwrap_or(0);
        Self::default().with(hooks.into_iter().map(HookUpdate::Put).collect(), version)
    }

    /// The highest version that this cache includes.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The hook with this id; `None` when it is unknown or deleted.
    pub fn get(&self, id: HookId) -> Option<&Arc<Hook>> {
        self.hooks.get(&id)
    }

    /// Whether any hook is ordered.
    pub(crate) fn has_ordered(&self) -> bool {
        self.ordered > 0
    }

    /// The number of hooks.
    pub fn len(&self) -> usize {
        self.hooks.len()
    }

    /// Whether there are no hooks.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// The hooks of `account` whose patterns match this event type, in the order of their ids.
    /// Payload filters are not evaluated.
    pub fn matching<'a>(
        &'a self,
        account: &str,
        event_type: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Hook>> {
        self.by_account
            .get(account)
            .into_iter()
            .flatten()
            .filter_map(|id| self.hooks.get(id))
            .filter(move |hook| hook.takes_deliveries() && hook.matches(event_type))
    }

    /// Whether any hook gets operational events.
    pub(crate) fn is_any_account_watched(&self) -> bool {
        !self.watching.is_empty()
    }

    /// Whether a hook of the account other than `about` gets operational events of this type.
    pub(crate) fn is_watched(&self, account: &str, event_type: &str, about: HookId) -> bool {
        let watching = self.watching.get(account).into_iter().flatten();
        watching
            .filter(|id| **id != about)
            .filter_map(|id| self.hooks.get(id))
            .any(|hook| hook.takes_deliveries() && hook.matches(event_type))
    }

    /// Removes a hook from those that get operational events.
    fn forget_watching(&mut self, account: &str, id: HookId) {
        if let Some(watching) = self.watching.get_mut(account) {
            watching.retain(|other| *other != id);
            if watching.is_empty() {
                self.watching.remove(account);
            }
        }
    }

    /// The cache after these changes, at `version`.
    pub(crate) fn with(&self, updates: Vec<HookUpdate>, version: i64) -> Self {
        let mut cache = self.clone();
        cache.version = version;
        for update in updates {
            match update {
                HookUpdate::Put(hook) => {
                    let ids = cache.by_account.entry(hook.account.clone()).or_default();
                    if let Err(place) = ids.binary_search(&hook.id) {
                        ids.insert(place, hook.id);
                    }
                    cache.forget_watching(&hook.account, hook.id);
                    if OPERATIONAL_TYPES.iter().any(|name| hook.matches(name)) {
                        let watching = cache.watching.entry(hook.account.clone()).or_default();
                        watching.push(hook.id);
                    }
                    cache.ordered += usize::from(hook.settings.ordered.is_some());
                    let before = cache.hooks.insert(hook.id, hook);
                    cache.ordered -=
                        usize::from(before.is_some_and(|hook| hook.settings.ordered.is_some()));
                }
                HookUpdate::Gone(id) => {
                    if let Some(hook) = cache.hooks.remove(&id) {
                        cache.ordered -= usize::from(hook.settings.ordered.is_some());
                        if let Some(ids) = cache.by_account.get_mut(&hook.account) {
                            ids.retain(|other| *other != id);
                        }
                        cache.forget_watching(&hook.account, id);
                    }
                }
            }
        }
        cache
    }
}
