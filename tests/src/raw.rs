//! A receiver that does what no web server does: breaks off, dawdles, floods, or shows a
//! certificate that cannot be trusted.

use crate::receiver::PATIENCE;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_util::task::AbortOnDropHandle;

/// What a receiver does once it has read a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers 200 and nothing more.
    Accept,
    /// Closes the connection without an answer.
    Close,
    /// Answers with this status, sends a part of the body and resets the connection.
    ResetMidBody(u16),
    /// Answers 200 with a body of unknown length, and closes the connection as its end; TLS is
    /// not told.
    EndByClosing,
    /// Answers 200 with header lines that HTTP does not allow.
    MalformedHeaders,
    /// Sends the headers a byte at a time, without end.
    DripHeaders,
    /// Answers 200 and sends the body a byte at a time, without end.
    DripBody,
    /// Answers 200 with a body of 10 GB.
    Flood,
    /// Answers 200 with 60 KiB of gzip that stand for 60 MB.
    GzipBomb,
}

/// A receiver on a port of its own, which it gives up when dropped.
pub struct RawReceiver {
    address: SocketAddr,
    connections: watch::Receiver<Connections>,
    heads: Heads,
    _serving: AbortOnDropHandle<()>,
}

/// The heads of the requests, as they came.
type Heads = Arc<Mutex<Vec<String>>>;

#[derive(Clone, Copy, Debug, Default)]
struct Connections {
    made: usize,
    open: usize,
}

/// A certificate authority of a test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// How long a dawdling receiver waits before each byte.
const DRIP: Duration = Duration::from_millis(20);

impl RawReceiver {
    /// Behaves in this manner on every connection.
    pub async fn that(manner: Manner) -> Self {
        Self::serving(manner, None).await
    }

    /// The same over TLS.
    pub async fn over_tls(manner: Manner, tls: Arc<ServerConfig>) -> Self {
        Self::serving(manner, Some(tls.into())).await
    }

    async fn serving(manner: Manner, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the port");
        let (connections, seen) = watch::channel(Connections::default());
        let heads = Heads::default();
        let kept = heads.clone();
        let serving = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => {
                        connections.send_modify(|seen| {
                            seen.made += 1;
                            seen.open += 1;
                        });
                        let (tls, heads) = (tls.clone(), kept.clone());
                        open.spawn(async move {
                            // However it ends, it is what the test is about.
                            let _ = match tls {
                                None => behave(stream, manner, &heads).await,
                                Some(tls) => match tls.accept(stream).await {
                                    Ok(mut stream) => answer(&mut stream, manner, &heads).await,
                                    Err(problem) => Err(problem),
                                },
                            };
                        });
                    }
                    Some(_) = open.join_next() => connections.send_modify(|seen| seen.open -= 1),
                }
            }
        });
        Self {
            address,
            connections: seen,
            heads,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// Its URL, without TLS.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Its URL by name and over TLS.
    pub fn tls_url(&self) -> String {
        format!("https://localhost:{}/hook", self.address.port())
    }

    /// The request line and the headers of each request, as they came.
    pub fn heads(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.clone()
    }

    /// Waits until every connection that was made, at least one, is closed.
    pub async fn wait_until_closed(&self) {
        let mut connections = self.connections.clone();
        let closed = connections.wait_for(|seen| seen.made > 0 && seen.open == 0);
        if tokio::time::timeout(PATIENCE, closed).await.is_err() {
            panic!("connections stay open: {:?}", *self.connections.borrow());
        }
    }
}

impl Authority {
    /// A new one of this name, which nobody trusts yet.
    ///
    /// # Panics
    /// When no key can be made.
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        Self { issuer }
    }

    /// Writes its own certificate into a folder, for those who are to trust it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("authority.pem");
        std::fs::write(&path, self.issuer.pem()).expect("write the certificate");
        path
    }

    /// What a server for `name` needs, whose certificate ends with this year.
    ///
    /// # Panics
    /// When no certificate can be made.
    pub fn server(&self, name: &str, last_year: i32) -> Arc<ServerConfig> {
        self.server_of(name, last_year, &[])
    }

    /// The same for a server that offers to speak one of these protocols (ALPN).
    ///
    /// # Panics
    /// When no certificate can be made.
    pub fn server_of(&self, name: &str, last_year: i32, protocols: &[&str]) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key);
        let mut config = config.expect("a certificate with its key");
        config.alpn_protocols = protocols.iter().map(|&name| name.into()).collect();
        Arc::new(config)
    }
}

async fn behave(mut stream: TcpStream, manner: Manner, heads: &Heads) -> io::Result<()> {
    answer(&mut stream, manner, heads).await?;
    if matches!(manner, Manner::ResetMidBody(_)) {
        stream.set_zero_linger()?;
    }
    Ok(())
}

async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    manner: Manner,
    heads: &Heads,
) -> io::Result<()> {
    const HEAD: &str = "HTTP/1.1 200 OK\r\n";
    let head = read_request(stream).await?;
    heads
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(head);
    match manner {
        Manner::Accept => {
            let answer = format!("{HEAD}content-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await
        }
        Manner::Close => Ok(()),
        Manner::ResetMidBody(status) => {
            let head = format!("HTTP/1.1 {status} So\r\ncontent-length: 1000\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(b"the beginning").await
        }
        Manner::EndByClosing => {
            stream
                .write_all(format!("{HEAD}\r\nthe whole").as_bytes())
                .await?;
            stream.flush().await
        }
        Manner::MalformedHeaders => {
            let odd = "no colon\r\nblank in name: x\r\nblank-before : x\r\n: x\r\nx: \u{1}\r\n";
            let answer = format!("{HEAD}{odd}content-length: 0\r\nfolded: x\r\n y\r\n\r\n");
            stream.write_all(answer.as_bytes()).await
        }
        Manner::DripHeaders => {
            stream
                .write_all(format!("{HEAD}x-padding: ").as_bytes())
                .await?;
            drip(stream).await
        }
        Manner::DripBody => {
            let answer = format!("{HEAD}content-length: 1000000\r\n\r\n");
            stream.write_all(answer.as_bytes()).await?;
            drip(stream).await
        }
        Manner::Flood => {
            const SIZE: u64 = 10_000_000_000;
            let answer = format!("{HEAD}content-length: {SIZE}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await?;
            let mut body = tokio::io::repeat(b'x').take(SIZE);
            tokio::io::copy(&mut body, stream).await.map(drop)
        }
        Manner::GzipBomb => {
            let mut body = GZIP_OF_NOTHING_BUT_ZEROS.to_vec();
            body.resize(60 * 1024, 0);
            let headers = format!(
                "content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream
                .write_all(format!("{HEAD}{headers}").as_bytes())
                .await?;
            stream.write_all(&body).await
        }
    }
}

/// How gzip begins to pack zeros; every zero byte that follows expands to about a thousand.
const GZIP_OF_NOTHING_BUT_ZEROS: [u8; 25] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xc1, 0x01, 0x01, 0x00, 0x00,
    0x00, 0x82, 0x20, 0xff, 0xaf, 0x6e, 0x48, 0x40, 0x01,
];

async fn drip(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut drops = tokio::time::interval(DRIP);
    loop {
        drops.tick().await;
        stream.write_all(b"x").await?;
    }
}

/// Reads one request with its body, and returns its head.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::new();
    while !head.ends_with(END) {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let plain = head.to_ascii_lowercase();
    let length = plain
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    tokio::io::copy(&mut stream.take(length), &mut tokio::io::sink()).await?;
    Ok(head)
}
