//! One worker process per file: an advisory lock on a file of its own beside the database.
//!
//! The operating system releases the lock when the process ends, however it ends. The lock file
//! stays: it is empty, and means nothing unless it is locked.

use crate::{Error, Result, WorkerClaim};
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Takes the lock beside the database file at `path`. It is a conflict if another process has
/// it.
pub(super) fn claim_worker(path: &Path) -> Result<WorkerClaim> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".worker.lock");
    let failed = |error: io::Error| {
        let text = format!("{} cannot be locked: {error}", lock.display());
        Error::Denied(sqlx::Error::Io(io::Error::new(error.kind(), text)))
    };
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    if let Ok(database) = std::fs::metadata(path) {
        // Whoever may use the database may lock it, and nobody else.
        let mode = std::os::unix::fs::MetadataExt::mode(&database) & 0o777;
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    }
    let file = options.open(&lock).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(WorkerClaim::locked(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Conflict(format!(
            "another worker process already works on {} (it holds {}): stop that one first, \
             or move to PostgreSQL, which takes any number of workers",
            path.display(),
            lock.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
