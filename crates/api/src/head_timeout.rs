//! A stream that fails when the head of a request takes too long to arrive.
//!
//! The server itself has one timeout for the wait for a request and the receipt of its head together.
//! A load balancer keeps idle connections for a minute, and must not find them closed; a peer that
//! sends a head byte by byte must not hold its connection for so long.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The requests of one connection, as far as the stream needs to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Heads that have arrived.
    begun: AtomicU64,
    /// Whether one of them is not answered yet.
    open: AtomicBool,
}

/// A request that is not answered yet.
pub(crate) struct Open(Requests);

impl Requests {
    /// The head of a request has arrived. The next head begins when the answer is known.
    pub(crate) fn begin(&self) -> Open {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.open.store(true, Ordering::Relaxed);
        Open(self.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.store(false, Ordering::Relaxed);
    }
}

/// A stream whose reads fail when some time has passed since the first byte of a head that is not
/// complete.
pub(crate) struct HeadTimeout<S> {
    stream: S,
    requests: Requests,
    patience: Duration,
    /// The running timeout; `None` while no head is being received.
    receiving: Option<Pin<Box<Sleep>>>,
    /// The number of heads when it was started.
    begun: u64,
}

impl<S> HeadTimeout<S> {
    /// Wraps a stream. A head may take `patience`, from its first byte on.
    pub(crate) fn new(stream: S, requests: Requests, patience: Duration) -> Self {
        Self {
            stream,
            requests,
            patience,
            receiving: None,
            begun: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let begun = this.requests.0.begun.load(Ordering::Relaxed);
        if begun != this.begun {
            this.begun = begun;
            this.receiving = None;
        }
        if let Some(receiving) = &mut this.receiving
            && receiving.as_mut().poll(context).is_ready()
        {
            let text = "the head of a request took too long";
            return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, text)));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let is_body = this.requests.0.open.load(Ordering::Relaxed);
        if !is_body && this.receiving.is_none() && buffer.filled().len() > before {
            this.receiving = Some(Box::pin(sleep(this.patience)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
