//! The desired directory: list it, read it, watch it, and exchange one file for another safely.
//! Decides nothing: it says what is there, what could not be seen, and what a swap displaced.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use crate::core::model::{Digest, ScheduleId};

mod place;

mod list;
mod windows;

mod read;

mod staging;
mod swap;

mod lease;
mod rename;
mod sweep;
mod temp;

mod watch;

mod git;

mod files;

pub use files::Files;
pub use git::{Commit, Committed, Displaced, GitError, Merged, Origins, PushOutcome, Repo, Upstream, WriteBack};
pub use list::{Listed, Listing, Misplaced, MisplacedReason, Root};
pub use read::{MAX_FILE_BYTES, ReadResult};
pub use swap::Swap;
pub use sweep::Swept;
pub use watch::{Hint, WatchGuard, WatchMode, watch};

/// The folder below the root that holds the schedules.
const SCHEDULES: &str = "schedules";

/// What stat says of a file; equal stats whose `changed_ns` is old enough mean equal content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileStat {
    /// Bytes, saturating at 4 GiB.
    pub size: u32,
    /// Modification time, nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Change time in the same unit: it moves even when a copy puts the modification time back.
    /// 0 where the platform has none.
    pub ctime_ns: i64,
    /// 0 where the platform has none.
    pub inode: u64,
}

impl FileStat {
    /// When the file was last touched in any way, nanoseconds since the Unix epoch. A file touched
    /// within the last clock tick can change again without its stat moving.
    pub fn changed_ns(&self) -> i64 {
        self.mtime_ns.max(self.ctime_ns)
    }

    #[cfg(unix)]
    fn of(meta: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let ns = |sec: i64, nsec: i64| sec.saturating_mul(1_000_000_000).saturating_add(nsec);
        FileStat {
            size: u32::try_from(meta.len()).unwrap_or(u32::MAX),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        }
    }

    #[cfg(not(unix))]
    fn of(meta: &Metadata) -> Self {
        let age = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        FileStat {
            size: u32::try_from(meta.len()).unwrap_or(u32::MAX),
            mtime_ns: age.and_then(|d| i64::try_from(d.as_nanos()).ok()).unwrap_or_default(),
            ctime_ns: 0,
            inode: 0,
        }
    }
}

/// What went wrong with the desired directory; every variant names the place.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("the desired directory {path} is missing; create it or point COMMAND_CENTER_DESIRED_DIR elsewhere", path = .path.display())]
    RootMissing { path: PathBuf },
    #[error("could not look at {path}: {source}", path = .path.display())]
    Stat { path: PathBuf, source: io::Error },
    #[error("could not read {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("could not write {path}: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("could not put the new {path} in place: {source}", path = .path.display())]
    Exchange { path: PathBuf, source: io::Error },
    #[error("could not watch {path}: {message}", path = .path.display())]
    Watch { path: PathBuf, message: String },
    #[error("{path} has more than {limit} bytes, which no schedule needs; is it the right file?", path = .path.display())]
    TooLarge { path: PathBuf, limit: usize },
    #[error("{path} is a link that leads out of the desired directory; replace it by a regular file", path = .path.display())]
    Escapes { path: PathBuf },
    #[error("{path} is not a regular file; a schedule is one", path = .path.display())]
    NotRegular { path: PathBuf },
    #[error("{path} changes faster than it can be handled; try again when its writer has finished", path = .path.display())]
    Restless { path: PathBuf },
    #[error("no permission for {path}: {source}; give the server's user access to the file and its directory", path = .path.display())]
    Denied { path: PathBuf, source: io::Error },
    #[error("{path} is on a read-only file system; change it where it comes from, or mount it writable", path = .path.display())]
    ReadOnly { path: PathBuf },
    #[error("no space left to write {path}; free some, then try again", path = .path.display())]
    NoSpace { path: PathBuf },
}

impl SourceError {
    /// Sorts an I/O error into the kinds an operator can act on; what is left is `other`'s.
    fn of(path: &Path, error: io::Error, other: fn(PathBuf, io::Error) -> SourceError) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied => SourceError::Denied { path, source: error },
            io::ErrorKind::ReadOnlyFilesystem => SourceError::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SourceError::NoSpace { path },
            _ => other(path, error),
        }
    }

    fn stat(path: &Path, error: io::Error) -> Self {
        Self::of(path, error, |path, source| SourceError::Stat { path, source })
    }

    fn read(path: &Path, error: io::Error) -> Self {
        Self::of(path, error, |path, source| SourceError::Read { path, source })
    }

    fn write(path: &Path, error: io::Error) -> Self {
        Self::of(path, error, |path, source| SourceError::Write { path, source })
    }

    fn exchange(path: &Path, error: io::Error) -> Self {
        Self::of(path, error, |path, source| SourceError::Exchange { path, source })
    }
}

/// The desired directory. Every call looks afresh, so a root that is removed, replaced or mounted
/// over while the program runs is seen as it is. Calls block; share it freely between threads.
#[derive(Debug)]
pub struct Source {
    root: PathBuf,
    /// Makes the names of temporary files differ within this process.
    serial: AtomicU64,
    spares: staging::Spares,
    /// Where the work tree's git directory was last found.
    git_dir: Mutex<git::GitDir>,
}

impl Source {
    /// Takes `root` as it is; nothing is opened yet, and it need not exist.
    pub fn new(root: PathBuf) -> Self {
        Source { root, serial: AtomicU64::new(0), spares: staging::Spares::default(), git_dir: Mutex::default() }
    }

    /// The desired directory, as it was given.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every schedule's file with its stat, and whatever else lies between them. Blocks.
    pub fn list(&self) -> Listing {
        let mut files = Vec::new();
        let mut listing = self.visit(&mut |connector, tenant, stat| {
            // `visit` only calls with names that are tenants'.
            if let Ok(tenant) = tenant.parse() {
                files.push(Listed { id: ScheduleId::new(connector, tenant), stat });
            }
        });
        listing.files = files;
        listing
    }

    /// Exchanges a schedule's content: `base` is the digest of what is there now (`None`: there
    /// must be no file), `new` what shall be there (`None`: delete it). Content with another digest
    /// is left, or put back, untouched. Does not sync; see `sync`.
    pub fn swap(&self, id: &ScheduleId, base: Option<&Digest>, new: Option<&[u8]>) -> Result<Swap, SourceError> {
        swap::swap(self, id, base, None, new)
    }

    /// As `swap`, for a caller who has just read the file under the stat `seen`: while that stat
    /// stands, the file is not read once more before the exchange. What is displaced is checked all
    /// the same.
    pub fn swap_seen(
        &self,
        id: &ScheduleId,
        base: Option<&Digest>,
        seen: Option<&FileStat>,
        new: Option<&[u8]>,
    ) -> Result<Swap, SourceError> {
        swap::swap(self, id, base, seen, new)
    }
}

#[cfg(test)]
mod tests;
