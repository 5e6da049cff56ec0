//! Every way an exchange can end, made by a receiver that answers byte by byte as told.

use http::HeaderMap;
use postrider_core::EXCERPT_MAX_BYTES;
use postrider_worker::{AddressGuard, Client, Exchange, Names, Request, Target};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

/// Answers each connection with `answer`, after having read one request's head and body.
async fn receiver<F, Fut>(answer: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 64 * 1024];
            let _ = stream.read(&mut buffer).await;
            tokio::spawn(answer(stream));
        }
    });
    address
}

/// A receiver that writes these bytes and closes.
async fn answering(bytes: &'static [u8]) -> SocketAddr {
    receiver(move |mut stream| async move {
        let _ = stream.write_all(bytes).await;
    })
    .await
}

fn client() -> Client {
    let allowed = ["127.0.0.0/8", "::1/128"].map(|range| range.parse().unwrap());
    Client::new(AddressGuard::new(&allowed), Names::new(&[])).unwrap()
}

fn request(url: &str, timeout: Duration) -> Request {
    Request {
        target: Target::of(&url.parse().unwrap()).unwrap(),
        headers: HeaderMap::new(),
        body: "{}".into(),
        timeout,
    }
}

async fn post(address: SocketAddr, timeout: Duration) -> Exchange {
    client()
        .send(request(&format!("http://{address}/"), timeout))
        .await
}

#[tokio::test]
async fn an_answer_is_returned_with_the_beginning_of_its_body() {
    let address = answering(b"HTTP/1.1 201 Created\r\nx-a: b\r\ncontent-length: 2\r\n\r\nok").await;
    let Exchange::Answered {
        status,
        headers,
        excerpt,
    } = post(address, LONG).await
    else {
        panic!("not answered");
    };
    assert_eq!(
        (
            status.as_u16(),
            headers["x-a"].to_str().unwrap(),
            &excerpt[..]
        ),
        (201, "b", &b"ok"[..])
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let address = answering(
        b"HTTP/1.1 307 Away\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let exchange = post(address, LONG).await;
    assert!(
        matches!(exchange, Exchange::Answered { status, .. } if status.as_u16() == 307),
        "{exchange:?}"
    );
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_excerpt() {
    let address = receiver(|mut stream| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
            .await;
        let block = [b'x'; 4096];
        while stream.write_all(&block).await.is_ok() {}
    })
    .await;
    let Exchange::Answered {
        status, excerpt, ..
    } = post(address, LONG).await
    else {
        panic!("not answered");
    };
    assert_eq!((status.as_u16(), excerpt.len()), (200, EXCERPT_MAX_BYTES));
}

#[tokio::test]
async fn a_receiver_that_never_answers_times_out() {
    let address = receiver(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let exchange = post(address, SHORT).await;
    assert!(matches!(exchange, Exchange::TimedOut), "{exchange:?}");
}

#[tokio::test]
async fn who_has_said_200_has_answered_whatever_becomes_of_the_body() {
    let dripping = receiver(|mut stream| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            .await;
        std::future::pending::<()>().await;
    })
    .await;
    let broken = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    for (address, timeout) in [(dripping, SHORT), (broken, LONG)] {
        let exchange = post(address, timeout).await;
        assert!(
            matches!(
                &exchange,
                Exchange::Answered { status, excerpt, .. }
                    if status.as_u16() == 200 && excerpt == b"half"
            ),
            "{exchange:?}"
        );
    }
}

#[tokio::test]
async fn who_has_said_503_has_refused_whatever_becomes_of_the_body() {
    let address =
        answering(b"HTTP/1.1 503 Away\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\nhalf").await;
    let exchange = post(address, LONG).await;
    let Exchange::Answered {
        status, headers, ..
    } = exchange
    else {
        panic!("{exchange:?}");
    };
    assert_eq!(status.as_u16(), 503);
    assert_eq!(headers["retry-after"], "7");
}

#[tokio::test]
async fn a_head_that_is_not_quite_right_is_read_as_far_as_it_can_be() {
    let heads: [&[u8]; 17] = [
        b"Bad Name: x\r\n",
        b"X-Test : 1\r\n",
        b": x\r\n",
        b"X-Bin: a\x01b\r\n",
        b"X-Fold: a\r\n b\r\n",
        b"JustAWord\r\n",
        b"Content-Length:2\r\n",
        b"Content-Length: 2\r\n",
        b"Content-Length: 2, 2\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: two\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"X-Name: caf\xc3\xa9\r\n",
        b"X-Null: \0\r\n",
        b"X-Return: a\rb\r\n",
        b"\x01: \x02\r\n",
    ];
    for odd in heads {
        let address = receiver(move |mut stream| async move {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n";
            let _ = stream.write_all(&[head, odd, b"\r\nok"].concat()).await;
        })
        .await;
        let exchange = post(address, LONG).await;
        assert!(
            matches!(exchange, Exchange::Answered { status, .. } if status.as_u16() == 200),
            "{:?}: {exchange:?}",
            odd.escape_ascii().to_string()
        );
    }
}

#[tokio::test]
async fn more_headers_than_are_read_do_not_hide_the_status() {
    let address = receiver(|mut stream| async move {
        let headers = "x-padding: x\r\n".repeat(1_000);
        let answer = format!("HTTP/1.1 202 OK\r\n{headers}content-length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    let exchange = post(address, LONG).await;
    assert!(
        matches!(exchange, Exchange::Answered { status, .. } if status.as_u16() == 202),
        "{exchange:?}"
    );
}

#[tokio::test]
async fn a_status_counts_where_the_connection_breaks_within_the_headers() {
    for answer in [
        &b"HTTP/1.1 200"[..],
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let exchange = post(answering(answer).await, LONG).await;
        assert!(
            matches!(exchange, Exchange::Answered { status, .. } if status.as_u16() == 200),
            "{answer:?}: {exchange:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_a_status_is_unreachable() {
    for answer in [
        &b""[..],
        b"HTTP/1.1 ",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"no http at all\r\n\r\n",
    ] {
        let exchange = post(answering(answer).await, LONG).await;
        assert!(
            matches!(exchange, Exchange::Unreachable { .. }),
            "{answer:?}: {exchange:?}"
        );
    }
}

#[tokio::test]
async fn a_refused_connection_says_so_without_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/?token=secret");
    let Exchange::Unreachable { reason } = client().send(request(&url, LONG)).await else {
        panic!("reachable");
    };
    assert!(
        reason.contains("refused") && !reason.contains("secret"),
        "{reason}"
    );
}

#[tokio::test]
async fn an_unknown_name_is_unreachable() {
    let exchange = client()
        .send(request("http://no-such-host.invalid/", LONG))
        .await;
    assert!(
        matches!(exchange, Exchange::Unreachable { .. }),
        "{exchange:?}"
    );
}

#[tokio::test]
async fn private_addresses_are_blocked_in_every_spelling_before_connecting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let guarded = Client::new(AddressGuard::new(&[]), Names::new(&[])).unwrap();
    for host in [
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "127.1",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let exchange = guarded
            .send(request(&format!("http://{host}:{port}/"), LONG))
            .await;
        assert!(
            matches!(exchange, Exchange::Blocked(_)),
            "{host}: {exchange:?}"
        );
    }
    let accepted = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(accepted.is_err(), "a connection was made");
}

#[tokio::test]
async fn what_is_allowed_is_reached_by_literal_and_by_name() {
    let address = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for host in ["127.0.0.1", "localhost", "0x7f.1"] {
        let url = format!("http://{host}:{}/", address.port());
        let exchange = client().send(request(&url, LONG)).await;
        assert!(
            matches!(exchange, Exchange::Answered { .. }),
            "{host}: {exchange:?}"
        );
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        for _ in 0..5 {
            let _ = stream.read(&mut buffer).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
        }
    });
    let client = client();
    for _ in 0..5 {
        let exchange = client
            .send(request(&format!("http://{address}/"), LONG))
            .await;
        assert!(
            matches!(exchange, Exchange::Answered { .. }),
            "{exchange:?}"
        );
    }
    connections.await.unwrap();
}
