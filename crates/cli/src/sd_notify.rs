//! Notifies systemd of the state of the service (`Type=notify`).
//!
//! The protocol is a datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names. A
//! notification that cannot be sent is dropped: the service must not fail because of it.

use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tracing::{debug, error};

/// The service manager that started this process, if it wants notifications.
#[derive(Debug)]
pub struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The service manager that the environment names, if any.
    pub fn from_environment() -> Self {
        let path = std::env::var("NOTIFY_SOCKET").ok();
        let micros = std::env::var("WATCHDOG_USEC").ok();
        Self {
            socket: path.as_deref().and_then(socket),
            watchdog: micros.as_deref().and_then(watchdog),
        }
    }

    /// Notifies that the service is ready.
    pub fn ready(&self) {
        self.notify("READY=1");
    }

    /// Notifies that the service is stopping.
    pub fn stopping(&self) {
        self.notify("STOPPING=1");
    }

    /// Sends watchdog notifications as often as the service manager requires, until it is dropped.
    /// When the runtime no longer runs tasks, or `lifeless` gives a reason, they stop, and the
    /// service is restarted.
    pub async fn keep_alive(&self, lifeless: impl Fn() -> Option<String>) {
        let Some(watchdog) = self.watchdog else {
            return std::future::pending().await;
        };
        loop {
            match lifeless() {
                None => self.notify("WATCHDOG=1"),
                Some(why) => error!("Not alive, and to be restarted by the service manager: {why}"),
            }
            tokio::time::sleep(watchdog / 3).await;
        }
    }

    fn notify(&self, state: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            debug!("Could not notify the service manager of {state}: {error}");
        }
    }
}

fn socket(path: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match path.strip_prefix('@') {
        Some(name) => abstract_socket(name),
        None => SocketAddr::from_pathname(path),
    };
    Some((UnixDatagram::unbound().ok()?, address.ok()?))
}

/// The address of an abstract socket, whose name began with `@`. Only Linux has these.
#[cfg(target_os = "linux")]
fn abstract_socket(name: &str) -> std::io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_socket(_: &str) -> std::io::Result<SocketAddr> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn watchdog(micros: &str) -> Option<Duration> {
    let micros = micros.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_service_manager_is_notified_of_ready_and_stopping() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor {
            socket: socket(path.to_str().unwrap()),
            watchdog: None,
        };
        supervisor.ready();
        supervisor.stopping();
        let mut received = [0; 64];
        for expected in ["READY=1", "STOPPING=1"] {
            let length = listener.recv(&mut received).unwrap();
            assert_eq!(&received[..length], expected.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_lifeless_service_sends_no_watchdog_notifications() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor {
            socket: socket(path.to_str().unwrap()),
            watchdog: Some(Duration::from_millis(3)),
        };
        let asked = Cell::new(0);
        let lifeless = || {
            asked.set(asked.get() + 1);
            (asked.get() > 1).then(|| "the loop hangs".into())
        };
        let patience = Duration::from_millis(100);
        tokio::time::timeout(patience, supervisor.keep_alive(lifeless))
            .await
            .unwrap_err();
        let mut received = [0; 64];
        let length = listener.recv(&mut received).unwrap();
        assert_eq!(&received[..length], b"WATCHDOG=1");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.recv(&mut received).is_err(), "it was sent once");
    }

    #[test]
    fn a_missing_socket_is_no_failure() {
        let supervisor = Supervisor {
            socket: socket("/nowhere/at/all"),
            watchdog: None,
        };
        supervisor.ready();
        assert_eq!(watchdog("30000000"), Some(Duration::from_secs(30)));
        assert_eq!((watchdog("0"), watchdog("often")), (None, None));
    }
}
