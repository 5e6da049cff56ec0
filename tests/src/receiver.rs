//! A receiver with scripted answers, which records every request.
//!
//! Nothing here sleeps: who waits for requests is woken by their arrival, and gives up after a
//! time that only a hang can use up.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// How long anything that must happen may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One request, exactly as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// When it came.
    pub at: Instant,
    /// How many requests were there at that moment and not answered, this one included.
    pub at_once: usize,
}

/// What a receiver answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
    /// How long it takes the receiver to answer.
    pub takes: Duration,
}

/// A receiver on a port of its own, which it gives up when dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: AbortOnDropHandle<()>,
}

type Decide = Box<dyn Fn(usize, &Received) -> Answer + Send + Sync>;

struct Shared {
    decide: Mutex<Decide>,
    requests: Mutex<Vec<Received>>,
    arrived: watch::Sender<usize>,
    answered: watch::Sender<usize>,
    open: watch::Sender<bool>,
    connections: AtomicUsize,
    unanswered: AtomicUsize,
    cut: Mutex<Vec<String>>,
}

impl From<u16> for Answer {
    fn from(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            takes: Duration::ZERO,
        }
    }
}

impl Answer {
    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// After this time.
    #[must_use]
    pub fn after(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

impl Received {
    /// A header's value.
    ///
    /// # Panics
    /// When it is missing or no text.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        let value = value.unwrap_or_else(|| panic!("no {name} among {:?}", self.headers));
        value.to_str().expect("a header of plain text")
    }

    /// Which event it is: the `webhook-id`.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is something else.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }
}

impl Receiver {
    /// Answers every request with 200.
    pub async fn accepting() -> Self {
        Self::answering([200]).await
    }

    /// Answers in this order; the last answer repeats.
    pub async fn answering<A: Into<Answer>>(answers: impl IntoIterator<Item = A>) -> Self {
        Self::deciding(in_order(answers)).await
    }

    /// Answers as `decide` says of each request and its number, from 0.
    pub async fn deciding(
        decide: impl Fn(usize, &Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the port");
        let shared = Arc::new(Shared {
            decide: Mutex::new(Box::new(decide)),
            requests: Mutex::default(),
            arrived: watch::Sender::new(0),
            answered: watch::Sender::new(0),
            open: watch::Sender::new(true),
            connections: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            cut: Mutex::default(),
        });
        let counted = shared.clone();
        let listener = listener.tap_io(move |_| {
            counted.connections.fetch_add(1, Ordering::Relaxed);
        });
        let routes = axum::Router::new()
            .fallback(receive)
            .with_state(shared.clone());
        let serving = tokio::spawn(async move {
            // A receiver whose listener fails answers nobody, and the test says what is missing.
            let _ = axum::serve(listener, routes).await;
        });
        Self {
            address,
            shared,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// From now on answers in this order; the last answer repeats.
    pub fn answer<A: Into<Answer>>(&self, answers: impl IntoIterator<Item = A>) {
        let already = self.count();
        let decide = in_order(answers);
        *lock(&self.shared.decide) =
            Box::new(move |number, received| decide(number - already, received));
    }

    /// Keeps every request waiting from now on.
    pub fn hold(&self) {
        self.shared.open.send_replace(false);
    }

    /// Answers whatever waits, and keeps nothing waiting any more.
    pub fn release(&self) {
        self.shared.open.send_replace(true);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Received> {
        lock(&self.shared.requests).clone()
    }

    /// How many requests have come.
    pub fn count(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// The events whose requests the sender gave up before they were answered.
    pub fn cut(&self) -> Vec<String> {
        lock(&self.shared.cut).clone()
    }

    /// How often each event came, by its `webhook-id`.
    pub fn arrivals(&self) -> BTreeMap<String, usize> {
        let mut arrivals = BTreeMap::new();
        for request in lock(&self.shared.requests).iter() {
            *arrivals.entry(request.id().to_owned()).or_default() += 1;
        }
        arrivals
    }

    /// Waits until this many requests have come.
    pub async fn wait_for(&self, count: usize) {
        let mut arrived = self.shared.arrived.subscribe();
        let enough = arrived.wait_for(|arrived| *arrived >= count);
        if tokio::time::timeout(PATIENCE, enough).await.is_err() {
            panic!("waited for {count} requests and {} came", self.count());
        }
    }

    /// Waits until this many requests have been answered.
    pub async fn wait_for_answers(&self, count: usize) {
        let mut answered = self.shared.answered.subscribe();
        let enough = answered.wait_for(|answered| *answered >= count);
        if tokio::time::timeout(PATIENCE, enough).await.is_err() {
            let answered = *self.shared.answered.borrow();
            panic!("waited for {count} answers and {answered} were given");
        }
    }

    /// Waits until each of these events has come at least once.
    pub async fn wait_for_events(&self, events: &BTreeSet<String>) {
        let mut arrived = self.shared.arrived.subscribe();
        let all = arrived.wait_for(|count| {
            *count >= events.len() && {
                let arrivals = self.arrivals();
                events.iter().all(|event| arrivals.contains_key(event))
            }
        });
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            let arrivals = self.arrivals();
            let missing = events.iter().filter(|event| !arrivals.contains_key(*event));
            let missing: Vec<_> = missing.collect();
            panic!(
                "{} of {} events never came, such as {:?}",
                missing.len(),
                events.len(),
                missing.first()
            );
        }
    }
}

fn in_order<A: Into<Answer>>(
    answers: impl IntoIterator<Item = A>,
) -> impl Fn(usize, &Received) -> Answer + Send + Sync + 'static {
    let answers: Vec<Answer> = answers.into_iter().map(Into::into).collect();
    assert!(!answers.is_empty(), "a receiver needs an answer to give");
    move |number, _| answers[number.min(answers.len() - 1)].clone()
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let received = Received {
        path: head
            .uri
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        headers: head.headers,
        body,
        at: Instant::now(),
        at_once: shared.unanswered.fetch_add(1, Ordering::SeqCst) + 1,
    };
    let cut = Cut {
        // Requests of other profiles have none.
        id: received
            .headers
            .contains_key("webhook-id")
            .then(|| received.id().to_owned()),
        all: &shared.cut,
        unanswered: &shared.unanswered,
    };
    let answer = {
        let mut requests = lock(&shared.requests);
        let answer = lock(&shared.decide)(requests.len(), &received);
        requests.push(received);
        answer
    };
    // After the lock: who waits here looks at the requests.
    shared.arrived.send_modify(|arrived| *arrived += 1);
    // The sender lives in `shared`, so the gate cannot be gone.
    let _ = shared.open.subscribe().wait_for(|open| *open).await;
    if !answer.takes.is_zero() {
        tokio::time::sleep(answer.takes).await;
    }
    cut.answered();
    shared.answered.send_modify(|answered| *answered += 1);
    let mut response = Response::new(answer.body.into());
    *response.status_mut() = StatusCode::from_u16(answer.status).expect("a status");
    for (name, value) in answer.headers {
        let value = value.parse().expect("a header's value");
        response.headers_mut().insert(name, value);
    }
    response
}

/// Notes a request whose sender goes away: its handler is then dropped before it has answered.
struct Cut<'a> {
    id: Option<String>,
    all: &'a Mutex<Vec<String>>,
    unanswered: &'a AtomicUsize,
}

impl Cut<'_> {
    fn answered(mut self) {
        self.id = None;
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.unanswered.fetch_sub(1, Ordering::SeqCst);
        lock(self.all).extend(self.id.take());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
