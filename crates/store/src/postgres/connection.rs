//! A connection to PostgreSQL on which no call waits for ever.
//!
//! A server that falls silent, without closing the connection, never answers. So every statement
//! of this store runs through [`Connection`], which waits a bounded time: the server's own
//! time-out and a margin. A connection whose answer did not come, whose call was dropped, or
//! whose session has ended is closed and never used again. The bound is a timer: it adds no
//! statement.

use super::epoch::{Breakage, Epoch};
use crate::error::READ_ONLY;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};
use postrider_core::monotonic_now;
use postrider_producer::EnqueueError;
use sqlx::postgres::{PgDatabaseError, PgQueryResult, PgRow, PgSeverity, PgStatement, PgTypeInfo};
use sqlx::{Connection as _, Either, Execute, Executor, PgConnection, Postgres, SqlStr};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::{Sleep, timeout};

/// How long ending a session politely may take. The server notices the end anyway.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection to PostgreSQL. Use it as an executor of statements.
#[derive(Debug)]
pub(super) struct Connection {
    raw: PgConnection,
    watch: Watch,
}

/// Whether a connection can be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It can.
    Ready,
    /// It can after a rollback: its transaction was dropped.
    InTransaction,
    /// A call is in progress, or was dropped before its answer came.
    Busy,
    /// The same of a test, which leaves no work on the server.
    Tested,
    /// Its session has ended, or must end.
    Broken,
    /// The server did not answer within the bound.
    Silent,
}

/// What is known of a connection, apart from `sqlx`'s own part.
#[derive(Debug)]
struct Watch {
    /// How long one call waits for its answer; `None` for ever.
    bound: Option<Duration>,
    condition: Condition,
    made_at: Instant,
    /// The epoch in which the connection was made.
    made_in: u64,
    epoch: Arc<Epoch>,
    waiting: Arc<Waiting>,
}

/// Since when a connection has been waiting for an answer.
#[derive(Debug)]
pub(super) struct Waiting {
    origin: Instant,
    /// In microseconds after `origin`; 0 while it waits for nothing.
    since: AtomicU64,
}

/// An error that may come of a statement.
pub(super) trait OfStatement: From<sqlx::Error> {
    /// The error of the statement, if it is one.
    fn of_statement(&self) -> Option<&sqlx::Error>;
}

impl OfStatement for sqlx::Error {
    fn of_statement(&self) -> Option<&sqlx::Error> {
        Some(self)
    }
}

impl OfStatement for EnqueueError {
    fn of_statement(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Database(error) => Some(error),
            Self::Event(_) => None,
        }
    }
}

impl Connection {
    /// Watches a new connection, made in the epoch `made_in`. Each of its calls waits for `bound`
    /// at most; without a bound it waits for ever.
    pub(super) fn new(
        raw: PgConnection,
        bound: Option<Duration>,
        epoch: Arc<Epoch>,
        made_in: u64,
    ) -> Self {
        let now = monotonic_now();
        let waiting = Waiting {
            origin: now,
            since: AtomicU64::new(0),
        };
        let watch = Watch {
            bound,
            condition: Condition::Ready,
            made_at: now,
            made_in,
            epoch,
            waiting: Arc::new(waiting),
        };
        Self { raw, watch }
    }

    /// Has another crate make one call with `sqlx`'s own connection, within the bound.
    pub(super) async fn lend<'c, T, E, F>(
        &'c mut self,
        call: impl FnOnce(&'c mut PgConnection) -> F,
    ) -> Result<T, E>
    where
        E: OfStatement,
        F: Future<Output = Result<T, E>>,
    {
        self.roll_back().await?;
        let Self { raw, watch } = self;
        watch.bounded(call(raw)).await
    }

    /// The connection without a bound, for what may take any time.
    pub(super) fn unbounded(&mut self) -> &mut PgConnection {
        &mut self.raw
    }

    /// Asks the server for a sign of life, and waits for `bound` at most.
    pub(super) async fn test(&mut self, bound: Duration) -> bool {
        let Self { raw, watch } = self;
        let test = async {
            watch.condition = Condition::Tested;
            timeout(bound, raw.ping()).await
        };
        match test.await {
            Ok(Ok(())) => watch.answered(),
            Ok(Err(error)) => watch.failed(&error),
            Err(_) => drop(watch.silent(bound)),
        }
        watch.condition == Condition::Ready
    }

    /// A transaction was dropped: it is rolled back before the connection is used again.
    pub(super) fn leave_transaction(&mut self) {
        if self.watch.condition == Condition::Ready {
            self.watch.condition = Condition::InTransaction;
        }
    }

    /// Rolls back a transaction that was dropped.
    pub(super) async fn roll_back(&mut self) -> sqlx::Result<()> {
        if self.watch.condition == Condition::InTransaction {
            let Self { raw, watch } = self;
            watch.bounded(raw.execute("ROLLBACK")).await?;
        }
        Ok(())
    }

    /// Waits for the end of a call that was dropped.
    pub(super) async fn finish(&mut self) {
        let Self { raw, watch } = self;
        // Whatever comes of it, the connection is closed next.
        watch.bounded(raw.ping()).await.ok();
    }

    /// Ends the session, politely if the server still listens.
    pub(super) async fn close(self) {
        if matches!(self.watch.condition, Condition::Ready | Condition::Broken) {
            // If this fails, the server notices the end of the connection anyway.
            timeout(GOODBYE, self.raw.close()).await.ok();
        }
    }

    fn rows<'e, 'q: 'e, E>(&'e mut self, query: E) -> Rows<'e>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let Self { raw, watch } = self;
        Rows {
            rows: raw.fetch_many(query),
            watch,
            timer: None,
            has_begun: false,
        }
    }

    pub(super) fn condition(&self) -> Condition {
        self.watch.condition
    }

    /// Whether every connection of its time is to be closed.
    pub(super) fn is_outdated(&self) -> bool {
        self.watch.made_in != self.watch.epoch.current()
    }

    pub(super) fn made_at(&self) -> Instant {
        self.watch.made_at
    }

    pub(super) fn waiting(&self) -> &Arc<Waiting> {
        &self.watch.waiting
    }
}

impl Waiting {
    /// For how long the call in progress has been waiting for an answer; `None` without a call.
    pub(super) fn time(&self, now: Instant) -> Option<Duration> {
        match self.since.load(Ordering::Relaxed) {
            0 => None,
            since => {
                Some(now.saturating_duration_since(self.origin + Duration::from_micros(since)))
            }
        }
    }

    fn begin(&self) {
        let since = (monotonic_now() - self.origin).as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX).max(1);
        self.since.store(since, Ordering::Relaxed);
    }

    fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }
}

impl Watch {
    async fn bounded<T, E: OfStatement>(
        &mut self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.bounded_by(self.bound, call).await
    }

    async fn bounded_by<T, E: OfStatement>(
        &mut self,
        bound: Option<Duration>,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.begin();
        let result = match bound {
            None => call.await,
            Some(bound) => match timeout(bound, call).await {
                Ok(result) => result,
                Err(_) => return Err(self.silent(bound).into()),
            },
        };
        match result.as_ref().map_err(E::of_statement) {
            Err(Some(error)) => self.failed(error),
            Ok(_) | Err(None) => self.answered(),
        }
        result
    }

    fn begin(&mut self) {
        self.condition = Condition::Busy;
        self.waiting.begin();
    }

    fn answered(&mut self) {
        self.condition = Condition::Ready;
        self.waiting.end();
    }

    fn failed(&mut self, error: &sqlx::Error) {
        self.answered();
        if let Some(breakage) = breakage(error) {
            self.condition = Condition::Broken;
            self.epoch.broke(self.made_in, breakage);
        }
    }

    fn silent(&mut self, bound: Duration) -> sqlx::Error {
        self.answered();
        self.condition = Condition::Silent;
        self.epoch.broke(self.made_in, Breakage::Silent);
        sqlx::Error::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "the server did not answer within {bound:?}, and the connection to it was closed"
            ),
        ))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.waiting.end();
    }
}

/// How this error has broken its connection; `None` if the session goes on.
fn breakage(error: &sqlx::Error) -> Option<Breakage> {
    match error {
        sqlx::Error::Database(refusal) => {
            let refusal = refusal.try_downcast_ref::<PgDatabaseError>()?;
            let ended = matches!(refusal.severity(), PgSeverity::Fatal | PgSeverity::Panic);
            match refusal.code() {
                READ_ONLY => Some(Breakage::ReadOnly),
                "57P01" | "57P02" | "57P03" => Some(Breakage::Ended),
                code if ended || code.starts_with("08") => Some(Breakage::Ended),
                _ => None,
            }
        }
        // Found before anything was sent.
        sqlx::Error::Encode(_) => None,
        _ => Some(Breakage::Ended),
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        match self.watch.condition {
            Condition::InTransaction => {
                let rolled_back = async move {
                    self.roll_back().await?;
                    Ok::<_, sqlx::Error>(self.rows(query))
                };
                stream::once(rolled_back).try_flatten().boxed()
            }
            _ => self.rows(query).boxed(),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            self.roll_back().await?;
            let Connection { raw, watch } = self;
            watch.bounded(raw.fetch_optional(query)).await
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            self.roll_back().await?;
            let Connection { raw, watch } = self;
            watch.bounded(raw.prepare_with(sql, parameters)).await
        })
    }
}

/// The rows of one statement, which must all come within the bound.
struct Rows<'e> {
    rows: BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>,
    watch: &'e mut Watch,
    timer: Option<Pin<Box<Sleep>>>,
    has_begun: bool,
}

impl Stream for Rows<'_> {
    type Item = sqlx::Result<Either<PgQueryResult, PgRow>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.has_begun {
            this.has_begun = true;
            this.watch.begin();
        }
        if this.watch.condition != Condition::Busy {
            // It has failed, and nothing comes after an error.
            return Poll::Ready(None);
        }
        match this.rows.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(step))) => Poll::Ready(Some(Ok(step))),
            Poll::Ready(Some(Err(error))) => {
                this.watch.failed(&error);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                this.watch.answered();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(bound) = this.watch.bound else {
                    return Poll::Pending;
                };
                let timer = this
                    .timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(bound)));
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(this.watch.silent(bound)))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}
