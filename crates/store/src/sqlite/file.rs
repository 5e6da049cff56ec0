//! The database file: its path from a URL, and the options of connections to it.

use super::errors::is_busy;
use super::writer::LOOK_AGAIN;
use crate::error::words;
use crate::{Error, Result};
use sqlx::ConnectOptions;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteSynchronous,
};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Longest wait for a lock that another process holds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest number of reads at a time.
const READERS: u32 = 4;

/// The size to which the write-ahead log is cut back after a checkpoint, in bytes.
const JOURNAL_SIZE_LIMIT: &str = "67108864";

/// The path in `sqlite://relative.db`, `sqlite:///absolute/path.db` or `sqlite:path.db`. It has
/// no parameters and no escapes.
pub(super) fn path_of(url: &str) -> Result<PathBuf> {
    let rest = url.strip_prefix("sqlite:").unwrap_or(url);
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let refuse = |why: &str| {
        Err(Error::Database(format!(
            "{why}: write it as sqlite://postrider.db or sqlite:///absolute/path.db"
        )))
    };
    match path {
        "" => refuse("the database URL names no file"),
        path if path.contains(":memory:") || path.contains("mode=memory") => refuse(
            "a SQLite database in memory would be gone with the process, and its events with \
             it; Postrider needs a file",
        ),
        path if path.contains('?') => {
            refuse("the URL of a SQLite database takes no parameters (?…)")
        }
        path if path.contains('\0') => refuse("the path has a NUL character"),
        path => Ok(path.into()),
    }
}

/// Opens the file for writing, creates it if it is missing, and returns its path without links.
///
/// The first connection sets what is stored in the file: the write-ahead log, and for a new file
/// the way free pages are released.
pub(super) async fn open(path: &Path) -> Result<(PathBuf, SqliteConnection)> {
    check(path)?;
    create(path)?;
    let options = writer_options(path)
        .create_if_missing(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal);
    let connection = connect(&options)
        .await
        .map_err(|error| refined(path, error))?;
    let path = path
        .canonicalize()
        .map_err(|error| Error::Database(format!("{} cannot be used: {error}", path.display())))?;
    Ok((path, connection))
}

/// Creates the file, if it is missing, for its owner only: payloads are other people's data. SQLite
/// gives the files -wal and -shm the mode of this one.
fn create(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        // Where that fails for another reason, SQLite says which.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Connects, waiting for other connections as long as for any lock. SQLite itself does not wait
/// for a change of the journal mode, nor for the last connection to close the file.
pub(super) async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection> {
    let asked = Instant::now();
    loop {
        match options.connect().await {
            Err(error) if is_busy(&error) && asked.elapsed() < BUSY_TIMEOUT => {
                sleep(LOOK_AGAIN).await;
            }
            done => return done.map_err(Into::into),
        }
    }
}

/// Options of every connection to the file.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("temp_store", "MEMORY")
        .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
        .pragma("mmap_size", "0")
        .disable_statement_logging()
}

/// Options of the connection that writes.
pub(super) fn writer_options(path: &Path) -> SqliteConnectOptions {
    options(path).busy_timeout(LOOK_AGAIN)
}

/// A pool of connections that cannot write.
pub(super) fn readers(path: &Path) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .min_connections(0)
        .acquire_timeout(BUSY_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(options(path).pragma("query_only", "ON"))
}

/// Finds out what is wrong with the path, where SQLite would say "unable to open" only.
fn check(path: &Path) -> Result<()> {
    let shown = path.display();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(Error::Database(format!(
            "the database {shown} cannot be made because there is no folder {}: make the \
             folder or name another path",
            folder.display()
        )));
    }
    if path.is_dir() {
        return Err(Error::Database(format!(
            "{shown} is a folder, not a SQLite database: name a file in it, such as \
             sqlite://{}",
            path.join("postrider.db").display()
        )));
    }
    match OpenOptions::new().append(true).open(path) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Err(denied(format!(
                "{shown} cannot be written by this user ({error}): make the file and its \
                 folder writable, or name another path"
            )))
        }
        _ => Ok(()),
    }
}

/// Adds the path to an error, and what to do if access was denied.
fn refined(path: &Path, error: Error) -> Error {
    let shown = path.display();
    match error {
        Error::Denied(error) => denied(format!(
            "{shown} cannot be opened for writing ({}): make its folder writable by this user, \
             because SQLite keeps the files -wal and -shm beside it, or name another path",
            words(&error)
        )),
        Error::Database(what) => Error::Database(format!("{shown}: {what}")),
        other => other,
    }
}

fn denied(text: String) -> Error {
    Error::Denied(sqlx::Error::Io(io::Error::new(
        ErrorKind::PermissionDenied,
        text,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_paths() {
        for (url, path) in [
            ("sqlite://postrider.db", "postrider.db"),
            ("sqlite://data/postrider.db", "data/postrider.db"),
            ("sqlite:///var/lib/a b.db", "/var/lib/a b.db"),
            ("sqlite:postrider.db", "postrider.db"),
            ("sqlite:/var/lib/p.db", "/var/lib/p.db"),
        ] {
            assert_eq!(path_of(url).unwrap(), Path::new(path), "{url}");
        }
    }

    #[test]
    fn urls_without_a_file_are_refused_with_the_reason() {
        for (url, why) in [
            ("sqlite::memory:", "in memory"),
            ("sqlite://:memory:", "in memory"),
            ("sqlite://x?mode=memory", "in memory"),
            ("sqlite:///x.db?mode=rwc", "no parameters"),
            ("sqlite://", "names no file"),
            ("sqlite:", "names no file"),
        ] {
            let error = path_of(url).unwrap_err().to_string();
            assert!(error.contains(why), "{url}: {error}");
        }
    }
}
