//! The receiver process: answers as fast as it can and counts exactly what arrived.
//!
//! It speaks only as much HTTP/1.1 as the requests of the benchmark need, so that the sender is
//! the limit. It reads commands from its standard input, one a line, answers on its standard
//! output, and ends when its input ends, so that it never outlives the benchmark.
//!
//! `/ok/N` answers 200, `/fail/N` answers 500, `/hang/N` never answers; `N` is the hook's number.
//! `/sick-STATUS-PERCENT-WHAT-MS/N` answers after `MS` milliseconds: so many percent of the requests
//! (`WHAT` is `request`), or always the same events (`event`), with `STATUS` (never with 0), and the
//! others with 200.

use crate::received::{Tally, Watch};
use anyhow::{Context, Result};
use postrider_core::monotonic_now;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// The largest request it accepts, in bytes.
const REQUEST_MAX: usize = 2 * 1024 * 1024;

struct Receiver {
    started: Instant,
    tally: Mutex<Tally>,
    /// Sick paths answer 200 to everything.
    mended: AtomicBool,
    /// Requests to sick paths.
    sick_requests: AtomicU64,
}

/// Runs until standard input ends.
///
/// # Errors
/// When no port can be opened or standard output is closed.
pub async fn run() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("the receiver of the benchmark cannot listen on 127.0.0.1")?;
    let receiver = Arc::new(Receiver {
        started: monotonic_now(),
        tally: Mutex::default(),
        mended: AtomicBool::new(false),
        sick_requests: AtomicU64::new(0),
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

    /// Answers one command:
    ///
    /// | command | answer |
    /// | --- | --- |
    /// | `now` | the time in seconds since the start |
    /// | `watch {…}` | `ok`; the counts start anew, and sick paths are sick |
    /// | `mend` | `ok`; sick paths answer 200 from now on |
    /// | `seen` | the counts, as JSON |
    /// | `lap` | the longest gap between arrivals since the previous `lap` |
    /// | `reached` | when the watched ranks were reached, as a JSON list |
    /// | `arrivals` | event, hook and time of each sampled delivery, a line each, then an empty one |
    fn answer(&self, command: &str) -> Result<String> {
        let (command, argument) = command.split_once(' ').unwrap_or((command, ""));
        Ok(match command {
            "now" => format!("{}\n", (monotonic_now() - self.started).as_secs_f64()),
            "watch" => {
                let watch: Watch = serde_json::from_str(argument)?;
                *self.tally() = Tally::of(watch);
                self.mended.store(false, Ordering::Relaxed);
                "ok\n".into()
            }
            "mend" => {
                self.mended.store(true, Ordering::Relaxed);
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

    fn arrived(&self, kind: AnswerKind, hook: u32, event: Option<Uuid>) {
        let at = (monotonic_now() - self.started).as_secs_f64();
        match kind {
            AnswerKind::Ok => self.tally().accept(event, hook, at),
            AnswerKind::Status(_) | AnswerKind::Hang => self.tally().refuse(),
        }
    }

    /// How this request is answered, and after which time.
    fn decide(&self, head: &RequestHead) -> (AnswerKind, Duration) {
        match head.path {
            PathKind::Ok => (AnswerKind::Ok, Duration::ZERO),
            PathKind::Fail => (AnswerKind::Status(500), Duration::ZERO),
            PathKind::Hang => (AnswerKind::Hang, Duration::ZERO),
            PathKind::Sick(sick) => {
                let number = self.sick_requests.fetch_add(1, Ordering::Relaxed);
                let chance = match (sick.by_event, head.event) {
                    (true, Some(event)) => event.as_u64_pair().1,
                    _ => number,
                };
                let fails = scrambled(chance) % 100 < u64::from(sick.percent)
                    && !self.mended.load(Ordering::Relaxed);
                let answer = match (fails, sick.status) {
                    (false, _) => AnswerKind::Ok,
                    (true, 0) => AnswerKind::Hang,
                    (true, status) => AnswerKind::Status(status),
                };
                (answer, sick.after)
            }
        }
    }
}

/// The number with its bits mixed, so that consecutive ones look like chance.
fn scrambled(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}

async fn accept(listener: TcpListener, receiver: Arc<Receiver>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, receiver.clone()));
            }
            // Out of file descriptors: wait until connections close.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Answers the requests of one connection until it closes or sends something else than HTTP.
async fn serve(mut stream: TcpStream, receiver: Arc<Receiver>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        match RequestHead::parse(&buffer) {
            ParsedHead::Whole(head) if buffer.len() >= head.length => {
                let (answer, after) = receiver.decide(&head);
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                receiver.arrived(answer, head.hook, head.event);
                let written = match answer {
                    AnswerKind::Ok => stream.write_all(OK).await,
                    AnswerKind::Status(status) => {
                        let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n");
                        stream.write_all(answer.as_bytes()).await
                    }
                    // Wait until the sender gives up and closes.
                    AnswerKind::Hang => {
                        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                        return;
                    }
                };
                if written.is_err() {
                    return;
                }
                buffer.drain(..head.length);
                continue;
            }
            ParsedHead::Invalid => return,
            ParsedHead::Whole(_) | ParsedHead::Partial => {}
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
enum AnswerKind {
    Ok,
    Status(u16),
    Hang,
}

/// How the requests to a path are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathKind {
    Ok,
    Fail,
    Hang,
    Sick(SickPath),
}

/// A path that fails sometimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SickPath {
    /// The status of a failure; 0 for no answer.
    status: u16,
    /// The share of failures.
    percent: u32,
    /// Whether the same events fail each time.
    by_event: bool,
    /// The time until an answer.
    after: Duration,
}

impl SickPath {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut next = || parts.next();
        Some(Self {
            status: next()?.parse().ok()?,
            percent: next()?.parse().ok()?,
            by_event: next()? == "event",
            after: Duration::from_millis(next()?.parse().ok()?),
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct RequestHead {
    path: PathKind,
    hook: u32,
    event: Option<Uuid>,
    /// Length of the request in bytes, head and body.
    length: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum ParsedHead {
    Whole(RequestHead),
    Partial,
    Invalid,
}

impl RequestHead {
    fn parse(buffer: &[u8]) -> ParsedHead {
        let Some(end) = find(buffer, b"\r\n\r\n") else {
            return ParsedHead::Partial;
        };
        let Ok(text) = std::str::from_utf8(&buffer[..end]) else {
            return ParsedHead::Invalid;
        };
        let mut lines = text.split("\r\n");
        let path = lines.next().and_then(|line| line.split(' ').nth(1));
        let Some((path, hook)) = path.and_then(route) else {
            return ParsedHead::Invalid;
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
        ParsedHead::Whole(Self {
            path,
            hook,
            event,
            length: end + 4 + body,
        })
    }
}

fn route(path: &str) -> Option<(PathKind, u32)> {
    let (kind, hook) = path.strip_prefix('/')?.split_once('/')?;
    let kind = match kind {
        "ok" => PathKind::Ok,
        "fail" => PathKind::Fail,
        "hang" => PathKind::Hang,
        _ => PathKind::Sick(SickPath::parse(kind.strip_prefix("sick-")?)?),
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
    fn a_request_is_parsed_when_its_head_is_complete() {
        let id = Uuid::from_u128(7);
        let request =
            format!("POST /ok/3 HTTP/1.1\r\nContent-Length: 2\r\nwebhook-id: {id}\r\n\r\n{{}}");
        let head = RequestHead {
            path: PathKind::Ok,
            hook: 3,
            event: Some(id),
            length: request.len(),
        };
        assert_eq!(
            RequestHead::parse(request.as_bytes()),
            ParsedHead::Whole(head)
        );
        assert_eq!(
            RequestHead::parse(b"POST /ok/3 HTTP/1.1\r\n"),
            ParsedHead::Partial
        );
        assert_eq!(
            RequestHead::parse(b"POST /else HTTP/1.1\r\n\r\n"),
            ParsedHead::Invalid
        );
    }
    #[test]
    fn a_sick_path_fails_for_its_share() {
        let receiver = Receiver {
            started: monotonic_now(),
            tally: Mutex::default(),
            mended: AtomicBool::new(false),
            sick_requests: AtomicU64::new(0),
        };
        let (path, hook) = route("/sick-503-20-request-5/7").unwrap();
        assert_eq!(hook, 7);
        let head = |path, event| RequestHead {
            path,
            hook,
            event,
            length: 0,
        };
        let answers = (0..10_000).map(|_| receiver.decide(&head(path, None)));
        let failed = answers.filter(|answer| answer.0 == AnswerKind::Status(503));
        assert!((1_800..2_200).contains(&failed.count()));

        let (by_event, _) = route("/sick-0-50-event-5/7").unwrap();
        let decide = |n| receiver.decide(&head(by_event, Some(Uuid::from_u128(n)))).0;
        assert!(
            (0..100).all(|n| decide(n) == decide(n)),
            "the same each time"
        );
        assert!((0..100).any(|n| decide(n) == AnswerKind::Hang));
        receiver.mended.store(true, Ordering::Relaxed);
        assert!((0..100).all(|n| decide(n) == AnswerKind::Ok));
        assert_eq!(route("/sick-503-20/7"), None);
    }
}
