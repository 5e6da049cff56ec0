//! What the dialects share: authentication of registrants, and the hooks of an account.

use crate::hook_log::{changes_state, tell_removed, tell_state};
use crate::outage_log::Trouble;
use crate::test_places::TestPlaces;
use crate::test_sender::TestSender;
use postrider_core::{
    Attempt, Clock, Credential, Hook, HookEdit, HookId, NewHook, Proof, Timestamp,
};
use postrider_store::{
    CredentialQuery, Error, HookChange, HookReport, RegisteredFilter, RegisteredHook, Result, Store,
};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tracing::{debug, error};

/// Request bodies held at a time; further ones wait.
const BODIES: usize = 128;
/// Credentials looked up in the database at a time, so that guessing takes no connection from others.
const LOOKUPS: usize = 4;
/// Passwords checked at a time. Each takes a processor for some tens of milliseconds.
const PASSWORDS: usize = 2;
/// Correct passwords remembered.
const REMEMBERED: usize = 1_000;
/// The shortest time between two records of a credential's use.
const RECORD_USE_AFTER: chrono::TimeDelta = chrono::TimeDelta::minutes(1);
/// No name contains it: PostgreSQL has no place for it in a text and refuses a query with it.
const NUL: char = '\0';
/// Hooks read at a time.
const PAGE: u32 = 500;
/// Test events that an account may ask for within [`TESTS_IN`].
const TESTS: u32 = 60;
const TESTS_IN: Duration = Duration::from_secs(15 * 60);

/// What a [`Registrar`] works with, handed in at start.
pub struct RegistrarParts {
    /// Where hooks and credentials are kept.
    pub store: Arc<dyn Store>,
    /// The database's clock.
    pub clock: Arc<dyn Clock>,
    /// Sends the test events that registrants ask for.
    pub tests: Arc<dyn TestSender>,
}

/// The state of the routes of all dialects.
pub struct Registrar {
    parts: RegistrarParts,
    trouble: Arc<Trouble>,
    test_places: Arc<TestPlaces>,
    pub(super) bodies: Arc<Semaphore>,
    lookups: Semaphore,
    passwords: Semaphore,
    /// Digests of correct passwords, each with the stored hash it belongs to.
    right: Mutex<HashSet<[u8; 32]>>,
    /// The start of each account's test period and the tests since.
    tested: Mutex<HashMap<String, (Timestamp, u32)>>,
}

/// The error when a test event was not sent.
#[derive(Debug, PartialEq, Eq)]
pub enum TestRefused {
    /// The account has sent too many tests, or has too many in flight.
    TooOften {
        /// Seconds until it may send the next one.
        retry_after: u64,
    },
    /// The request could not be made here.
    NotTried(String),
}

impl Registrar {
    /// A registrar that logs outages of the database by itself.
    pub fn new(parts: RegistrarParts) -> Self {
        Self::sharing(parts, Arc::default(), Arc::default())
    }

    /// A registrar that logs outages of the database, and shares the places for test events,
    /// together with the rest of the API.
    pub(crate) fn sharing(
        parts: RegistrarParts,
        trouble: Arc<Trouble>,
        test_places: Arc<TestPlaces>,
    ) -> Self {
        Self {
            parts,
            trouble,
            test_places,
            bodies: Arc::new(Semaphore::new(BODIES)),
            lookups: Semaphore::new(LOOKUPS),
            passwords: Semaphore::new(PASSWORDS),
            right: Mutex::default(),
            tested: Mutex::default(),
        }
    }

    /// The current time of the database's clock.
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    // ---- who calls

    /// The credential that matches; `None` if there is none or it is revoked.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn credential(&self, query: CredentialQuery) -> Result<Option<Credential>> {
        if let CredentialQuery::Id { id, .. } = &query
            && id.contains(NUL)
        {
            return Ok(None);
        }
        let _turn = self.lookups.acquire().await.ok();
        self.told(self.parts.store.find_credential(query).await)
    }

    /// Whether this is the password of a credential. Slow for a wrong password, and for a correct
    /// one that is not remembered.
    pub async fn is_password(&self, credential: &Credential, password: &str) -> bool {
        let Proof::Password { hash, .. } = &credential.proof else {
            return false;
        };
        let known: [u8; 32] = Sha256::new()
            .chain_update(hash.text())
            .chain_update([0])
            .chain_update(password)
            .finalize()
            .into();
        if self.lock_right().contains(&known) {
            return true;
        }
        let _turn = self.passwords.acquire().await.ok();
        let (hash, password) = (hash.clone(), password.to_owned());
        let verified = tokio::task::spawn_blocking(move || hash.verify(&password)).await;
        let is_right = verified.unwrap_or(false);
        if is_right {
            let mut right = self.lock_right();
            if right.len() >= REMEMBERED {
                right.clear();
            }
            right.insert(known);
        }
        is_right
    }

    /// Records that a signature was used; `false` if it was used before.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn take_signature(
        &self,
        credential: &Credential,
        signature: &[u8],
        until: Timestamp,
    ) -> Result<bool> {
        let store = &self.parts.store;
        let taken = store.take_signature(credential.id, signature, self.now(), until);
        self.told(taken.await)
    }

    /// Records that a credential was used, at most once a minute.
    pub async fn used(&self, credential: &Credential) {
        let now = self.now();
        let recorded = credential.last_used_at;
        if recorded.is_some_and(|at| now - at < RECORD_USE_AFTER) {
            return;
        }
        if let Err(problem) = self.parts.store.keys_used(&[(credential.id, now)]).await {
            debug!("The use of a credential was not recorded: {problem}");
        }
    }

    // ---- hooks

    /// Registers a hook; `by` names the dialect in the hook's history.
    ///
    /// # Errors
    /// When the hook is refused, its alias is taken, or the database cannot answer.
    pub async fn create(&self, hook: NewHook, by: &str) -> Result<HookReport> {
        self.told(self.parts.store.create_hook(hook, by, self.now()).await)
    }

    /// The hook of an account with this alias, with its credentials.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn find(
        &self,
        profile: &str,
        account: &str,
        alias: &str,
    ) -> Result<Option<RegisteredHook>> {
        if alias.contains(NUL) {
            return Ok(None);
        }
        let filter = RegisteredFilter {
            account: account.to_owned(),
            profile: profile.to_owned(),
            only: Some(alias.to_owned()),
            up_to: None,
            limit: 1,
        };
        let mut found = self.told(self.parts.store.registered(filter).await)?;
        Ok(found.pop())
    }

    /// Calls `take` with each hook of an account, in descending order of aliases from `up_to` on,
    /// until it returns `false`.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn each(
        &self,
        profile: &str,
        account: &str,
        up_to: Option<String>,
        mut take: impl FnMut(RegisteredHook) -> bool,
    ) -> Result<()> {
        // No alias sorts between a text and the same with NUL behind it.
        let up_to = up_to.map(|text| text.split(NUL).take(1).collect());
        let (mut from, mut seen) = (up_to, None);
        loop {
            let filter = RegisteredFilter {
                account: account.to_owned(),
                profile: profile.to_owned(),
                only: None,
                up_to: from.take(),
                limit: PAGE,
            };
            let page = self.told(self.parts.store.registered(filter).await)?;
            let is_last = page.len() < PAGE as usize;
            for registered in page {
                // The first of a page was the last of the page before.
                if registered.hook.alias == seen {
                    continue;
                }
                seen.clone_from(&registered.hook.alias);
                if !take(registered) {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
            from.clone_from(&seen);
        }
    }

    /// All hooks of an account, in descending order of aliases.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn all(&self, profile: &str, account: &str) -> Result<Vec<RegisteredHook>> {
        let mut all = Vec::new();
        self.each(profile, account, None, |registered| {
            all.push(registered);
            true
        })
        .await?;
        Ok(all)
    }

    /// Changes a hook; `by` names the dialect in the hook's history.
    ///
    /// # Errors
    /// When the change is refused, the hook is gone, or the database cannot answer.
    pub async fn edit(&self, id: HookId, edit: HookEdit, by: &str) -> Result<HookReport> {
        let change = HookChange::Edit(Box::new(edit));
        let is_news = changes_state(&change);
        let changed = self.parts.store.change_hook(id, change, by, self.now());
        let changed = self.told(changed.await)?;
        if is_news {
            tell_state(&changed, by);
        }
        Ok(changed)
    }

    /// Deletes a hook; `by` names the dialect in the hook's history.
    ///
    /// # Errors
    /// When the hook is gone, or the database cannot answer.
    pub async fn remove(&self, id: HookId, by: &str) -> Result<HookReport> {
        let removed = self.told(self.parts.store.remove_hook(id, by, self.now()).await)?;
        tell_removed(&removed, by);
        Ok(removed)
    }

    // ---- tests

    /// Sends a hook a test event, whatever its status. Nothing is recorded. Call
    /// [`count_test`](Self::count_test) first.
    ///
    /// # Errors
    /// When too many tests are in flight, or the request could not be made here.
    pub async fn test(
        &self,
        hook: &Hook,
        event_type: &str,
        payload: &str,
    ) -> std::result::Result<Attempt, TestRefused> {
        let too_often = TestRefused::TooOften { retry_after: 1 };
        let _place = self.test_places.take(&hook.account).ok_or(too_often)?;
        let sent = self.parts.tests.send_sample(hook, event_type, payload);
        sent.await.map_err(TestRefused::NotTried)
    }

    /// Counts a test that an account asks for. Tests are limited, because they call addresses that
    /// need not be registered.
    ///
    /// # Errors
    /// When the account has reached its limit.
    pub fn count_test(&self, account: &str) -> std::result::Result<(), TestRefused> {
        let now = self.now();
        let mut tested = self.tested.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |begun: Timestamp| (now - begun).to_std().unwrap_or_default();
        tested.retain(|_, (begun, _)| since(*begun) < TESTS_IN);
        let (begun, count) = tested.entry(account.to_owned()).or_insert((now, 0));
        if *count >= TESTS {
            let left = TESTS_IN.saturating_sub(since(*begun));
            return Err(TestRefused::TooOften {
                retry_after: left.as_secs().max(1),
            });
        }
        *count += 1;
        Ok(())
    }

    // ---- trouble

    /// Logs errors that are not the caller's.
    fn told<T>(&self, result: Result<T>) -> Result<T> {
        match &result {
            Ok(_) => self.trouble.passed(),
            Err(Error::NotFound { .. } | Error::Conflict(_) | Error::Hook(_)) => {}
            Err(problem @ Error::Seal(_)) => {
                error!("A request of a registrant cannot be answered: {problem}");
            }
            Err(problem) => self.trouble.met(problem),
        }
        result
    }

    fn lock_right(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
