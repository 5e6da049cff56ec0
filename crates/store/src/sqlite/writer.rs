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

use super::errors::from_sqlx;
use crate::{Error, Result};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

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
    /// The connection failed to begin; it is opened anew.
    doubtful: bool,
    closed: bool,
    /// For how long the file is still to be left alone, as of `released_at`.
    owed: Duration,
    released_at: Instant,
}

/// The right to write, until it is dropped. Turns are given in the order they are asked for.
pub(super) struct Turn<'a> {
    place: MutexGuard<'a, Place>,
    options: &'a SqliteConnectOptions,
    began: Option<Instant>,
}

impl Writer {
    /// A writer that has its first connection already.
    pub(super) fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        Self {
            options,
            place: Mutex::new(Place {
                connection: Some(connection),
                doubtful: false,
                closed: false,
                owed: Duration::ZERO,
                released_at: Instant::now(),
            }),
        }
    }

    /// Waits until it is this caller's turn and the applications had theirs.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let mut place = self.place.lock().await;
        place.owed = place.owed.saturating_sub(place.released_at.elapsed());
        if place.owed >= SHORTEST_REST {
            sleep(place.owed).await;
            place.owed = Duration::ZERO;
        }
        Turn {
            place,
            options: &self.options,
            began: None,
        }
    }

    /// Waits for the turn in progress, then closes for good.
    pub(super) async fn close(&self) {
        let mut place = self.place.lock().await;
        place.closed = true;
        if let Some(connection) = place.connection.take() {
            // Nothing is open in it; what could fail here is tidying up.
            let _ = connection.close().await;
        }
    }
}

impl Turn<'_> {
    /// Begins a transaction that may write: waits for the applications' commits first, never
    /// in the middle.
    ///
    /// A transaction that was dropped, and one that SQLite ended by itself because the disk
    /// was full, leave the connection in doubt; it is then opened anew.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_, Sqlite>> {
        if self.place.closed {
            return Err(Error::Unavailable(sqlx::Error::PoolClosed));
        }
        let Place {
            connection,
            doubtful,
            ..
        } = &mut *self.place;
        let usable = connection
            .take()
            .filter(|connection| !*doubtful && !connection.is_in_transaction());
        let connection = connection.insert(match usable {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(from_sqlx)?,
        });
        let begun = connection.begin_with("BEGIN IMMEDIATE").await;
        *doubtful = begun.is_err();
        self.began = Some(Instant::now());
        begun.map_err(from_sqlx)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(began) = self.began {
            let rest = began.elapsed() / REST_PART;
            self.place.owed = (self.place.owed + rest).min(LONGEST_REST);
        }
        self.place.released_at = Instant::now();
    }
}
