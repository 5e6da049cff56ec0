//! Connects to one of several addresses.
//!
//! A name may have addresses that do not answer. As RFC 8305 says, the addresses are tried one
//! after another, a moment apart, without giving up those that were begun; the first connection
//! that is made is used, the others are dropped.

use crate::local_fault::LocalFault;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long an address is tried before the next is tried beside it (RFC 8305 §5).
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// Addresses tried for a connection at most: each takes a file descriptor.
const TRIED_MAX: usize = 8;
/// How long connecting may take over all addresses: two SYN packets may be lost.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Connects to the first of `addresses` that accepts, within [`CONNECT_MAX`].
///
/// # Errors
/// A local fault if there was one, since an address was not tried then; otherwise the latest
/// error.
pub(super) async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let connecting = async {
        match addresses[..] {
            [address] => TcpStream::connect(address).await,
            _ => race(addresses).await,
        }
    };
    let stream = tokio::time::timeout(CONNECT_MAX, connecting)
        .await
        .unwrap_or_else(|_elapsed| {
            let seconds = CONNECT_MAX.as_secs();
            let why = format!("the receiver did not accept a connection within {seconds} s");
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        })?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = families_in_turn(addresses).into_iter().take(TRIED_MAX);
    let mut tried = FuturesUnordered::new();
    let mut failure = None;
    loop {
        match waiting.next() {
            Some(address) => tried.push(TcpStream::connect(address)),
            None if tried.is_empty() => return Err(failure.unwrap_or_else(no_address)),
            None => {}
        }
        let patience = match waiting.len() {
            0 => Duration::MAX,
            _ => NEXT_AFTER,
        };
        match tokio::time::timeout(patience, tried.next()).await {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(error))) => match failure.as_ref().and_then(LocalFault::of) {
                Some(_) => {}
                None => failure = Some(error),
            },
            Ok(None) | Err(_) => {}
        }
    }
}

/// The addresses in their order, but the families in turn (RFC 8305 §4): a family that does not
/// work delays the other by one address, not by all.
fn families_in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut in_turn = Vec::new();
    loop {
        let before = in_turn.len();
        in_turn.extend(first.next());
        in_turn.extend(second.next());
        if in_turn.len() == before {
            return in_turn;
        }
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    /// An address that drops every packet, as a dead machine does: its queue of connections is
    /// full.
    struct Dead {
        address: SocketAddr,
        _queue: Vec<TcpStream>,
        _listener: TcpListener,
    }

    async fn dead() -> Dead {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        let full = Duration::from_millis(300);
        while let Ok(stream) = tokio::time::timeout(full, TcpStream::connect(address)).await {
            queue.push(stream.unwrap());
        }
        Dead {
            address,
            _queue: queue,
            _listener: listener,
        }
    }

    #[tokio::test]
    async fn addresses_that_drop_every_packet_are_passed_over() {
        let (first, second) = (dead().await, dead().await);
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = good.local_addr().unwrap();
        let stream = connect(vec![first.address, second.address, good]).await;
        assert_eq!(stream.unwrap().peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_passed_over_at_once() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refusing = closed.local_addr().unwrap();
        drop(closed);
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = good.local_addr().unwrap();
        let stream = connect(vec![refusing, refusing, good]).await;
        assert_eq!(stream.unwrap().peer_addr().unwrap(), good);

        let refused = connect(vec![refusing, refusing]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_receiver_that_accepts_no_connection_is_given_up_before_the_deadline() {
        let dead = dead().await;
        let error = connect(vec![dead.address]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the receiver did not accept a connection within 5 s"
        );
    }

    #[test]
    fn families_take_turns() {
        let parse = |list: &str| -> Vec<SocketAddr> {
            list.split(' ').map(|a| a.parse().unwrap()).collect()
        };
        let table = [
            (
                "[::1]:1 [::2]:1 1.1.1.1:1 1.1.1.2:1",
                "[::1]:1 1.1.1.1:1 [::2]:1 1.1.1.2:1",
            ),
            (
                "1.1.1.1:1 [::1]:1 [::2]:1 [::3]:1",
                "1.1.1.1:1 [::1]:1 [::2]:1 [::3]:1",
            ),
            ("1.1.1.1:1 1.1.1.2:1", "1.1.1.1:1 1.1.1.2:1"),
        ];
        for (given, tried) in table {
            assert_eq!(families_in_turn(parse(given)), parse(tried), "{given}");
        }
    }
}
