//! Gated hooks: owned by one worker at a time, which alone starts their deliveries.
//!
//! A worker asks for ownership when a hook has something due, and renews it while there is
//! something to do. A hook in long back-off has no owner until its next probe is due: meanwhile it
//! costs nothing, whatever its backlog.

use super::Dispatcher;
use crate::admission::OwnedHook;
use postrider_core::{HookId, HookStatus, Timestamp};
use postrider_store::{OwnershipAnswer, OwnershipRequest, Result};
use std::collections::HashMap;
use std::time::Duration;
use tracing::{info, warn};

/// How long ownership lasts. A hook whose owner dies gets nothing for at most this time.
const OWNED_FOR: Duration = Duration::from_secs(8);
/// Ownership is renewed when no more than this is left of it.
const RENEWED_AT: Duration = Duration::from_secs(5);
/// A hook that another worker owns is asked for again after this time.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// Hooks asked for in one call at most.
const ASKED_MAX: usize = 1_000;
/// At the end of the worker, hooks with requests in flight stay owned for the longest request
/// and this time.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

impl Dispatcher {
    /// Asks for the gated hooks that have something due and no owner, renews the ownership of
    /// those in use, and ends the ramps that have reached the cap of their hook.
    pub(super) async fn own_gates(&mut self) -> Result<()> {
        let ramped_up = self.admission.ramped_up();
        if !ramped_up.is_empty() {
            let call = self.store.end_ramps(&ramped_up);
            self.timed("gates", call).await?;
            for hook in ramped_up {
                info!(hook.id = %hook, "Hook {hook} is at its normal concurrency again");
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
            // The next probe is due only after the ownership has ended: do not renew it until then.
            let is_early = answer.not_before.is_some_and(|at| at > until);
            match cache.get(answer.hook) {
                Some(hook) if answer.owned && !is_early => {
                    self.admission.own(hook, answer, until, now);
                    self.state.ownership_retries.owned(answer.hook);
                }
                _ => {
                    self.admission.disown(answer.hook);
                    self.state.ownership_retries.ask_again(answer.hook, ask_at);
                }
            }
        }
        Ok(())
    }

    /// The hooks to ask for now: owned ones in use whose ownership ends soon, and those without an
    /// owner that have something due.
    fn gates_to_ask_for(&self, now: Timestamp) -> Vec<HookId> {
        let cache = self.store.hook_cache();
        let soon = now + OWNED_FOR;
        let gated = |hook: &HookId| {
            let hook = cache.get(*hook);
            hook.is_some_and(|hook| {
                hook.is_gated() && hook.status == HookStatus::Active && !hook.locked
            })
        };
        let coming = self.state.due.first().filter(|(_, _, at)| *at <= soon);
        let mut coming: HashMap<_, _> = coming
            .filter(|(_, hook, _)| gated(hook))
            .map(|(_, hook, at)| (hook, at))
            .collect();
        let mut asked = Vec::new();
        for owned in self.admission.owned() {
            // Hooks that are owned already are renewed before they have something due.
            let is_due = coming.remove(&owned.hook).is_some();
            if owned.until > now + RENEWED_AT {
                continue;
            }
            if is_due || owned.held > 0 {
                asked.push(owned.hook);
            } else if owned.until <= now {
                self.admission.disown(owned.hook);
            }
        }
        let retries = &self.state.ownership_retries;
        let unowned = coming
            .into_iter()
            .filter(|(hook, at)| *at <= now && retries.may_ask(*hook, now))
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

    /// Gives up hooks. If that fails, the ownership expires.
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

    /// At the end of the worker: gives up the hooks without requests in flight, and keeps the
    /// others until their requests have ended.
    pub(crate) async fn keep_gates_in_use(&self) {
        let (used, unused): (Vec<_>, Vec<_>) = self
            .admission
            .owned()
            .into_iter()
            .partition(|owned| owned.held > 0);
        let hooks = |owned: Vec<OwnedHook>| owned.into_iter().map(|owned| owned.hook).collect();
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

    /// At the very end of the worker: gives up every hook.
    pub(crate) async fn leave_gates(&self) {
        let owned: Vec<_> = self
            .admission
            .owned()
            .iter()
            .map(|owned| owned.hook)
            .collect();
        self.disown(&owned).await;
    }
}
