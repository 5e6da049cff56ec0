//! The one connection that writes, and how it shares the file with applications.
//!
//! SQLite lets one connection write at a time. Others wait by trying again: after 1, 2, 5, 10,
//! 15, 20, 25, 25, 25, 50 and 50 ms, then every 100 ms until their own busy timeout. There is no
//! queue, so a writer that begins again at once could starve them. Therefore the writer rests
//! after each transaction, for a third of the time that it held the file. Idle time counts as
//! rest. An application that tries finds the file free one time in four, even if the writer
//! always has work. Within the usual timeout of 5 s it tries sixty times; all of them fail in one
//! case of thirty million.
//!
//! Conversely, an application that commits in a tight loop leaves gaps of less than a
//! millisecond, which SQLite's own waiting would miss for seconds. Therefore the writer tries
//! every millisecond or two.

use super::errors::is_busy;
use super::file::{BUSY_TIMEOUT, connect};
use crate::{Error, Result};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

/// The busy timeout of the connection that writes: SQLite tries at once, after 1 ms and after
/// 3 ms. Then [`Writer::begin`] tries again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// The rest after a transaction is its duration divided by this.
const REST_PART: u32 = 3;

/// A shorter rest is added to the next one: a timer is not finer.
const SHORTEST_REST: Duration = Duration::from_millis(2);

/// An application tries at least this often.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// The one connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    state: Mutex<WriterState>,
}

#[derive(Debug)]
struct WriterState {
    connection: Option<SqliteConnection>,
    closed: bool,
    /// The rest that was still due at `released_at`.
    owed: Duration,
    released_at: Instant,
}

/// A transaction that may write.
///
/// If it is dropped without a commit, its connection is closed, which rolls it back. A call that
/// is cancelled therefore leaves no transaction open, and one that SQLite ended itself, because
/// the disk was full, leaves no doubt.
pub(super) struct Writing<'a> {
    connection: SqliteConnection,
    permit: WritePermit<'a>,
}

/// The right to write. When it is dropped, a rest becomes due.
struct WritePermit<'a> {
    state: MutexGuard<'a, WriterState>,
    began: Instant,
}

impl Writer {
    /// A writer with a first connection; others are opened with these options.
    pub(super) fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        Self {
            options,
            state: Mutex::new(WriterState {
                connection: Some(connection),
                closed: false,
                owed: Duration::ZERO,
                released_at: Instant::now(),
            }),
        }
    }

    /// Begins a transaction that may write. Callers are served in the order of their calls. Other
    /// writers are waited for here, never within the transaction.
    pub(super) async fn begin(&self) -> Result<Writing<'_>> {
        let mut state = self.state.lock().await;
        if state.closed {
            return Err(Error::Unavailable(sqlx::Error::PoolClosed));
        }
        let owed = state.owed.saturating_sub(state.released_at.elapsed());
        if owed >= SHORTEST_REST {
            sleep(owed).await;
            state.owed = Duration::ZERO;
        } else {
            state.owed = owed;
        }
        let mut connection = match state.connection.take() {
            Some(connection) => connection,
            None => connect(&self.options).await?,
        };
        let asked = Instant::now();
        while let Err(error) = sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut connection)
            .await
        {
            if !is_busy(&error) || asked.elapsed() >= BUSY_TIMEOUT {
                return Err(error.into());
            }
        }
        let began = Instant::now();
        Ok(Writing {
            connection,
            permit: WritePermit { state, began },
        })
    }

    /// Waits for the transaction in progress, then closes the connection for good.
    pub(super) async fn close(&self) {
        let mut state = self.state.lock().await;
        state.closed = true;
        if let Some(connection) = state.connection.take() {
            // No transaction is open; only the clean-up could fail here.
            let _ = connection.close().await;
        }
    }
}

impl Writing<'_> {
    /// Commits. The changes are on the disk when this returns.
    pub(super) async fn commit(mut self) -> Result<()> {
        sqlx::query("COMMIT").execute(&mut self.connection).await?;
        self.permit.state.connection = Some(self.connection);
        Ok(())
    }
}

impl Deref for Writing<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for WritePermit<'_> {
    fn drop(&mut self) {
        let rest = self.began.elapsed() / REST_PART;
        self.state.owed = (self.state.owed + rest).min(LONGEST_REST);
        self.state.released_at = Instant::now();
    }
}
