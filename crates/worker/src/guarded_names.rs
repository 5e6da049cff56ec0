//! The resolver of the HTTP client: names without the addresses that must not be called.
//!
//! The connector uses the very addresses that were checked, so a name cannot change between the
//! check and the connection.

use crate::address::AddressGuard;
use crate::names::{Names, Unresolved};
use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use url::Host;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Resolves names to addresses that may be called. A name that has no others is blocked.
#[derive(Debug)]
pub(crate) struct GuardedNames {
    pub(crate) guard: AddressGuard,
    pub(crate) names: Names,
}

impl GuardedNames {
    /// The addresses of `host` that may be called, in the order in which to try them.
    ///
    /// # Errors
    /// [`BlockedAddress`](crate::BlockedAddress) when there are only others, a
    /// [`LocalFault`](crate::LocalFault), or the error of the name servers.
    pub(crate) async fn addresses(
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

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, BoxError> {
        let found = match self.names.resolve(host).await {
            Ok(found) => found,
            Err(Unresolved::Name(error)) => return Err(error.into()),
            Err(Unresolved::Local(fault)) => return Err(fault.into()),
        };
        let mut blocked = None;
        let mut open = Vec::new();
        for address in found {
            match self.guard.check(address) {
                Ok(()) => open.push(SocketAddr::new(address, port)),
                Err(refusal) => blocked = Some(refusal),
            }
        }
        match (open.is_empty(), blocked) {
            (true, Some(refusal)) => Err(refusal.into()),
            _ => Ok(open),
        }
    }
}
