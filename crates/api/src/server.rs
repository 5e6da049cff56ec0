//! Serves HTTP/1.1 and 1.0 connections, with timeouts for idle connections, for receiving a
//! request's head and for a peer that does not read its answer.
//!
//! Without these timeouts, slow peers could hold all connections.

use crate::head_timeout::{HeadTimeout, Requests};
use crate::write_timeout::Impatient;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// The timeouts of a connection.
#[derive(Clone, Copy)]
struct Patience {
    /// For a request, from the moment the connection is free for it until its head has arrived.
    idle: Duration,
    /// For the head of a request, from its first byte on.
    head: Duration,
    /// For the peer to accept more of an answer.
    reading: Duration,
}

const PATIENCE: Patience = Patience {
    // Longer than load balancers keep idle connections (mostly 60 s), so that they close first: one
    // that sends a request while we close answers 502.
    idle: Duration::from_secs(75),
    head: Duration::from_secs(30),
    reading: Duration::from_secs(30),
};

/// Pause after a failed `accept` caused by this process, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Accepts connections from `listener` until `closed`, then finishes the requests in progress.
pub async fn serve(listener: TcpListener, router: Router, closed: CancellationToken) {
    serve_with(PATIENCE, listener, router, closed).await;
}

async fn serve_with(
    patience: Patience,
    listener: TcpListener,
    router: Router,
    closed: CancellationToken,
) {
    let router = router.with_state(());
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new());
    server.header_read_timeout(patience.idle);
    let connections = GracefulShutdown::new();
    while let Some(accepted) = closed.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                wait_after(&error, &closed).await;
                continue;
            }
        };
        at_once(&stream);
        let requests = Requests::default();
        let stream = Impatient::new(stream, patience.reading);
        let stream = TokioIo::new(HeadTimeout::new(stream, requests.clone(), patience.head));
        let router = TowerToHyperService::new(router.clone());
        let service = service_fn(move |request| {
            let open = requests.begin();
            let answer = router.call(request);
            async move {
                let answer = answer.await;
                drop(open);
                answer
            }
        });
        let connection = server.serve_connection(stream, service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("A connection ended early: {error}");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// Turns Nagle's algorithm off: answers are small, and must not wait for an acknowledgement.
fn at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!("A connection keeps its delay: {error}");
    }
}

async fn wait_after(error: &std::io::Error, closed: &CancellationToken) {
    let of_the_caller = matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    );
    if !of_the_caller {
        warn!("Cannot accept connections, trying again: {error}");
        closed
            .run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE))
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use bytes::Bytes;
    use futures_util::stream;
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(50);

    /// Patience that no test uses up.
    const ENDLESS: Patience = Patience {
        idle: LONG,
        head: LONG,
        reading: LONG,
    };

    async fn start(patience: Patience, router: Router) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closed = CancellationToken::new();
        tokio::spawn(serve_with(patience, listener, router, closed.clone()));
        (address, closed)
    }

    async fn rest_of(stream: &mut TcpStream) -> String {
        let mut answer = String::new();
        let read = tokio::time::timeout(LONG, stream.read_to_string(&mut answer)).await;
        read.expect("the connection is closed").ok();
        answer
    }

    /// Makes a request whose answer is `hello`.
    async fn be_answered(stream: &mut TcpStream) {
        stream.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("hello") {
            let mut part = [0; 1_000];
            let read = stream.read(&mut part).await.unwrap();
            answer.push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    const HALF_A_HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ";

    #[tokio::test]
    async fn a_peer_that_sends_no_head_is_cut_off() {
        let hello = || Router::new().route("/", get(|| async { "hello" }));
        let idle = Patience {
            idle: SHORT,
            ..ENDLESS
        };
        let head = Patience {
            head: SHORT,
            ..ENDLESS
        };
        for (patience, sent) in [(idle, &b""[..]), (idle, HALF_A_HEAD), (head, HALF_A_HEAD)] {
            let (address, _closed) = start(patience, hello()).await;
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent).await.unwrap();
            assert!(!rest_of(&mut stream).await.contains("hello"));
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(LAST_REQUEST).await.unwrap();
            assert!(rest_of(&mut stream).await.ends_with("hello"));
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_kept_for_longer_than_a_head_may_take() {
        let of_most_balancers = Duration::from_secs(60);
        assert!(PATIENCE.idle > of_most_balancers);
        let router = Router::new().route("/", get(|| async { "hello" }));
        let patience = Patience {
            head: SHORT,
            ..ENDLESS
        };
        let (address, _closed) = start(patience, router).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        be_answered(&mut idle).await;
        // One head after the other takes too long meanwhile, on connections that were used before.
        for _ in 0..3 {
            let mut slow = TcpStream::connect(address).await.unwrap();
            be_answered(&mut slow).await;
            slow.write_all(HALF_A_HEAD).await.unwrap();
            assert_eq!(rest_of(&mut slow).await, "");
        }
        idle.write_all(LAST_REQUEST).await.unwrap();
        assert!(rest_of(&mut idle).await.ends_with("hello"));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_the_answer_is_cut_off() {
        /// Tells when the answer is given up.
        struct GivenUp(Arc<Notify>);

        impl Drop for GivenUp {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }

        let given_up = Arc::new(Notify::new());
        let router = Router::new().route("/", {
            let given_up = given_up.clone();
            get(async move || {
                let guard = GivenUp(given_up);
                let endless = stream::repeat_with(move || {
                    let _kept = &guard;
                    Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 1_000]))
                });
                Body::from_stream(endless)
            })
        });
        let patience = Patience {
            reading: SHORT,
            ..ENDLESS
        };
        let (address, _closed) = start(patience, router).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let waited = tokio::time::timeout(LONG, given_up.notified()).await;
        waited.expect("the answer is given up");
        let mut rest = Vec::new();
        let read = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
        read.expect("the connection is closed").ok();
    }

    #[tokio::test]
    async fn requests_received_before_the_end_are_answered() {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let router = Router::new().route("/", {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            get(async move || {
                begun.notify_one();
                go_on.notified().await;
                "hello"
            })
        });
        let (address, closed) = start(ENDLESS, router).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        begun.notified().await;
        closed.cancel();
        go_on.notify_one();
        assert!(
            rest_of(&mut stream).await.ends_with("hello"),
            "and then closed"
        );
    }
}
