//! The beginning of an answer, kept beside the parser.
//!
//! Two decisions need it. A request is repeated only when no byte of its answer has come, and an
//! answer whose head cannot be parsed still has a status.

use http::StatusCode;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The length of `HTTP/1.1 200`.
const LENGTH: usize = 12;

/// The first bytes that a connection received since the latest [`forget`](Self::forget).
#[derive(Clone, Default)]
pub(super) struct StatusLine(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    bytes: [u8; LENGTH],
    len: usize,
}

impl StatusLine {
    /// Forgets what was received, before the next request.
    pub(super) fn forget(&self) {
        self.lock().len = 0;
    }

    /// Whether nothing was received.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().len == 0
    }

    /// The final status that was received, if it is one of HTTP/1.
    pub(super) fn status(&self) -> Option<StatusCode> {
        let heard = self.lock();
        let rest = heard.bytes[..heard.len].strip_prefix(b"HTTP/1.")?;
        let status = match rest {
            [b'0'..=b'9', b' ', status @ ..] => StatusCode::from_bytes(status).ok()?,
            _ => return None,
        };
        (!status.is_informational()).then_some(status)
    }

    fn hear(&self, received: &[u8]) {
        let mut heard = self.lock();
        let begin = heard.len;
        let end = LENGTH.min(begin + received.len());
        heard.bytes[begin..end].copy_from_slice(&received[..end - begin]);
        heard.len = end;
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for StatusLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heard = self.lock();
        write!(
            f,
            "StatusLine({:?})",
            heard.bytes[..heard.len].escape_ascii().to_string()
        )
    }
}

/// A stream whose received bytes are shown to a [`StatusLine`].
pub(super) struct Overheard<S> {
    stream: S,
    status_line: StatusLine,
}

impl<S> Overheard<S> {
    pub(super) fn new(stream: S, status_line: StatusLine) -> Self {
        Self {
            stream,
            status_line,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let received = &buffer.filled()[before..];
        if !received.is_empty() {
            self.status_line.hear(received);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_the_first_bytes_alone() {
        let table: [(&[&[u8]], Option<u16>); 9] = [
            (&[b"HTTP/1.1 200 OK\r\n"], Some(200)),
            (&[b"HTTP/1.0 404\r\n\r\n"], Some(404)),
            (
                &[b"HTT", b"P/1.", b"1 50", b"3 Away\r\n", b"more"],
                Some(503),
            ),
            (&[b"HTTP/1.1 20"], None),
            (&[b"HTTP/1.1 100 Continue\r\n"], None),
            (&[b"HTTP/2.0 200 OK\r\n"], None),
            (&[b"ICY 200 OK\r\n\r\n"], None),
            (&[b"no http at all\r\n\r\n"], None),
            (&[], None),
        ];
        for (pieces, status) in table {
            let line = StatusLine::default();
            pieces.iter().for_each(|piece| line.hear(piece));
            let read = line.status().map(|status| status.as_u16());
            assert_eq!(read, status, "{line:?}");
            assert_eq!(line.is_empty(), pieces.is_empty());
            line.forget();
            assert!(line.is_empty() && line.status().is_none());
        }
    }
}
