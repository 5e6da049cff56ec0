//! The receiver of the benchmark: a process of its own that answers as fast as it can and
//! knows exactly what arrived.
//!
//! It speaks just enough HTTP/1.1 for the requests the benchmark makes, so that what is
//! measured is the sender. It is told what to do on its standard input, a line at a time,
//! answers on its standard output, and ends when its input ends, so that it never outlives
//! the benchmark.
//!
//! Paths: `/ok/N` is answered 200, `/fail/N` 500, `/hang/N` never; `N` numbers the hook.

use super::received::{Tally, Watch};
use anyhow::{Context, Result};
use postrider_core::monotonic_now;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const FAIL: &[u8] = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
/// The largest request it takes.
const REQUEST_MAX: usize = 2 * 1024 * 1024;

struct Receiver {
    started: Instant,
    tally: Mutex<Tally>,
}

/// Runs until standard input ends.
///
/// # Errors
/// When no port can be opened or standard output is closed.
pub async fn run() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("the receiver of the benchmark found no free port")?;
    let receiver = Arc::new(Receiver {
        started: monotonic_now(),
        tally: Mutex::default(),
    });
    let mut out = tokio::io::stdout();
    let address = listener.local_addr()?;
    out.write_all(format!("{address}\n").as_bytes()).await?;
    out.flush().await?;
    tokio::spawn(accept(listener, receiver.clone()));

    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    while let Some(command) = commands.next_line().await? {
        let answer = receiver.answer(&command)?;
        out.write_all(answer.as_bytes()).await?;
        out.flush().await?;
    }
    Ok(())
}

impl Receiver {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `now`: the receiver's clock. `lap`: the longest gap since the lap before. `watch {…}`: begins anew. `seen`: the counts. `reached`:
    /// when the watched ranks were reached. `arrivals`: event, hook and time of each that is
    /// kept, then an empty line.
    fn answer(&self, command: &str) -> Result<String> {
        let (command, argument) = command.split_once(' ').unwrap_or((command, ""));
        Ok(match command {
            "now" => format!("{}\n", (monotonic_now() - self.started).as_secs_f64()),
            "watch" => {
                let watch: Watch = serde_json::from_str(argument)?;
                *self.tally() = Tally::of(watch);
                "ok\n".into()
            }
            "seen" => {
                let seen = self.tally().seen();
                format!("{}\n", serde_json::to_string(&seen)?)
            }
            "lap" => {
                let at = (monotonic_now() - self.started).as_secs_f64();
                format!("{}\n", self.tally().lap(at))
            }
            "reached" => format!("{}\n", serde_json::to_string(self.tally().reached())?),
            "arrivals" => {
                let mut lines = String::new();
                for ((event, hook), at) in self.tally().arrivals() {
                    writeln!(lines, "{event} {hook} {at}")?;
                }
                lines + "\n"
            }
            other => format!("unknown command {other:?}\n"),
        })
    }

    fn arrived(&self, kind: Kind, hook: u32, event: Option<Uuid>) {
        let at = (monotonic_now() - self.started).as_secs_f64();
        match kind {
            Kind::Ok => self.tally().accept(event, hook, at),
            Kind::Fail | Kind::Hang => self.tally().refuse(),
        }
    }
}

async fn accept(listener: TcpListener, receiver: Arc<Receiver>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, receiver.clone()));
            }
            // Out of file descriptors: those in use come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Answers the requests of one connection until it closes or sends nonsense.
async fn serve(mut stream: TcpStream, receiver: Arc<Receiver>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        match Head::parse(&buffer) {
            Parsed::Whole(head) if buffer.len() >= head.length => {
                receiver.arrived(head.kind, head.hook, head.event);
                let answer = match head.kind {
                    Kind::Ok => OK,
                    Kind::Fail => FAIL,
                    // Until the sender gives up and closes.
                    Kind::Hang => {
                        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                        return;
                    }
                };
                if stream.write_all(answer).await.is_err() {
                    return;
                }
                buffer.drain(..head.length);
                continue;
            }
            Parsed::Nonsense => return,
            Parsed::Whole(_) | Parsed::Partial => {}
        }
        if buffer.len() > REQUEST_MAX {
            return;
        }
        match stream.read_buf(&mut buffer).await {
            Ok(read) if read > 0 => {}
            _ => return,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ok,
    Fail,
    Hang,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    kind: Kind,
    hook: u32,
    event: Option<Uuid>,
    /// Of the whole request, head and body.
    length: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Whole(Head),
    Partial,
    Nonsense,
}

impl Head {
    fn parse(buffer: &[u8]) -> Parsed {
        let Some(end) = find(buffer, b"\r\n\r\n") else {
            return Parsed::Partial;
        };
        let Ok(text) = std::str::from_utf8(&buffer[..end]) else {
            return Parsed::Nonsense;
        };
        let mut lines = text.split("\r\n");
        let path = lines.next().and_then(|line| line.split(' ').nth(1));
        let Some((kind, hook)) = path.and_then(route) else {
            return Parsed::Nonsense;
        };
        let (mut event, mut body) = (None, 0);
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                body = value.trim().parse().unwrap_or(0);
            } else if name.eq_ignore_ascii_case("webhook-id") {
                event = value.trim().parse().ok();
            }
        }
        Parsed::Whole(Self {
            kind,
            hook,
            event,
            length: end + 4 + body,
        })
    }
}

fn route(path: &str) -> Option<(Kind, u32)> {
    let (kind, hook) = path.strip_prefix('/')?.split_once('/')?;
    let kind = match kind {
        "ok" => Kind::Ok,
        "fail" => Kind::Fail,
        "hang" => Kind::Hang,
        _ => return None,
    };
    Some((kind, hook.parse().ok()?))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_to_its_end() {
        let id = Uuid::from_u128(7);
        let request =
            format!("POST /ok/3 HTTP/1.1\r\nContent-Length: 2\r\nwebhook-id: {id}\r\n\r\n{{}}");
        let head = Head {
            kind: Kind::Ok,
            hook: 3,
            event: Some(id),
            length: request.len(),
        };
        assert_eq!(Head::parse(request.as_bytes()), Parsed::Whole(head));
        assert_eq!(Head::parse(b"POST /ok/3 HTTP/1.1\r\n"), Parsed::Partial);
        assert_eq!(
            Head::parse(b"POST /else HTTP/1.1\r\n\r\n"),
            Parsed::Nonsense
        );
    }
}
