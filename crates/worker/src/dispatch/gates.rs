//! Gated hooks: owned by one worker at a time, which alone starts their deliveries.
//!
//! Ownership is asked for when a hook has something due and renewed while there is something to
//! do. A hook that is backed off for long is nobody's until it may be probed: it costs nothing
//! meanwhile, whatever its backlog.

use super::Dispatcher;
use crate::ready::Owned;
use postrider_core::{HookId, HookStatus, Timestamp};
use postrider_store::{HookCache, OwnershipAnswer, OwnershipRequest, Result};
use std::collections::HashMap;
use std::time::Duration;
use tracing::{info, warn};

/// How long ownership lasts: the longest that a hook stands still when its owner dies.
const OWNED_FOR: Duration = Duration::from_secs(8);
/// It is renewed when no more than this is left of it.
const RENEWED_AT: Duration = Duration::from_secs(5);
/// A hook that is another worker's is asked for again after this time.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// Hooks asked for at once at most.
const ASKED_MAX: usize = 1_000;
/// How much longer than the longest request a hook in use stays owned at the end.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// When to ask again for hooks that are not this worker's.
#[derive(Default)]
pub(super) struct Asking(HashMap<HookId, Timestamp>);

impl Asking {
    /// What has changed since `version` is asked for at once.
    pub(super) fn follow(&mut self, cache: &HookCache, version: i64) {
        self.0
            .retain(|hook, _| cache.get(*hook).is_some_and(|hook| hook.version <= version));
    }
}

impl Dispatcher {
    /// Asks for the gated hooks that have something to do and are nobody's, renews the
    /// ownership of those that are in use, and ends what has ramped up.
    pub(super) async fn own_gates(&mut self) -> Result<()> {
        let ramped_up = self.ready.ramped_up();
        if !ramped_up.is_empty() {
            let call = self.store.end_ramps(&ramped_up);
            self.timed("gates", call).await?;
            for hook in ramped_up {
                info!(hook.id = %hook, "Hook {hook} is at its usual pace again");
            }
        }
        let now = self.clock.now();
        let hooks = self.gates_to_ask_for(now);
        if hooks.is_empty() {
            return Ok(());
        }
        let until = now + OWNED_FOR;
        let answers = self.ask(hooks, now, until).await?;
        let cache = self.store.hook_cache();
        for answer in answers {
            let ask_at = answer.not_before.unwrap_or(now).max(now + ASKED_EVERY);
            // Nothing can be sent for longer than the ownership lasts: let it end.
            let is_early = answer.not_before.is_some_and(|at| at > until);
            match cache.get(answer.hook) {
                Some(hook) if answer.owned && !is_early => {
                    self.ready.own(hook, answer, until, now);
                    self.state.asking.0.remove(&answer.hook);
                }
                _ => {
                    self.ready.disown(answer.hook);
                    self.state.asking.0.insert(answer.hook, ask_at);
                }
            }
        }
        Ok(())
    }

    fn gates_to_ask_for(&self, now: Timestamp) -> Vec<HookId> {
        let cache = self.store.hook_cache();
        let soon = now + OWNED_FOR;
        let gated = |hook: &HookId| {
            let hook = cache.get(*hook);
            hook.is_some_and(|hook| {
                hook.is_gated() && hook.status == HookStatus::Active && !hook.locked
            })
        };
        let coming = self.state.due.iter().filter(|(_, at)| **at <= soon);
        let mut coming: HashMap<_, _> = coming
            .filter(|((_, hook), _)| gated(hook))
            .map(|((_, hook), at)| (*hook, *at))
            .collect();
        let mut asked = Vec::new();
        for owned in self.ready.owned() {
            let is_due = coming.remove(&owned.hook).is_some();
            if owned.until > now + RENEWED_AT {
                continue;
            }
            if is_due || owned.held > 0 {
                asked.push(owned.hook);
            } else if owned.until <= now {
                self.ready.disown(owned.hook);
            }
        }
        let asking = &self.state.asking.0;
        let unowned = coming
            .into_iter()
            .filter(|(hook, at)| *at <= now && asking.get(hook).is_none_or(|again| *again <= now))
            .map(|(hook, _)| hook);
        asked.extend(unowned);
        asked.truncate(ASKED_MAX);
        asked
    }

    async fn ask(
        &self,
        hooks: Vec<HookId>,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<OwnershipAnswer>> {
        let request = OwnershipRequest {
            worker: self.worker,
            now,
            until,
            hooks,
        };
        self.timed("gates", self.store.own_gates(request)).await
    }

    /// Gives up hooks. If that fails, the ownership ends by itself.
    pub(super) async fn disown(&self, hooks: &[HookId]) {
        if hooks.is_empty() {
            return;
        }
        let call = self.store.disown_gates(self.worker, hooks);
        if let Err(problem) = self.timed("gates", call).await {
            warn!(
                hooks = hooks.len(),
                "Could not give up {} hooks; other workers take them over in a few seconds: \
                 {problem}",
                hooks.len()
            );
        }
    }

    /// At the end of the worker: hooks without anything in flight may be another one's at once,
    /// the others stay owned until their requests have ended.
    pub(crate) async fn keep_gates_in_use(&self) {
        let (used, unused): (Vec<_>, Vec<_>) = self
            .ready
            .owned()
            .into_iter()
            .partition(|owned| owned.held > 0);
        let hooks = |owned: Vec<Owned>| owned.into_iter().map(|owned| owned.hook).collect();
        let (used, unused): (Vec<HookId>, Vec<HookId>) = (hooks(used), hooks(unused));
        self.disown(&unused).await;
        let now = self.clock.now();
        let until = now + self.settings.request_timeout.get() + LAST_REQUESTS;
        if !used.is_empty()
            && let Err(problem) = self.ask(used, now, until).await
        {
            warn!("Could not keep the hooks that are being sent to: {problem}");
        }
    }

    /// At the very end of the worker: every hook may be another one's.
    pub(crate) async fn leave_gates(&self) {
        let owned: Vec<_> = self.ready.owned().iter().map(|owned| owned.hook).collect();
        self.disown(&owned).await;
    }
}
