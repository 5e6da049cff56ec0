//! When a connection is used again, and what becomes of a request that meets its end.

use http::HeaderMap;
use postrider_worker::{AddressGuard, Client, Exchange, HeaderNames, Names, Request, Target};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LONG: Duration = Duration::from_secs(20);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A receiver that does as told with each connection and its number, from 0, and counts the
/// requests that it has read.
struct Receiver {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    client: Client,
}

/// One connection to a receiver.
struct Caller {
    stream: TcpStream,
    requests: Arc<AtomicUsize>,
}

impl Receiver {
    async fn that<F, Fut>(serve: F) -> Self
    where
        F: Fn(usize, Caller) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let counted = requests.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let requests = counted.clone();
                tokio::spawn(serve(number, Caller { stream, requests }));
            }
        });
        let allowed = ["127.0.0.0/8"].map(|range| range.parse().unwrap());
        Self {
            address,
            requests,
            client: Client::new(AddressGuard::new(&allowed), Names::new(&[])).unwrap(),
        }
    }

    async fn post(&self) -> Exchange {
        self.post_within(LONG).await
    }

    async fn post_within(&self, timeout: Duration) -> Exchange {
        let url = format!("http://{}/", self.address).parse().unwrap();
        let request = Request {
            target: Target::of(&url).unwrap(),
            headers: HeaderMap::new(),
            body: "{}".into(),
            timeout,
        };
        self.client.send(request).await
    }

    /// Posts, and expects this status.
    async fn is_answered(&self, expected: u16) {
        let exchange = self.post().await;
        assert!(
            matches!(exchange, Exchange::Answered { status, .. } if status.as_u16() == expected),
            "{exchange:?}"
        );
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Caller {
    /// Reads a request to its end, the body `{}`. Returns what was read.
    async fn request(&mut self) -> String {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n{}") {
            read.push(self.stream.read_u8().await.unwrap());
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        String::from_utf8(read).unwrap()
    }

    async fn answer(&mut self, answer: &[u8]) {
        self.stream.write_all(answer).await.unwrap();
    }

    /// Answers whatever comes.
    async fn serve(mut self, answer: &[u8]) {
        loop {
            self.request().await;
            self.answer(answer).await;
        }
    }

    /// Waits for the first byte of a request, and resets the connection.
    async fn reset_the_next(mut self) {
        self.stream.read_u8().await.unwrap();
        self.stream.set_zero_linger().unwrap();
    }
}

#[tokio::test]
async fn a_request_that_meets_the_end_of_a_used_connection_is_repeated_on_a_new_one() {
    let receiver = Receiver::that(|number, mut caller| async move {
        match number {
            0 => {
                caller.request().await;
                caller.answer(OK).await;
                caller.reset_the_next().await;
            }
            _ => {
                caller
                    .serve(b"HTTP/1.1 201 OK\r\ncontent-length: 0\r\n\r\n")
                    .await
            }
        }
    })
    .await;
    receiver.is_answered(200).await;
    receiver.is_answered(201).await;
    receiver.is_answered(201).await;
    assert_eq!(receiver.requests(), 3);
}

#[tokio::test]
async fn the_first_request_of_a_connection_is_not_repeated() {
    let receiver = Receiver::that(|number, mut caller| async move {
        match number {
            0 => {
                caller.request().await;
                caller.stream.set_zero_linger().unwrap();
            }
            _ => caller.serve(OK).await,
        }
    })
    .await;
    let exchange = receiver.post().await;
    assert!(
        matches!(exchange, Exchange::Unreachable { .. }),
        "{exchange:?}"
    );
    assert_eq!(receiver.requests(), 1);
}

#[tokio::test]
async fn a_request_is_repeated_once() {
    let receiver = Receiver::that(|number, mut caller| async move {
        if number == 0 {
            caller.request().await;
            caller.answer(OK).await;
        }
        caller.request().await;
        caller.stream.set_zero_linger().unwrap();
    })
    .await;
    receiver.is_answered(200).await;
    let exchange = receiver.post().await;
    assert!(
        matches!(exchange, Exchange::Unreachable { .. }),
        "{exchange:?}"
    );
    assert_eq!(receiver.requests(), 3);
}

#[tokio::test]
async fn a_request_is_not_repeated_once_an_answer_has_begun() {
    let receiver = Receiver::that(|_, mut caller| async move {
        caller.request().await;
        caller.answer(OK).await;
        caller.request().await;
        caller.answer(b"HTTP/1.1 ").await;
    })
    .await;
    receiver.is_answered(200).await;
    let exchange = receiver.post().await;
    assert!(
        matches!(exchange, Exchange::Unreachable { .. }),
        "{exchange:?}"
    );
    assert_eq!(receiver.requests(), 2);
}

#[tokio::test]
async fn a_408_that_closes_a_used_connection_is_no_answer() {
    let late = b"HTTP/1.1 408 Idle\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let receiver = Receiver::that(move |number, mut caller| async move {
        match number {
            0 => {
                caller.request().await;
                caller.answer(OK).await;
                caller.request().await;
                caller.answer(late).await;
            }
            1 => {
                caller.request().await;
                caller.answer(OK).await;
            }
            _ => caller.serve(late).await,
        }
    })
    .await;
    receiver.is_answered(200).await;
    receiver.is_answered(200).await;
    // The first answer of a connection counts, whatever it is.
    receiver.is_answered(408).await;
    assert_eq!(receiver.requests(), 4);
}

#[tokio::test]
async fn connections_that_fell_silent_together_cost_one_timeout() {
    let receiver = Receiver::that(|number, mut caller| async move {
        match number {
            0..8 => {
                caller.request().await;
                caller.answer(OK).await;
                std::future::pending::<()>().await;
            }
            _ => caller.serve(OK).await,
        }
    })
    .await;
    let together = (0..8).map(|_| receiver.is_answered(200));
    futures_util::future::join_all(together).await;
    let exchange = receiver.post_within(Duration::from_millis(200)).await;
    assert!(matches!(exchange, Exchange::TimedOut), "{exchange:?}");
    receiver.is_answered(200).await;
}

#[tokio::test]
async fn a_421_ends_every_connection_to_the_host() {
    let receiver = Receiver::that(|number, mut caller| async move {
        match number {
            0 => {
                caller.request().await;
                caller.answer(OK).await;
                caller
                    .serve(b"HTTP/1.1 421 Elsewhere\r\ncontent-length: 0\r\n\r\n")
                    .await;
            }
            _ => caller.serve(OK).await,
        }
    })
    .await;
    receiver.is_answered(200).await;
    receiver.is_answered(421).await;
    receiver.is_answered(200).await;
}

#[tokio::test]
async fn a_receiver_that_leaves_the_request_unread_holds_nothing_up() {
    let receiver = Receiver::that(|_, mut caller| async move {
        caller.answer(OK).await;
        std::future::pending::<()>().await;
    })
    .await;
    let url = format!("http://{}/", receiver.address).parse().unwrap();
    let request = Request {
        target: Target::of(&url).unwrap(),
        headers: HeaderMap::new(),
        body: vec![b'x'; 32 * 1024 * 1024].into(),
        timeout: LONG,
    };
    let exchange = receiver.client.send(request).await;
    assert!(
        matches!(exchange, Exchange::Answered { status, .. } if status.as_u16() == 200),
        "{exchange:?}"
    );
}

#[tokio::test]
async fn names_of_headers_are_written_as_the_target_says() {
    for (names, expected) in [
        (
            HeaderNames::LowerCase,
            ["host", "x-api-key", "content-length"],
        ),
        (
            HeaderNames::TitleCase,
            ["Host", "X-Api-Key", "Content-Length"],
        ),
    ] {
        let (heads, mut head) = tokio::sync::mpsc::unbounded_channel();
        let receiver = Receiver::that(move |_, mut caller| {
            let heads = heads.clone();
            async move {
                heads.send(caller.request().await).unwrap();
                caller.answer(OK).await;
            }
        })
        .await;
        let url = format!("http://{}/", receiver.address).parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", "1".parse().unwrap());
        let request = Request {
            target: Target::of(&url).unwrap().naming(names),
            headers,
            body: "{}".into(),
            timeout: LONG,
        };
        receiver.client.send(request).await;
        let head = head.recv().await.unwrap();
        for name in expected {
            assert!(head.contains(&format!("\r\n{name}: ")), "{head}");
        }
    }
}
