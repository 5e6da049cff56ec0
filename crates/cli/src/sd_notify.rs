//! Tells systemd how the service stands, if it asks to be told (`Type=notify`).
//!
//! The protocol is a datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names.
//! What cannot be told is left: a service must not fail for that.

use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tracing::debug;

/// Whoever started this process, if it wants to be told.
#[derive(Debug)]
pub struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// As the environment says.
    pub fn from_environment() -> Self {
        let path = std::env::var("NOTIFY_SOCKET").ok();
        let micros = std::env::var("WATCHDOG_USEC").ok();
        Self {
            socket: path.as_deref().and_then(socket),
            watchdog: micros.as_deref().and_then(watchdog),
        }
    }

    /// The service does its work from now on.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The service is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Shows that the process lives, as often as the supervisor asks for, until dropped. A
    /// process whose tasks are no longer run says nothing, and is restarted.
    pub async fn keep_alive(&self) {
        let Some(watchdog) = self.watchdog else {
            return std::future::pending().await;
        };
        loop {
            self.tell("WATCHDOG=1");
            tokio::time::sleep(watchdog / 3).await;
        }
    }

    fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            debug!("Could not tell the supervisor {state}: {error}");
        }
    }
}

fn socket(path: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match path.strip_prefix('@') {
        Some(name) => without_file(name),
        None => SocketAddr::from_pathname(path),
    };
    Some((UnixDatagram::unbound().ok()?, address.ok()?))
}

/// A name that began with `@` is no file. Only Linux has such sockets, and systemd.
#[cfg(target_os = "linux")]
fn without_file(name: &str) -> std::io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn without_file(_: &str) -> std::io::Result<SocketAddr> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn watchdog(micros: &str) -> Option<Duration> {
    let micros = micros.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_hears_how_the_service_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listening = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor {
            socket: socket(path.to_str().unwrap()),
            watchdog: None,
        };
        supervisor.ready();
        supervisor.stopping();
        let mut heard = [0; 64];
        for expected in ["READY=1", "STOPPING=1"] {
            let length = listening.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], expected.as_bytes());
        }
    }

    #[test]
    fn nobody_who_listens_is_no_trouble() {
        let supervisor = Supervisor {
            socket: socket("/nowhere/at/all"),
            watchdog: None,
        };
        supervisor.ready();
        assert_eq!(watchdog("30000000"), Some(Duration::from_secs(30)));
        assert_eq!((watchdog("0"), watchdog("often")), (None, None));
    }
}
