//! The rarer duties of a dispatcher: upkeep, recovery of lost leases, and the sweep that finds
//! what other processes made due.

use super::Dispatcher;
use super::state::note;
use postrider_store::{DueHook, Result};
use std::collections::BTreeSet;
use tracing::info;

impl Dispatcher {
    /// Does the duties that are due. The first error goes to `problem`.
    pub(super) async fn do_duties(&mut self, problem: &mut Result<()>) -> Result<()> {
        let tuning = self.tuning;
        let began = self.monotonic.instant();
        if self.state.kept_up.passed(began, tuning.upkeep_every) {
            note(problem, self.upkeep().await)?;
        }
        let began = self.monotonic.instant();
        if self.state.recovery.is_due(began) {
            let recovered = self.recover().await;
            let ended = self.monotonic.instant();
            let recovery = &mut self.state.recovery;
            recovery.done(tuning.recover_every, began, ended, &tuning);
            note(problem, recovered)?;
        }
        // After the recovery, which may make deliveries due.
        let began = self.monotonic.instant();
        if self.state.sweep.is_due(began) {
            let swept = self.sweep().await;
            let ended = self.monotonic.instant();
            let sweep = &mut self.state.sweep;
            sweep.done(tuning.sweep_every, began, ended, &tuning);
            note(problem, swept)?;
        }
        Ok(())
    }

    /// Finds all hooks that have deliveries waiting, a page at a time.
    async fn sweep(&mut self) -> Result<()> {
        let page_size = self.tuning.sweep_page;
        for slot in self.timed("peek", self.store.slots()).await? {
            let mut seen = BTreeSet::new();
            let mut after = None;
            loop {
                let call = self.store.due_hooks(slot, after, page_size);
                let page = self.timed("peek", call).await?;
                for DueHook { hook, first_due } in &page {
                    seen.insert(*hook);
                    self.state.due.found(slot, *hook, *first_due);
                }
                match page.last() {
                    Some(last) if page.len() as u32 == page_size => after = Some(last.hook),
                    _ => break,
                }
            }
            self.state.due.found_only(slot, &seen);
        }
        self.state.passed_over = false;
        Ok(())
    }

    /// Recovers the deliveries of lost leases.
    async fn recover(&mut self) -> Result<()> {
        let most = self.tuning.recover_max;
        for slot in self.timed("recover", self.store.slots()).await? {
            loop {
                let now = self.clock.now();
                let call = self.store.recover(slot, now, most, &*self.defaults);
                let recovered = self.timed("recover", call).await?;
                let total = recovered.recovered + recovered.worker_lost;
                self.metrics.observe_recovery(&recovered);
                if total > 0 {
                    // They are due now.
                    self.state.sweep.is_due_at_once();
                }
                if total < most {
                    break;
                }
            }
        }
        Ok(())
    }

    /// One batch of upkeep. The rest is left to the next step, so that deliveries go on.
    async fn upkeep(&mut self) -> Result<()> {
        let call = self.store.upkeep(self.clock.now(), self.tuning.upkeep_max);
        let upkeep = self.timed("upkeep", call).await?;
        if upkeep.cancelled > 0 {
            info!(
                deliveries = upkeep.cancelled,
                "Cancelled {} deliveries of deleted hooks", upkeep.cancelled
            );
        }
        if upkeep.more {
            self.state.kept_up.reset();
        }
        Ok(())
    }
}
