//! One worker process per file: an advisory lock on a file of its own beside the database.
//!
//! The operating system gives the lock back when the process ends, however it ends. The lock
//! file stays; it is empty and means nothing by itself.

use super::SqliteStore;
use crate::{Error, Result, WorkerClaim};
use std::fs::{File, TryLockError};
use std::io;

impl SqliteStore {
    /// Takes the lock, or says that another process has it.
    pub(super) fn lock_worker(&self) -> Result<WorkerClaim> {
        let mut path = self.path.clone().into_os_string();
        path.push(".worker.lock");
        let failed = |error: io::Error| {
            let text = format!("{} cannot be locked: {error}", path.display());
            Error::Denied(sqlx::Error::Io(io::Error::new(error.kind(), text)))
        };
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(WorkerClaim::locked(file)),
            Err(TryLockError::WouldBlock) => Err(Error::Conflict(format!(
                "another worker process already works on {} (it holds {}): stop that one first, \
                 or move to PostgreSQL, which takes any number of workers",
                self.path.display(),
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}
