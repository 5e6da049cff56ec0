//! A relay between a store and its PostgreSQL server, which can fall silent.
//!
//! It stands for a network that loses the packets of open connections without closing them: new
//! connections work, and go wherever the relay leads at that moment. It reads the client's
//! messages, so that it can fall silent at a certain one. Messages up to a request for an answer
//! travel together, as in one packet.

use std::collections::HashMap;
use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// A relay to a PostgreSQL server, until it is dropped.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    port: u16,
    _accepting: AbortOnDropHandle<()>,
}

/// At which moment of a request the relay falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loses {
    /// The request does not reach the server.
    Request,
    /// The request reaches the server, and the answer is lost.
    Answer,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<Target>,
    links: Mutex<Vec<watch::Sender<bool>>>,
    /// At which request the relay falls silent, and how.
    silence: Mutex<Option<(Trigger, Loses)>>,
    made: AtomicUsize,
}

/// The request at which the relay falls silent.
#[derive(Debug)]
enum Trigger {
    /// After this many others.
    After(usize),
    /// The next that sends, or runs, a statement with this text.
    At(String),
}

// Types of a client's messages.
const QUERY: u8 = b'Q';
const PARSE: u8 = b'P';
const BIND: u8 = b'B';
const SYNC: u8 = b'S';
const FLUSH: u8 = b'H';
const TERMINATE: u8 = b'X';

/// The statements that a client has prepared, by their names.
type Prepared = HashMap<Vec<u8>, String>;

/// Where new connections go.
#[derive(Clone, Debug)]
struct Target {
    /// A socket's path, or host and port.
    address: String,
    user: String,
    database: String,
}

/// Both directions of a connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Relay {
    /// A relay to the database that `url` names.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            target: Mutex::new(Target::of(url)),
            links: Mutex::default(),
            silence: Mutex::default(),
            made: AtomicUsize::new(0),
        });
        let relay = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let relay = relay.clone();
                // A connection that breaks is the test's business, not the relay's.
                tokio::spawn(async move { relay.connect(client).await.ok() });
            }
        });
        Self {
            shared,
            port,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// The host and port at which it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of its database, through the relay.
    pub fn url(&self) -> String {
        let Target { user, database, .. } = lock(&self.shared.target).clone();
        format!(
            "postgres://{user}@{}/{database}?sslmode=disable",
            self.address()
        )
    }

    /// Leads new connections to the database that `url` names, whichever they ask for.
    pub fn lead_to(&self, url: &str) {
        *lock(&self.shared.target) = Target::of(url);
    }

    /// Makes the open connections silent: nothing passes and nothing is closed.
    pub fn freeze(&self) {
        self.shared.freeze();
    }

    /// Ends the silence: what was held back passes.
    pub fn thaw(&self) {
        for link in lock(&self.shared.links).iter() {
            link.send_replace(false);
        }
    }

    /// Makes all connections silent, that are open then, at the request after `requests` others.
    pub fn freeze_after(&self, requests: usize, loses: Loses) {
        *lock(&self.shared.silence) = Some((Trigger::After(requests), loses));
    }

    /// Makes all connections silent, that are open then, when a client sends or runs a statement
    /// with this text.
    pub fn freeze_at(&self, text: &str, loses: Loses) {
        *lock(&self.shared.silence) = Some((Trigger::At(text.to_owned()), loses));
    }

    /// Whether the silence that was asked for has begun.
    pub fn has_frozen(&self) -> bool {
        lock(&self.shared.silence).is_none()
    }

    /// The number of connections so far.
    pub fn made(&self) -> usize {
        self.shared.made.load(Ordering::Relaxed)
    }
}

impl Target {
    fn of(url: &str) -> Self {
        let options = sqlx::postgres::PgConnectOptions::from_str(url).expect("a database URL");
        let port = options.get_port();
        let address = match options.get_socket() {
            Some(folder) => format!("{}/.s.PGSQL.{port}", folder.display()),
            None => format!("{}:{port}", options.get_host()),
        };
        let user = options.get_username().to_owned();
        Self {
            address,
            database: options.get_database().unwrap_or(&user).to_owned(),
            user,
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self.address.starts_with('/') {
            true => Box::new(UnixStream::connect(&self.address).await?),
            false => Box::new(TcpStream::connect(&self.address).await?),
        })
    }
}

impl Shared {
    async fn connect(&self, mut client: TcpStream) -> io::Result<()> {
        self.made.fetch_add(1, Ordering::Relaxed);
        client.set_nodelay(true)?;
        let target = lock(&self.target).clone();
        let server = target.connect().await?;
        let (link, frozen) = watch::channel(false);
        lock(&self.links).push(link);
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = tokio::io::split(server);
        let up = self.pass_requests(from_client, to_server, &target.database, frozen.clone());
        let down = pass(from_server, to_client, frozen.clone());
        // The end of one direction is that of the other; a silent connection has no end.
        tokio::select! {
            ended = up => hold(frozen, ended).await,
            ended = down => ended,
        }
    }

    /// Passes the client's requests one by one. The first message has no type, and names the
    /// database.
    async fn pass_requests(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        database: &str,
        mut frozen: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let start = renamed(&body(&mut from).await?, database);
        to.write_all(&framed(None, &start)).await?;
        let mut prepared = Prepared::new();
        loop {
            let (mut request, mut statements) = (Vec::new(), String::new());
            loop {
                let kind = from.read_u8().await?;
                let body = body(&mut from).await?;
                statements.push_str(statement(kind, &body, &mut prepared).unwrap_or_default());
                request.extend(framed(Some(kind), &body));
                if matches!(kind, SYNC | QUERY | FLUSH | TERMINATE) {
                    break;
                }
            }
            let loses = self.request_came(&statements);
            if loses != Some(Loses::Answer) {
                until_thawed(&mut frozen).await;
            }
            to.write_all(&request).await?;
            until_thawed(&mut frozen).await;
        }
    }

    /// Falls silent if this request of a client is the one that was asked for.
    fn request_came(&self, statements: &str) -> Option<Loses> {
        let mut silence = lock(&self.silence);
        let (trigger, loses) = silence.as_mut()?;
        let begins = match trigger {
            Trigger::After(0) => true,
            Trigger::After(left) => {
                *left -= 1;
                false
            }
            Trigger::At(text) => statements.contains(text.as_str()),
        };
        let loses = begins.then_some(*loses)?;
        *silence = None;
        self.freeze();
        Some(loses)
    }

    fn freeze(&self) {
        let mut links = lock(&self.links);
        links.retain(|link| !link.is_closed());
        for link in links.iter() {
            link.send_replace(true);
        }
    }
}

/// Passes whatever the server sends.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut frozen: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        until_thawed(&mut frozen).await;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// Keeps the end of a silent connection from the other side, as a network does.
async fn hold(mut frozen: watch::Receiver<bool>, ended: io::Result<()>) -> io::Result<()> {
    until_thawed(&mut frozen).await;
    ended
}

async fn until_thawed(frozen: &mut watch::Receiver<bool>) {
    // An error means that the relay is gone, and the connection with it.
    frozen.wait_for(|frozen| !frozen).await.ok();
}

/// The statement that a message prepares or runs.
fn statement<'a>(kind: u8, body: &[u8], prepared: &'a mut Prepared) -> Option<&'a str> {
    let mut words = body.split(|byte| *byte == 0);
    let (first, second) = (words.next()?.to_vec(), words.next());
    match kind {
        QUERY => {
            let sql = String::from_utf8_lossy(&first).into_owned();
            prepared.insert(Vec::new(), sql);
            prepared.get(&Vec::new()).map(String::as_str)
        }
        PARSE => {
            let sql = String::from_utf8_lossy(second?).into_owned();
            prepared.insert(first.clone(), sql);
            prepared.get(&first).map(String::as_str)
        }
        BIND => prepared.get(second?).map(String::as_str),
        _ => None,
    }
}

/// The body of the next message.
async fn body(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await? as usize;
    let mut body = vec![0; length.saturating_sub(4)];
    from.read_exact(&mut body).await?;
    Ok(body)
}

fn framed(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    let kind = kind.into_iter();
    kind.chain(length.to_be_bytes())
        .chain(body.iter().copied())
        .collect()
}

/// The start-up message, with this name of the database.
fn renamed(start: &[u8], database: &str) -> Vec<u8> {
    let (protocol, parameters) = start.split_at(4);
    let words: Vec<_> = parameters.split(|byte| *byte == 0).collect();
    let mut renamed = protocol.to_vec();
    for pair in words.chunks_exact(2).filter(|pair| !pair[0].is_empty()) {
        let value = match pair[0] {
            b"database" => database.as_bytes(),
            _ => pair[1],
        };
        for word in [pair[0], value] {
            renamed.extend_from_slice(word);
            renamed.push(0);
        }
    }
    renamed.push(0);
    renamed
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
