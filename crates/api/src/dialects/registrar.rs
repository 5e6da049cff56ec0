//! What all dialects need: who calls, and the hooks of an account.

use super::DialectSettings;
use super::body::BODIES;
use crate::hook_log::{changes_state, tell_removed, tell_state};
use crate::outage_log::Trouble;
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

/// Questions about callers that are asked of the database at a time: whoever guesses keeps no
/// connection from the others.
const LOOKUPS: usize = 4;
/// Passwords that are checked at a time: each takes a processor for some tens of milliseconds.
const PASSWORDS: usize = 2;
/// Passwords that are remembered as right.
const REMEMBERED: usize = 1_000;
/// A use of a credential is recorded this often.
const RECORD_USE_AFTER: chrono::TimeDelta = chrono::TimeDelta::minutes(1);
/// What nothing is named by: PostgreSQL has no place for it in a text, and takes a question with
/// it for a fault.
const NUL: char = '\0';
/// Hooks that are read at a time.
const PAGE: u32 = 500;
/// Requests for a test in a time, for each account.
const TESTS: u32 = 60;
const TESTS_IN: Duration = Duration::from_secs(15 * 60);

/// What the desk is made of.
pub(crate) struct DeskParts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) trouble: Arc<Trouble>,
    pub(crate) tests: Arc<dyn TestSender>,
    pub(crate) settings: DialectSettings,
}

/// What the routes of all dialects share.
pub(crate) struct Desk {
    parts: DeskParts,
    pub(super) bodies: Arc<Semaphore>,
    lookups: Semaphore,
    passwords: Semaphore,
    /// Hashes of passwords that were right, each with the stored hash they were right for.
    right: Mutex<HashSet<[u8; 32]>>,
    /// When each account began to test, and how often it has.
    tested: Mutex<HashMap<String, (Timestamp, u32)>>,
}

/// A test was not made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotTested {
    /// The account has tested too often; it may again after so many seconds.
    TooOften { retry_after: u64 },
    /// The request could not be made here.
    NotTried(String),
}

impl Desk {
    pub(crate) fn new(parts: DeskParts) -> Self {
        Self {
            parts,
            bodies: Arc::new(Semaphore::new(BODIES)),
            lookups: Semaphore::new(LOOKUPS),
            passwords: Semaphore::new(PASSWORDS),
            right: Mutex::default(),
            tested: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    pub(super) fn settings(&self) -> &DialectSettings {
        &self.parts.settings
    }

    // ---- who calls

    /// The credential that a caller names.
    pub(super) async fn credential(&self, query: CredentialQuery) -> Result<Option<Credential>> {
        if let CredentialQuery::Id { id, .. } = &query
            && id.contains(NUL)
        {
            return Ok(None);
        }
        let _turn = self.lookups.acquire().await.ok();
        self.told(self.parts.store.find_credential(query).await)
    }

    /// Whether this is the password of a credential. Only the first time it is right, and
    /// whenever it is wrong, it takes long to tell.
    pub(super) async fn is_password(&self, credential: &Credential, password: &str) -> bool {
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

    /// Takes a signature once: `false` when it was taken before.
    pub(super) async fn take_signature(
        &self,
        credential: &Credential,
        signature: &[u8],
        until: Timestamp,
    ) -> Result<bool> {
        let store = &self.parts.store;
        let taken = store.take_signature(credential.id, signature, self.now(), until);
        self.told(taken.await)
    }

    /// Records that a credential was used, if that was not done within a minute.
    pub(super) async fn used(&self, credential: &Credential) {
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

    /// Registers a hook.
    pub(super) async fn create(&self, hook: NewHook, by: &str) -> Result<HookReport> {
        self.told(self.parts.store.create_hook(hook, by, self.now()).await)
    }

    /// The hook that an account knows by this alias.
    pub(super) async fn find(
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

    /// The hooks of an account, those whose alias sorts last first, from `up_to` on, as far as
    /// `take` asks for more.
    pub(super) async fn each(
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

    /// All hooks of an account.
    pub(super) async fn all(&self, profile: &str, account: &str) -> Result<Vec<RegisteredHook>> {
        let mut all = Vec::new();
        self.each(profile, account, None, |registered| {
            all.push(registered);
            true
        })
        .await?;
        Ok(all)
    }

    /// Changes a hook, as a profile's own API does.
    pub(super) async fn edit(&self, id: HookId, edit: HookEdit, by: &str) -> Result<HookReport> {
        let change = HookChange::Edit(Box::new(edit));
        let is_news = changes_state(&change);
        let changed = self.parts.store.change_hook(id, change, by, self.now());
        let changed = self.told(changed.await)?;
        if is_news {
            tell_state(&changed, by);
        }
        Ok(changed)
    }

    /// Deletes a hook.
    pub(super) async fn remove(&self, id: HookId, by: &str) -> Result<HookReport> {
        let removed = self.told(self.parts.store.remove_hook(id, by, self.now()).await)?;
        tell_removed(&removed, by);
        Ok(removed)
    }

    // ---- tests

    /// Sends a hook an event at once, whatever its status; nothing is recorded. That the account
    /// may ask for it is to be seen first ([`count_test`](Self::count_test)).
    pub(super) async fn test(
        &self,
        hook: &Hook,
        event_type: &str,
        payload: &str,
    ) -> std::result::Result<Attempt, NotTested> {
        let sent = self.parts.tests.send_sample(hook, event_type, payload);
        sent.await.map_err(NotTested::NotTried)
    }

    /// Counts a test that an account asks for. It may now and then only: a test makes us call
    /// addresses that nobody has to register.
    pub(super) fn count_test(&self, account: &str) -> std::result::Result<(), NotTested> {
        let now = self.now();
        let mut tested = self.tested.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |begun: Timestamp| (now - begun).to_std().unwrap_or_default();
        tested.retain(|_, (begun, _)| since(*begun) < TESTS_IN);
        let (begun, count) = tested.entry(account.to_owned()).or_insert((now, 0));
        if *count >= TESTS {
            let left = TESTS_IN.saturating_sub(since(*begun));
            return Err(NotTested::TooOften {
                retry_after: left.as_secs().max(1),
            });
        }
        *count += 1;
        Ok(())
    }

    // ---- trouble

    /// Tells of what went wrong and is not the caller's doing.
    fn told<T>(&self, result: Result<T>) -> Result<T> {
        match &result {
            Ok(_) => self.parts.trouble.passed(),
            Err(Error::NotFound { .. } | Error::Conflict(_) | Error::Hook(_)) => {}
            Err(problem @ Error::Seal(_)) => {
                error!("A request of a registrant cannot be answered: {problem}");
            }
            Err(problem) => self.parts.trouble.met(problem),
        }
        result
    }

    fn lock_right(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
