//! Looks up keys by their tokens, with a cache.
//!
//! A database query per request would cost about as much as recording the event. So a key that was
//! found is cached for one second, counted from the start of the query: a revoked key is refused
//! by all processes within that second. Unknown tokens are not cached, so that a new key works at
//! once.
//!
//! The use of a key is noted with each query, at most once a second per key, and recorded by a
//! background task that no request waits for.

use crate::outage_log::Trouble;
use postrider_core::{Clock, Key, KeyId, Timestamp, TokenHash, monotonic_now};
use postrider_store::{Error, Result, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How long the result of a query is valid.
const REMEMBERED: Duration = Duration::from_secs(1);
/// How long a found key counts as known: its next query needs no permit of [`STRANGERS`].
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// Concurrent queries for tokens not seen lately, so that guessing tokens cannot use up the
/// database connections.
const STRANGERS: usize = 2;
/// Interval between records of key uses.
const RECORD_EVERY: Duration = Duration::from_secs(10);

/// The cache of keys.
pub(crate) struct Keys {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    trouble: Arc<Trouble>,
    strangers: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    questions: HashMap<TokenHash, Arc<Question>>,
    used: HashMap<KeyId, Timestamp>,
}

/// A query of the database for one token, and its result once known.
struct Question {
    asked: Instant,
    of_a_stranger: bool,
    answer: OnceCell<Option<Arc<Key>>>,
}

impl Question {
    fn found_a_key(&self) -> bool {
        matches!(self.answer.get(), Some(Some(_)))
    }
}

impl Keys {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, trouble: Arc<Trouble>) -> Self {
        Self {
            store,
            clock,
            trouble,
            strangers: Semaphore::new(STRANGERS),
            state: Mutex::default(),
        }
    }

    /// The key with this token; `None` when it does not exist or is revoked.
    pub(crate) async fn find(&self, token: &str) -> Result<Option<Arc<Key>>> {
        let Some(hash) = TokenHash::of(token) else {
            return Ok(None);
        };
        let question = self.question(hash);
        let answer = question
            .answer
            .get_or_try_init(|| self.ask(hash, question.of_a_stranger))
            .await;
        match answer {
            Ok(Some(key)) => Ok(Some(key.clone())),
            Ok(None) => {
                self.forget(hash, &question);
                Ok(None)
            }
            Err(error) => {
                self.forget(hash, &question);
                Err(error)
            }
        }
    }

    /// Records key uses at intervals until `closed`, and once more at the end.
    pub(crate) async fn run(&self, closed: CancellationToken) {
        while closed
            .run_until_cancelled(tokio::time::sleep(RECORD_EVERY))
            .await
            .is_some()
        {
            self.record().await;
            self.lock().questions.retain(|_, question| {
                let kept = match question.found_a_key() {
                    true => KNOWN_FOR,
                    false => REMEMBERED,
                };
                monotonic_now() - question.asked < kept
            });
        }
        self.record().await;
    }

    /// The latest query for a token, if its result is still valid, or a new one. Concurrent callers
    /// share one query.
    fn question(&self, hash: TokenHash) -> Arc<Question> {
        let mut state = self.lock();
        let latest = state.questions.get(&hash);
        if let Some(question) = latest
            && monotonic_now() - question.asked < REMEMBERED
        {
            return question.clone();
        }
        let question = Arc::new(Question {
            asked: monotonic_now(),
            of_a_stranger: !latest.is_some_and(|latest| latest.found_a_key()),
            answer: OnceCell::new(),
        });
        state.questions.insert(hash, question.clone());
        question
    }

    async fn ask(&self, hash: TokenHash, of_a_stranger: bool) -> Result<Option<Arc<Key>>> {
        let permit = match of_a_stranger {
            true => self.strangers.acquire().await.ok(),
            false => None,
        };
        let found = self.store.find_key(hash).await;
        drop(permit);
        match &found {
            Ok(_) => self.trouble.passed(),
            Err(error) => self.trouble.met(error),
        }
        let key = found?.map(Arc::new);
        if let Some(key) = &key {
            self.lock().used.insert(key.id, self.clock.now());
        }
        Ok(key)
    }

    /// Removes a query from the cache, unless a newer one has replaced it.
    fn forget(&self, hash: TokenHash, question: &Arc<Question>) {
        let mut state = self.lock();
        let latest = state.questions.get(&hash);
        if latest.is_some_and(|latest| Arc::ptr_eq(latest, question)) {
            state.questions.remove(&hash);
        }
    }

    async fn record(&self) {
        let used: Vec<_> = self.lock().used.drain().collect();
        if let Err(error) = self.store.keys_used(&used).await {
            self.not_recorded(used, &error);
        }
    }

    /// Keeps uses that could not be recorded for the next interval.
    fn not_recorded(&self, used: Vec<(KeyId, Timestamp)>, error: &Error) {
        debug!("Cannot record the use of keys, trying again: {error}");
        let mut state = self.lock();
        for (key, at) in used {
            state.used.entry(key).or_insert(at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::{KeyScope, KeyToken, NewKey, TestClock};
    use postrider_store::{Backend, KeyFilter, KeyReport};
    use postrider_tests::{TestStore, on_both, start};

    on_both!(
        a_key_is_found_by_its_token_and_its_use_recorded,
        what_is_no_token_of_a_key_is_not_remembered,
        trouble_with_the_database_is_no_answer,
    );

    async fn a_key_is_found_by_its_token_and_its_use_recorded(backend: Backend) {
        let t = TestStore::on(backend).await;
        let (keys, token) = (keys(&t), KeyToken::generate());
        let made = make(&t, &token).await;
        for _ in 0..3 {
            let found = keys.find(token.reveal()).await.unwrap();
            assert_eq!(found.map(|key| key.id), Some(made.id));
        }
        keys.record().await;
        let filter = KeyFilter {
            after: None,
            limit: 1,
        };
        let listed = t.store.keys(filter).await.unwrap();
        assert_eq!(listed[0].last_used_at, Some(start()));
        assert!(keys.lock().used.is_empty());
    }

    async fn what_is_no_token_of_a_key_is_not_remembered(backend: Backend) {
        let t = TestStore::on(backend).await;
        let (keys, token) = (keys(&t), KeyToken::generate());
        for shown in [token.reveal(), "", "pr_", "no token at all"] {
            assert_eq!(keys.find(shown).await.unwrap(), None, "{shown}");
        }
        assert!(keys.lock().questions.is_empty());
        make(&t, &token).await;
        assert!(keys.find(token.reveal()).await.unwrap().is_some());
    }

    async fn trouble_with_the_database_is_no_answer(backend: Backend) {
        let t = TestStore::on(backend).await;
        let keys = keys(&t);
        t.store.close().await;
        let found = keys.find(KeyToken::generate().reveal()).await;
        assert!(found.is_err(), "{found:?}");
        assert!(keys.lock().questions.is_empty());
        keys.lock().used.insert(KeyId(Default::default()), start());
        keys.record().await;
        assert_eq!(keys.lock().used.len(), 1, "kept for the next time");
    }

    fn keys(t: &TestStore) -> Keys {
        let clock = Arc::new(TestClock::at(start()));
        Keys::new(t.store.clone(), clock, Arc::default())
    }

    async fn make(t: &TestStore, token: &KeyToken) -> KeyReport {
        let key = NewKey {
            scope: KeyScope::Admin,
            account: None,
            name: None,
        };
        let made = t.store.create_key(key, token.hash(), t.now()).await;
        made.unwrap()
    }
}
