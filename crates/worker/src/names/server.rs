//! A name server of the configuration.

use super::machine::PORT;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The address of a name server, such as `10.0.0.2` or `[2001:db8::53]:5353`. The port is 53
/// unless given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NameServer(SocketAddr);

/// A text is no address of a name server.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a name server; write an IP address, with a port if it is not 53")]
pub struct NotAServer(String);

impl NameServer {
    /// Its address and port.
    pub fn address(&self) -> SocketAddr {
        self.0
    }
}

impl From<SocketAddr> for NameServer {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl FromStr for NameServer {
    type Err = NotAServer;

    fn from_str(text: &str) -> Result<Self, NotAServer> {
        let ip = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
        let address = ip.or_else(|_| text.parse::<SocketAddr>());
        address.map(Self).map_err(|_| NotAServer(text.into()))
    }
}

impl TryFrom<String> for NameServer {
    type Error = NotAServer;

    fn try_from(text: String) -> Result<Self, NotAServer> {
        text.parse()
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.port() {
            PORT => self.0.ip().fmt(f),
            _ => self.0.fmt(f),
        }
    }
}

impl From<NameServer> for String {
    fn from(server: NameServer) -> Self {
        server.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_optional() {
        for (text, address) in [
            ("10.0.0.2", "10.0.0.2:53"),
            ("10.0.0.2:5353", "10.0.0.2:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
        ] {
            let server: NameServer = text.parse().unwrap();
            assert_eq!(server.address(), address.parse().unwrap());
            assert_eq!(server.to_string(), text);
        }
        for text in ["", "dns.example.com", "10.0.0.2:", "10.0.0.0/8"] {
            assert!(text.parse::<NameServer>().is_err(), "{text}");
        }
    }
}
