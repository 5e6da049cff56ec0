//! The hooks as a store last read them, kept current by their version.

use postrider_core::{Hook, HookId, OPERATIONAL_TYPES};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// All hooks that are not deleted, by id and by account.
///
/// A cache is immutable: a store that finds a newer version in the database derives a new cache
/// from this one. A fan-out reads the version in the statement that reads the outbox rows, so it
/// never matches a row against hooks older than the row.
#[derive(Clone, Debug, Default)]
pub struct HookCache {
    version: i64,
    hooks: HashMap<HookId, Arc<Hook>>,
    by_account: HashMap<String, Vec<HookId>>,
    /// Hooks that ask for operational events, by account; nearly always there are none.
    watching: HashMap<String, Vec<HookId>>,
    /// Number of hooks that are ordered.
    ordered: usize,
}

/// One change to a cache.
#[derive(Clone, Debug)]
pub(crate) enum HookUpdate {
    /// The hook was created or changed.
    Put(Arc<Hook>),
    /// The hook was deleted.
    Gone(HookId),
}

/// The place where a store keeps its latest cache.
#[derive(Debug, Default)]
pub(crate) struct LatestHookCache(RwLock<Arc<HookCache>>);

impl LatestHookCache {
    pub(crate) fn get(&self) -> Arc<HookCache> {
        let latest = self.0.read().unwrap_or_else(PoisonError::into_inner);
        latest.clone()
    }

    /// Keeps `cache` if its version is newer than that of the one that is kept.
    pub(crate) fn advance(&self, cache: &Arc<HookCache>) {
        let mut latest = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if latest.version() < cache.version() {
            *latest = cache.clone();
        }
    }

    /// Keeps `cache` whatever its version is.
    pub(crate) fn replace(&self, cache: &Arc<HookCache>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = cache.clone();
    }
}

impl HookCache {
    /// A cache of these hooks, at the newest of their versions.
    pub fn of(hooks: impl IntoIterator<Item = Hook>) -> Self {
        let hooks: Vec<_> = hooks.into_iter().map(Arc::new).collect();
        let version = hooks.iter().map(|hook| hook.version).max().unwrap_or(0);
        Self::default().with(hooks.into_iter().map(HookUpdate::Put).collect(), version)
    }

    /// The version of the hooks this cache holds.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The hook of this id, unless it is deleted.
    pub fn get(&self, id: HookId) -> Option<&Arc<Hook>> {
        self.hooks.get(&id)
    }

    /// Whether any hook is ordered.
    pub(crate) fn has_ordered(&self) -> bool {
        self.ordered > 0
    }

    /// Number of hooks.
    pub fn len(&self) -> usize {
        self.hooks.len()
    }

    /// Whether there is no hook.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// The hooks of `account` that ask for events of this type, in the order of their ids.
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
            .filter(move |hook| hook.matches(event_type))
    }

    /// Whether any hook asks for operational events.
    pub(crate) fn is_any_account_watched(&self) -> bool {
        !self.watching.is_empty()
    }

    /// Whether a hook of the account other than `about` takes operational events of this type.
    pub(crate) fn is_watched(&self, account: &str, event_type: &str, about: HookId) -> bool {
        let watching = self.watching.get(account).into_iter().flatten();
        watching
            .filter(|id| **id != about)
            .filter_map(|id| self.hooks.get(id))
            .any(|hook| hook.matches(event_type))
    }

    /// Forgets that a hook asks for operational events.
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
