//! The resolver of the HTTP client: names without the addresses that must not be called.
//!
//! The connector uses the very addresses that were checked, so a name cannot change between the
//! check and the connection.

use crate::address::AddressGuard;
use crate::names::{Names, Unresolved};
use hyper_util::client::legacy::connect::dns::Name;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_service::Service;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Resolves names to addresses that may be called. A name that has no others is blocked.
#[derive(Clone, Debug)]
pub(crate) struct GuardedNames {
    pub(crate) guard: Arc<AddressGuard>,
    pub(crate) names: Names,
}

impl GuardedNames {
    /// The addresses of `host` that may be called, in the order in which to try them.
    async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, BoxError> {
        let found = match self.names.resolve(host).await {
            Ok(found) => found,
            Err(Unresolved::Name(error)) => return Err(error.into()),
            Err(Unresolved::Local(fault)) => return Err(fault.into()),
        };
        let mut blocked = None;
        let mut open = Vec::new();
        for address in found {
            match self.guard.check(address) {
                Ok(()) => open.push(SocketAddr::new(address, 0)),
                Err(refusal) => blocked = Some(refusal),
            }
        }
        match (open.is_empty(), blocked) {
            (true, Some(refusal)) => Err(refusal.into()),
            _ => Ok(open),
        }
    }
}

impl Service<Name> for GuardedNames {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let names = self.clone();
        Box::pin(async move { names.resolve(name.as_str()).await.map(Vec::into_iter) })
    }
}
