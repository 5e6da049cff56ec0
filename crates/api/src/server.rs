//! Answers connections: HTTP/1.1 and 1.0, with a bound on how long a request's head may take.
//!
//! Without it whoever opens connections and sends a byte now and then keeps them all. The same
//! time bounds how long a connection may lie idle.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long the head of a request may take, from the moment the connection is free for it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long nothing is accepted after an error that is the process's, such as too many files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Answers what comes in on `listener` until `closed`, and then what has come in by then.
pub async fn serve(listener: TcpListener, router: Router, closed: CancellationToken) {
    serve_with(HEAD_TIMEOUT, listener, router, closed).await;
}

async fn serve_with(
    head_timeout: Duration,
    listener: TcpListener,
    router: Router,
    closed: CancellationToken,
) {
    let router = router.with_state(());
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new());
    server.header_read_timeout(head_timeout);
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
        let service = TowerToHyperService::new(router.clone());
        let connection = server.serve_connection(TokioIo::new(stream), service);
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

/// Answers are small; one that waits for another costs its caller the time.
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
    use axum::routing::get;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    const PATIENCE: Duration = Duration::from_secs(60);

    async fn start(head_timeout: Duration, router: Router) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closed = CancellationToken::new();
        tokio::spawn(serve_with(head_timeout, listener, router, closed.clone()));
        (address, closed)
    }

    async fn rest_of(stream: &mut TcpStream) -> String {
        let mut answer = String::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
        read.expect("the connection is closed").ok();
        answer
    }

    #[tokio::test]
    async fn who_does_not_send_a_head_is_cut_off() {
        let router = Router::new().route("/", get(|| async { "hello" }));
        let (address, _closed) = start(Duration::from_millis(50), router).await;
        for sent in ["", "GET / HTTP/1.1\r\nhost: a\r\nx-slow: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            assert!(!rest_of(&mut stream).await.contains("hello"));
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        assert!(rest_of(&mut stream).await.ends_with("hello"));
    }

    #[tokio::test]
    async fn what_came_in_before_the_end_is_answered() {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let router = Router::new().route("/", {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            get(async move || {
                begun.notify_one();
                go_on.notified().await;
                "hello"
            })
        });
        let (address, closed) = start(PATIENCE, router).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        begun.notified().await;
        closed.cancel();
        go_on.notify_one();
        assert!(
            rest_of(&mut stream).await.ends_with("hello"),
            "and then closed"
        );
    }
}
