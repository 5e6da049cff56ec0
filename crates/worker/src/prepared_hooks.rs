//! What the requests of each hook share, kept while the hook is as it was.
//!
//! It holds signing keys, so nothing is kept of a hook that was changed or deleted.

use crate::profiles::Prepared;
use postrider_core::{Hook, HookId, Timestamp};
use postrider_store::HookCache;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// What is prepared for the requests of each hook.
#[derive(Debug, Default)]
pub(crate) struct PreparedHooks(RwLock<HashMap<HookId, Arc<Prepared>>>);

impl PreparedHooks {
    /// What is prepared for `hook` and is valid at `now`.
    pub(crate) fn get(&self, hook: &Hook, now: Timestamp) -> Option<Arc<Prepared>> {
        let prepared = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let prepared = prepared.get(&hook.id)?;
        prepared.is_current(hook, now).then(|| prepared.clone())
    }

    pub(crate) fn insert(&self, hook: HookId, new: Arc<Prepared>) {
        let mut prepared = self.0.write().unwrap_or_else(PoisonError::into_inner);
        prepared.insert(hook, new);
    }

    /// Drops what is prepared for hooks that were changed or deleted, and for old secrets that
    /// have ended.
    pub(crate) fn follow(&self, cache: &HookCache, now: Timestamp) {
        let mut prepared = self.0.write().unwrap_or_else(PoisonError::into_inner);
        prepared.retain(|id, prepared| {
            let hook = cache.get(*id);
            hook.is_some_and(|hook| prepared.is_current(hook, now))
        });
        if prepared.capacity() > 4 * prepared.len() {
            prepared.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profiles::Profiles;
    use crate::testing;
    use std::time::Duration;
    use uuid::Uuid;

    #[test]
    fn nothing_is_kept_of_hooks_that_were_changed_or_deleted() {
        let now = testing::now();
        let prepared = PreparedHooks::default();
        let hooks: Vec<_> = (1..=3)
            .map(|n| testing::hook(HookId(Uuid::from_u128(n)), "https://example.com/"))
            .collect();
        for hook in &hooks {
            let profile = Profiles::default();
            let new = Prepared::new(hook, Duration::MAX, profile.named(&hook.profile), now);
            prepared.insert(hook.id, Arc::new(new.unwrap()));
        }
        let kept = || hooks.iter().map(|hook| prepared.get(hook, now).is_some());
        prepared.follow(&HookCache::of(hooks.clone()), now);
        assert!(kept().all(|kept| kept));
        let mut changed = hooks[1].clone();
        changed.version += 1;
        prepared.follow(&HookCache::of([hooks[0].clone(), changed]), now);
        assert!(kept().eq([true, false, false]));
        prepared.follow(&HookCache::default(), now);
        assert!(prepared.0.read().unwrap().is_empty());
    }
}
