//! Connections for tests.

use super::connection::Connection;
use super::stream::Stream;
use super::target::{HeaderNames, Origin, Target};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::{TcpListener, TcpStream};

/// A receiver that accepts connections and reads nothing.
pub(super) struct Peer {
    listener: TcpListener,
    pub(super) accepted: Vec<TcpStream>,
}

impl Peer {
    pub(super) async fn new() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            accepted: Vec::new(),
        }
    }

    /// A connection to it that was made at this time.
    pub(super) async fn connection(&mut self, made: Instant) -> Connection {
        let address = self.listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        self.accepted.push(self.listener.accept().await.unwrap().0);
        let stream = Stream::Plain(stream);
        let connection = Connection::over(stream, HeaderNames::LowerCase, made).await;
        let mut connection = connection.unwrap();
        assert!(connection.is_settled().await);
        connection
    }
}

pub(super) fn origin(host: &str) -> Arc<Origin> {
    Target::of(&format!("http://{host}/").parse().unwrap())
        .unwrap()
        .origin
}
