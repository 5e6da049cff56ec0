//! The one connection that writes, and the turns it takes with the applications.
//!
//! SQLite lets one connection write at a time, and others wait by asking again: after 1, 2, 5,
//! 10, 15, 20, 25, 25, 25, 50 and 50 ms, then every 100 ms until their own busy timeout. There
//! is no queue, so a writer that begins again at once could keep them waiting for ever.
//! Therefore a transaction that held the file for some time leaves it alone for a third of
//! that before the next one begins: an application that asks finds it free one time in four
//! even when we never run out of work, and idle time in between counts as leaving it alone.
//! With the usual 5 s of patience that is sixty chances; to miss them all is one case in thirty
//! million.
//!
//! The other way round, an application that commits in a tight loop leaves gaps of less than a
//! millisecond, which SQLite's own waiting would miss for seconds. Therefore we ask every
//! millisecond or two.

use super::errors::is_busy;
use super::file::{BUSY_TIMEOUT, connect};
use crate::{Error, Result};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

/// SQLite's own waiting on the connection that writes: it looks at once, after 1 ms and after
/// 3 ms. Then we ask again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// The file is left alone for this part of the time that a transaction held it.
const REST_PART: u32 = 3;

/// Less than this is saved up: a timer is not finer.
const SHORTEST_REST: Duration = Duration::from_millis(2);

/// No application waits longer than this between two looks.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// The one connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    place: Mutex<Place>,
}

#[derive(Debug)]
struct Place {
    connection: Option<SqliteConnection>,
    closed: bool,
    /// For how long the file is still to be left alone, as of `released_at`.
    owed: Duration,
    released_at: Instant,
}

/// A transaction that may write. Dropped without a commit, it is rolled back by closing its
/// connection, wherever it stopped; so a call that is given up leaves nothing open, and a
/// transaction that SQLite ended by itself, because the disk was full, nothing in doubt.
pub(super) struct Writing<'a> {
    connection: SqliteConnection,
    turn: Turn<'a>,
}

/// The right to write. When it is dropped, the time it took is owed to the applications.
struct Turn<'a> {
    place: MutexGuard<'a, Place>,
    began: Instant,
}

impl Writer {
    /// A writer that has its first connection already, and makes others with these options.
    pub(super) fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        Self {
            options,
            place: Mutex::new(Place {
                connection: Some(connection),
                closed: false,
                owed: Duration::ZERO,
                released_at: Instant::now(),
            }),
        }
    }

    /// Begins a transaction that may write. Callers are served in the order in which they ask.
    /// The applications' commits are waited for now, never in the middle.
    pub(super) async fn begin(&self) -> Result<Writing<'_>> {
        let mut place = self.place.lock().await;
        if place.closed {
            return Err(Error::Unavailable(sqlx::Error::PoolClosed));
        }
        let owed = place.owed.saturating_sub(place.released_at.elapsed());
        if owed >= SHORTEST_REST {
            sleep(owed).await;
            place.owed = Duration::ZERO;
        } else {
            place.owed = owed;
        }
        let mut connection = match place.connection.take() {
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
            turn: Turn { place, began },
        })
    }

    /// Waits for the transaction in progress, then closes for good.
    pub(super) async fn close(&self) {
        let mut place = self.place.lock().await;
        place.closed = true;
        if let Some(connection) = place.connection.take() {
            // Nothing is open in it; what could fail here is tidying up.
            let _ = connection.close().await;
        }
    }
}

impl Writing<'_> {
    /// Makes the changes last: they are on the disk when this returns.
    pub(super) async fn commit(mut self) -> Result<()> {
        sqlx::query("COMMIT").execute(&mut self.connection).await?;
        self.turn.place.connection = Some(self.connection);
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

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let rest = self.began.elapsed() / REST_PART;
        self.place.owed = (self.place.owed + rest).min(LONGEST_REST);
        self.place.released_at = Instant::now();
    }
}
