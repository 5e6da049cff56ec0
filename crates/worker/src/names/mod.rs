//! Finds the addresses of hosts, and says whose fault it is when there are none.
//!
//! The hosts file and DNS are asked, as `/etc/hosts` and `/etc/resolv.conf` say. A lookup takes
//! [`NamesTuning::lookup`] at most and ends with the request that waits for it; its number is
//! bounded. A name that gets no answer is its hook's failure. It is this machine's fault only
//! when no name server can be asked at all, or when most names that resolved not long ago get no
//! answer now, either.

mod error;
mod exchange;
mod history;
mod machine;
mod message;
mod order;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use error::Unresolved;
pub use server::NameServer;

use crate::local_fault::LocalFault;
use crate::tuning::NamesTuning;
use error::{Failure, NameError};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared, join_all};
use history::History;
use machine::Machine;
use postrider_core::monotonic_now;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Finds the addresses of hosts.
#[derive(Clone)]
pub struct Names(Arc<Inner>);

struct Inner {
    /// The name servers to ask; those of the machine when there are none.
    servers: Vec<SocketAddr>,
    machine: Machine,
    tuning: NamesTuning,
    /// Lookups of names that resolved the last time. They never wait for others.
    good: Semaphore,
    /// All other lookups.
    others: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    history: History,
    /// The lookups in flight: one for each name, however many requests wait for it.
    in_flight: HashMap<String, WeakShared<Lookup>>,
}

/// A lookup. It ends early when no request waits for it any more.
type Lookup = BoxFuture<'static, Found>;
type Found = Result<Arc<[IpAddr]>, Failure>;

impl Names {
    /// Asks these name servers; those of the machine when there are none.
    pub fn new(servers: &[NameServer]) -> Self {
        Self::with(servers, NamesTuning::default())
    }

    fn with(servers: &[NameServer], tuning: NamesTuning) -> Self {
        Self(Arc::new(Inner {
            servers: servers.iter().map(NameServer::address).collect(),
            machine: Machine::new(),
            tuning,
            good: Semaphore::new(tuning.in_flight),
            others: Semaphore::new(tuning.in_flight),
            state: Mutex::default(),
        }))
    }

    /// The addresses of `host`, in the order in which to try them; at least one.
    pub(crate) async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let mut addresses = match self.0.machine.hosts().addresses(host) {
            Some(addresses) => addresses,
            None => match self.0.find(host).await {
                Ok(addresses) => addresses.to_vec(),
                Err(failure) => return Err(self.0.blame(host, failure).await),
            },
        };
        order::sort(&mut addresses);
        Ok(addresses)
    }
}

impl Inner {
    /// The addresses of a name by DNS.
    async fn find(self: &Arc<Self>, host: &str) -> Found {
        self.join(host)?.await
    }

    /// The lookup of a name: the one in flight, or a new one.
    ///
    /// # Errors
    /// When the name got no answer a moment ago.
    fn join(self: &Arc<Self>, host: &str) -> Result<Shared<Lookup>, Failure> {
        let mut state = self.lock();
        let now = monotonic_now();
        if let Some(failure) = state.history.failed_lately(host, now, &self.tuning) {
            return Err(failure);
        }
        let in_flight = state.in_flight.get(host).and_then(WeakShared::upgrade);
        if let Some(lookup) = in_flight {
            return Ok(lookup);
        }
        let is_good = state.history.is_good(host, now, &self.tuning);
        let (names, name) = (self.clone(), host.to_owned());
        let lookup = async move { names.look_up(&name, is_good).await }
            .boxed()
            .shared();
        if let Some(weak) = lookup.downgrade() {
            state.in_flight.insert(host.to_owned(), weak);
        }
        Ok(lookup)
    }

    async fn look_up(&self, host: &str, is_good: bool) -> Found {
        let turns = if is_good { &self.good } else { &self.others };
        let turn = turns.acquire().await;
        let since = monotonic_now();
        let found = timeout(self.tuning.lookup, self.ask(host)).await;
        let found = found
            .unwrap_or(Err(NameError::Silent))
            .map(Arc::from)
            .map_err(|error| Failure { error, since });
        drop(turn);
        let mut state = self.lock();
        state.in_flight.remove(host);
        let now = monotonic_now();
        if state.history.note(host, &found, now, &self.tuning) {
            state
                .in_flight
                .retain(|_, lookup| lookup.upgrade().is_some());
        }
        found
    }

    async fn ask(&self, host: &str) -> Result<Vec<IpAddr>, NameError> {
        let configured = self.machine.resolv_conf();
        let servers = match self.servers.as_slice() {
            [] => &configured.servers,
            servers => servers,
        };
        let mut problem = NameError::Unknown;
        for name in configured.candidates(host) {
            match exchange::addresses(servers, &name, &self.tuning).await {
                Ok(found) => return Ok(found),
                Err(NameError::Unknown) => {}
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    /// Says whose fault it is that `host` was not resolved.
    async fn blame(self: &Arc<Self>, host: &str, failure: Failure) -> Unresolved {
        let Failure { error, since } = failure;
        if let NameError::NotAsked(system) = &error {
            let fault = LocalFault::of(system).unwrap_or(LocalFault::Resolver);
            return Unresolved::Local(fault);
        }
        if error.is_answer() {
            return Unresolved::Name(error);
        }
        let now = monotonic_now();
        let witnesses = self.lock().history.witnesses(host, now, &self.tuning);
        let asked = witnesses.iter();
        let asked = asked.map(|witness| self.is_answered(witness, since));
        let answers = join_all(asked).await;
        let answered = answers.iter().filter(|answered| **answered).count();
        match 2 * answered < answers.len() {
            true => Unresolved::Local(LocalFault::Resolver),
            false => Unresolved::Name(error),
        }
    }

    /// Whether a name got an answer after `since`, or gets one now.
    async fn is_answered(self: &Arc<Self>, host: &str, since: Instant) -> bool {
        if self.lock().history.was_good_after(host, since) {
            return true;
        }
        match timeout(self.tuning.witness, self.find(host)).await {
            Ok(Ok(_)) => true,
            Ok(Err(failure)) => failure.error.is_answer(),
            Err(_) => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Names").field(&self.0.servers).finish()
    }
}
