//! The system's name resolver, behind the address guard.

use super::BoxError;
use crate::address::AddressGuard;
use crate::local_fault::{LocalFault, UnansweredNames, is_unanswered};
use postrider_core::monotonic_now;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use url::Host;

/// How long the system may take to resolve a name: long enough for two tries.
const RESOLVE_MAX: Duration = Duration::from_secs(10);

/// The system's resolver without the addresses that must not be called. A name that has no
/// others is blocked. The connector uses the very addresses that were checked, so a name cannot
/// change between the check and the connection.
#[derive(Clone, Debug)]
pub(super) struct GuardedResolver {
    guard: Arc<AddressGuard>,
    names: Arc<Mutex<UnansweredNames>>,
}

impl GuardedResolver {
    pub(super) fn new(guard: Arc<AddressGuard>) -> Self {
        Self {
            guard,
            names: Arc::default(),
        }
    }

    /// The addresses of `host` that may be called, at least one.
    ///
    /// # Errors
    /// [`BlockedAddress`](crate::BlockedAddress) when there are only others, a [`LocalFault`], or
    /// the error of the system.
    pub(super) async fn addresses(
        &self,
        host: &Host<String>,
        port: u16,
    ) -> Result<Vec<SocketAddr>, BoxError> {
        let literal = match host {
            Host::Domain(name) => return self.resolve(name, port).await,
            Host::Ipv4(address) => IpAddr::from(*address),
            Host::Ipv6(address) => IpAddr::from(*address),
        };
        self.guard.check(literal)?;
        Ok(vec![SocketAddr::new(literal, port)])
    }

    async fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, BoxError> {
        let looking = tokio::net::lookup_host((name, port));
        let found = match tokio::time::timeout(RESOLVE_MAX, looking).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(self.blame(name, error)),
            Err(_elapsed) => {
                let why = format!("the name was not resolved within {RESOLVE_MAX:?}");
                let error = io::Error::new(io::ErrorKind::TimedOut, why);
                return Err(self.blame(name, error));
            }
        };
        self.names().answered();
        let mut blocked = None;
        let mut open = Vec::new();
        for address in found {
            match self.guard.check(address.ip()) {
                Ok(()) => open.push(address),
                Err(refusal) => blocked = Some(refusal),
            }
        }
        match (open.is_empty(), blocked) {
            (true, Some(refusal)) => Err(refusal.into()),
            _ => Ok(open),
        }
    }

    /// The error of resolving a name, or the local fault that it is a sign of.
    pub(super) fn blame(&self, host: &str, error: io::Error) -> BoxError {
        // Without a descriptor nothing is resolved, and the resolver does not say why.
        if let Err(none_left) = std::net::UdpSocket::bind(ANYWHERE)
            && let Some(fault) = LocalFault::of(&none_left)
        {
            return fault.into();
        }
        let mut names = self.names();
        if !is_unanswered(&error) {
            names.answered();
            return error.into();
        }
        match names.unanswered(host, monotonic_now()) {
            true => LocalFault::Resolver.into(),
            false => error.into(),
        }
    }

    fn names(&self) -> MutexGuard<'_, UnansweredNames> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Any port of this machine; nothing is sent from it.
const ANYWHERE: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
