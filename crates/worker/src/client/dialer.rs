//! Opens connections: resolves, checks the addresses, tries them, and begins TLS.

use super::address_race;
use super::connection::{BoxError, Connection};
use super::stream::Stream;
use super::target::Origin;
use super::tls;
use crate::guarded_names::GuardedNames;
use postrider_core::monotonic_now;
use std::{fmt, io};
use tokio_rustls::TlsConnector;

/// Opens connections.
pub(super) struct Dialer {
    names: GuardedNames,
    tls: TlsConnector,
}

impl Dialer {
    /// Opens connections to the addresses of `names`.
    ///
    /// # Errors
    /// When TLS cannot be set up: the system has no certificate store.
    pub(super) fn new(names: GuardedNames) -> io::Result<Self> {
        Ok(Self {
            names,
            tls: tls::connector()?,
        })
    }

    /// Opens a connection to `origin`.
    ///
    /// # Errors
    /// [`BlockedAddress`](crate::BlockedAddress) and [`LocalFault`](crate::LocalFault) are among
    /// the errors.
    pub(super) async fn connect(&self, origin: &Origin) -> Result<Connection, BoxError> {
        let addresses = self.names.addresses(&origin.host, origin.port).await?;
        let tcp = address_race::connect(addresses).await?;
        let stream = match origin.tls {
            true => Stream::Tls(Box::new(tls::begin(&self.tls, &origin.host, tcp).await?)),
            false => Stream::Plain(tcp),
        };
        Connection::over(stream, origin.names, monotonic_now()).await
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}
