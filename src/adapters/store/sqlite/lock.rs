//! One Command Center a database: an advisory lock on a file beside it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{StoreError, StoreResult, open_error, with_suffix};

/// The file that is locked, beside the database.
pub fn lock_path(database: &Path) -> PathBuf {
    with_suffix(database, ".lock")
}

/// Held while the store is open; the operating system drops it when the process dies.
pub(super) struct StoreLock(File);

impl StoreLock {
    /// Takes the lock; or has it already, if `handed` is the file that a predecessor in this process locked. On
    /// Windows it is the parent that holds the lock, since there locks belong to a process, and its child believes it.
    pub(super) fn take(database: &Path, handed: Option<File>) -> StoreResult<StoreLock> {
        let path = lock_path(database);
        let open = || OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let handed = handed.filter(|file| is_at(file, &path));
        let is_parents = cfg!(windows) && handed.is_some();
        let file = handed.map_or_else(open, Ok).map_err(|e| open_error(&path, &e))?;
        // Locking what is locked by the same open file does nothing.
        match file.try_lock() {
            Ok(()) => Ok(StoreLock(file)),
            Err(TryLockError::WouldBlock) if is_parents => Ok(StoreLock(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: database.display().to_string() }),
            Err(TryLockError::Error(error)) => Err(open_error(&path, &error)),
        }
    }
}

/// Whether the open file is the one that lies at the path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().ok().zip(std::fs::metadata(path).ok()).is_some_and(|(a, b)| same(a, b))
}

#[cfg(windows)]
fn is_at(file: &File, path: &Path) -> bool {
    let open = file.try_clone().and_then(same_file::Handle::from_file);
    open.ok().zip(same_file::Handle::from_path(path).ok()).is_some_and(|(open, there)| open == there)
}

impl StoreLock {
    /// The locked file, for a successor: it stays locked.
    pub(super) fn keep(self) -> Option<File> {
        self.0.try_clone().ok().inspect(|_| std::mem::forget(self))
    }
}

impl StoreLock {
    /// A store has been opened here: from now on a database that is no longer one was damaged, and not somebody
    /// else's file.
    pub(super) fn mark(&self) {
        let is_marked = self.0.metadata().is_ok_and(|meta| meta.len() > 0);
        if !is_marked && let Err(error) = (&self.0).write_all(MARK) {
            tracing::warn!(component = "store", %error, "could not mark the lock");
        }
    }

    /// Whether a store has ever been opened here.
    pub(super) fn is_marked(database: &Path) -> bool {
        std::fs::metadata(lock_path(database)).is_ok_and(|meta| meta.len() > 0)
    }
}

/// What stands in the lock's file beside a store.
const MARK: &[u8] = b"Command Center has a store here.\n";

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Closing the file unlocks it anyway; saying so first lets a successor in a moment earlier.
        let _ = self.0.unlock();
    }
}
