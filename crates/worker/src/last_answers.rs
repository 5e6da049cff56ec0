//! The latest attempt of each hook and its answer, for profiles that show it.
//!
//! Answers are collected and written once a second, for all hooks at once. Hooks of other
//! profiles cost a comparison of their profile's name.

use crate::settings::HookDefaults;
use postrider_core::HookId;
use postrider_store::{LatestAnswer, Settlement, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often the collected answers are written.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// The latest answers that are not written yet.
pub(crate) struct LastAnswers {
    store: Arc<dyn Store>,
    defaults: Arc<HookDefaults>,
    unwritten: Mutex<HashMap<HookId, LatestAnswer>>,
}

impl LastAnswers {
    pub(crate) fn new(store: Arc<dyn Store>, defaults: Arc<HookDefaults>) -> Self {
        Self {
            store,
            defaults,
            unwritten: Mutex::default(),
        }
    }

    /// Collects the answers of these attempts, of hooks whose profile keeps them.
    pub(crate) fn note(&self, settlements: &[Settlement]) {
        let profile = |settlement: &Settlement| self.defaults.profiles.of(&settlement.request.hook);
        let kept = settlements
            .iter()
            .filter(|settlement| profile(settlement).policy.keeps_latest);
        let mut unwritten = None;
        for settlement in kept {
            let unwritten = unwritten.get_or_insert_with(|| self.lock());
            keep(
                unwritten,
                LatestAnswer {
                    hook: settlement.request.hook.id,
                    at: settlement.attempt().at,
                    status: settlement.attempt().outcome.status(),
                },
            );
        }
    }

    /// Writes the collected answers once a second until `stop` is cancelled, and then the rest.
    pub(crate) async fn keep_writing(&self, stop: CancellationToken) {
        loop {
            let wait = tokio::time::sleep(WRITE_EVERY);
            let stopped = stop.run_until_cancelled(wait).await.is_none();
            self.write().await;
            if stopped {
                return;
            }
        }
    }

    /// Writes the collected answers. If that fails they are kept for the next time.
    pub(crate) async fn write(&self) {
        let answers: Vec<_> = std::mem::take(&mut *self.lock()).into_values().collect();
        if answers.is_empty() {
            return;
        }
        if let Err(problem) = self.store.note_latest(&answers).await {
            warn!(
                "Could not record the latest answers of {} hooks, trying again: {problem}",
                answers.len()
            );
            let mut unwritten = self.lock();
            for answer in answers {
                keep(&mut unwritten, answer);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HookId, LatestAnswer>> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the later of two answers.
fn keep(unwritten: &mut HashMap<HookId, LatestAnswer>, answer: LatestAnswer) {
    let known = unwritten.entry(answer.hook).or_insert(answer);
    if known.at <= answer.at {
        *known = answer;
    }
}
