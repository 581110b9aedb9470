//! One Command Center a database: an advisory lock on a file beside it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::{StoreError, StoreResult, open_error, with_suffix};

/// Held while the store is open; the operating system drops it when the process dies.
pub(super) struct StoreLock(File);

impl StoreLock {
    pub(super) fn take(database: &Path) -> StoreResult<StoreLock> {
        let path = with_suffix(database, ".lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| open_error(&path, &e))?;
        match file.try_lock() {
            Ok(()) => Ok(StoreLock(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: database.display().to_string() }),
            Err(TryLockError::Error(error)) => Err(open_error(&path, &error)),
        }
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Closing the file unlocks it anyway; saying so first lets a successor in a moment earlier.
        let _ = self.0.unlock();
    }
}
