//! A pool of connections to PostgreSQL.
//!
//! Only a connection that is known to be usable is kept. One that broke, or was made before
//! another one broke, is closed. One whose call was dropped is read to the end of that call and
//! then closed; until then it keeps its place, so that the pool never has more calls on the server
//! than its size. Getting a connection takes a bounded time too.

use super::connection::{Condition, Connection, Waiting};
use super::epoch::Epoch;
use super::servers::{NoServer, Servers};
use super::transaction::Transaction;
use crate::PoolGauge;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use postrider_core::monotonic_now;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Either, Execute, Executor, PgConnection, Postgres, SqlStr};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// A connection is closed at this age, so that the memory of its server process is freed.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);
/// An unused connection is closed after this time.
const MAX_IDLE: Duration = Duration::from_secs(10 * 60);
/// How long a connection may be unused before it is tested.
const TEST_AFTER: Duration = Duration::from_secs(1);
/// The first and the longest pause before a server is tried again that cannot be connected to yet.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long closing the pool waits for calls in progress.
const CLOSING: Duration = Duration::from_secs(5);

/// What a pool is made with.
#[derive(Clone, Debug)]
pub(super) struct PoolSettings {
    /// Its name in metrics.
    pub(super) name: &'static str,
    /// The largest number of connections.
    pub(super) size: u32,
    /// How long one call waits for its answer.
    pub(super) bound: Duration,
    /// How long getting a connection waits for a place in the pool, and then for a server.
    pub(super) connect: Duration,
    /// How long the test of an unused connection waits.
    pub(super) test: Duration,
    /// Whether each connection is tested before use, not only one that was unused for a while.
    pub(super) tests_each: bool,
}

/// A pool of connections. Use it as an executor of single statements.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: PoolSettings,
    servers: Servers,
    epoch: Arc<Epoch>,
    places: Arc<Semaphore>,
    /// The connection that was used last is at the back, and is used first.
    idle: Mutex<VecDeque<Idle>>,
    /// For metrics: the connections that are open.
    waiting: Mutex<Vec<Weak<Waiting>>>,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection in use. It goes back to its pool when it is dropped.
#[derive(Debug)]
pub(super) struct Pooled {
    /// `None` only while it is dropped.
    connection: Option<Connection>,
    pool: Arc<Inner>,
    place: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(super) fn new(settings: PoolSettings, servers: Servers, epoch: Arc<Epoch>) -> Self {
        Self(Arc::new(Inner {
            places: Arc::new(Semaphore::new(settings.size as usize)),
            settings,
            servers,
            epoch,
            idle: Mutex::default(),
            waiting: Mutex::default(),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// A connection that was usable a moment ago.
    ///
    /// # Errors
    /// When no place becomes free, or no server accepts a connection, in time.
    pub(super) async fn acquire(&self) -> sqlx::Result<Pooled> {
        let inner = &self.0;
        let place = inner.places.clone().acquire_owned();
        let place = match timeout(inner.settings.connect, place).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) => return Err(sqlx::Error::PoolClosed),
            Err(_) => return Err(sqlx::Error::PoolTimedOut),
        };
        // From here on a connection that is dropped keeps its place until it is closed.
        let mut taken = Pooled {
            connection: None,
            pool: inner.clone(),
            place: Some(place),
        };
        if inner.is_closed.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed);
        }
        while let Some(Idle { connection, since }) = inner.take_idle() {
            let connection = taken.connection.insert(connection);
            let unused = monotonic_now().saturating_duration_since(since);
            let untested = !inner.settings.tests_each && unused < TEST_AFTER;
            if untested || connection.test(inner.settings.test).await {
                return Ok(taken);
            }
            if let Some(connection) = taken.connection.take() {
                connection.close().await;
            }
        }
        taken.connection = Some(inner.connect().await?);
        Ok(taken)
    }

    /// Connects without a place in the pool, and does not wait for a server that starts up.
    pub(super) async fn connect_once(&self) -> Result<Connection, NoServer> {
        let (inner, settings) = (&self.0, &self.0.settings);
        let epoch = inner.epoch.current();
        let raw = inner.servers.connect(settings.connect).await?;
        Ok(inner.watched(raw, epoch))
    }

    /// Begins a transaction on a connection of the pool.
    pub(super) async fn begin(&self) -> sqlx::Result<Transaction<Pooled>> {
        Transaction::begin(self.acquire().await?, "BEGIN").await
    }

    /// The number of connections, and the longest call in progress.
    pub(super) fn gauge(&self) -> PoolGauge {
        let inner = &self.0;
        let size = inner.settings.size;
        let free = u32::try_from(inner.places.available_permits()).unwrap_or(size);
        let now = monotonic_now();
        let waiting = inner.lock_waiting();
        let waiting = waiting
            .iter()
            .filter_map(|waiting| waiting.upgrade()?.time(now));
        PoolGauge {
            pool: inner.settings.name,
            used: size.saturating_sub(free),
            idle: u32::try_from(inner.lock_idle().len()).unwrap_or(u32::MAX),
            max: size,
            longest: waiting.max().unwrap_or_default(),
        }
    }

    /// Closes every connection, those in use when their calls end. Later calls fail.
    pub(super) async fn close(&self) {
        let inner = &self.0;
        inner.is_closed.store(true, Ordering::Release);
        let all = inner.places.acquire_many(inner.settings.size);
        timeout(CLOSING, all).await.ok();
        inner.places.close();
        let idle: Vec<_> = inner.lock_idle().drain(..).collect();
        join_all(idle.into_iter().map(|idle| idle.connection.close())).await;
    }
}

impl Inner {
    /// Connects to the server that the name of the database leads to now. A server that starts up
    /// or takes over is waited for.
    async fn connect(&self) -> sqlx::Result<Connection> {
        let began = monotonic_now();
        let mut pause = RETRY_FIRST;
        let (raw, epoch) = loop {
            let left = |now: Instant| {
                let spent = now.saturating_duration_since(began);
                self.settings.connect.saturating_sub(spent)
            };
            let epoch = self.epoch.current();
            match self.servers.connect(left(monotonic_now())).await {
                Ok(raw) => break (raw, epoch),
                Err(refusal) if refusal.is_passing() && left(monotonic_now()) > pause => {}
                Err(refusal) => return Err(refusal.into_error()),
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        };
        Ok(self.watched(raw, epoch))
    }

    fn watched(&self, raw: PgConnection, epoch: u64) -> Connection {
        let bound = Some(self.settings.bound);
        let connection = Connection::new(raw, bound, self.epoch.clone(), epoch);
        let mut waiting = self.lock_waiting();
        waiting.retain(|waiting| waiting.strong_count() > 0);
        waiting.push(Arc::downgrade(connection.waiting()));
        connection
    }

    /// The unused connection that was used last. Those that are not to be used any more are closed.
    fn take_idle(self: &Arc<Self>) -> Option<Idle> {
        loop {
            let idle = self.lock_idle().pop_back()?;
            match self.is_past(&idle.connection) {
                true => end(idle.connection, None),
                false => return Some(idle),
            }
        }
    }

    fn is_past(&self, connection: &Connection) -> bool {
        let age = monotonic_now().saturating_duration_since(connection.made_at());
        connection.is_outdated() || age > MAX_AGE || self.is_closed.load(Ordering::Acquire)
    }

    /// Takes a usable connection back, and closes the one that has been unused for too long.
    fn put_back(&self, connection: Connection, place: Option<OwnedSemaphorePermit>) {
        let now = monotonic_now();
        let mut idle = self.lock_idle();
        idle.push_back(Idle {
            connection,
            since: now,
        });
        let is_old = |idle: &Idle| now.saturating_duration_since(idle.since) > MAX_IDLE;
        let oldest = idle.front().is_some_and(is_old).then(|| idle.pop_front());
        drop(idle);
        drop(place);
        if let Some(Some(oldest)) = oldest {
            end(oldest.connection, None);
        }
    }

    fn lock_idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_waiting(&self) -> MutexGuard<'_, Vec<Weak<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Pooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is taken on drop only")
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is taken on drop only")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let (pool, place) = (self.pool.clone(), self.place.take());
        match connection.condition() {
            Condition::Ready if !pool.is_past(&connection) => pool.put_back(connection, place),
            Condition::Ready | Condition::Broken | Condition::Silent | Condition::Tested => {
                end(connection, place);
            }
            Condition::InTransaction => spawn(async move {
                let mut connection = connection;
                match connection.roll_back().await.is_ok() && !pool.is_past(&connection) {
                    true => pool.put_back(connection, place),
                    false => connection.close().await,
                }
            }),
            Condition::Busy => spawn(async move {
                let mut connection = connection;
                connection.finish().await;
                connection.close().await;
                drop(place);
            }),
        }
    }
}

/// Ends a session; its place is free afterwards.
fn end(connection: Connection, place: Option<OwnedSemaphorePermit>) {
    spawn(async move {
        connection.close().await;
        drop(place);
    });
}

/// Runs this in the background. Without a runtime it is dropped, which closes the connection.
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(task);
    }
}

impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    /// All rows are read before the first is returned, so that the connection is free again.
    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let read = async move {
            let mut connection = self.acquire().await?;
            let steps: Vec<_> = connection.fetch_many(query).try_collect().await?;
            Ok::<_, sqlx::Error>(stream::iter(steps.into_iter().map(Ok)))
        };
        stream::once(read).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move { self.acquire().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.acquire().await?.prepare_with(sql, parameters).await })
    }
}
